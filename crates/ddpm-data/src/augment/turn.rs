//! Mirroring and turning: pixels change their places and nothing else.

/// Mirrors each plane of `[height, width]` top to bottom.
pub(super) fn mirror_columns(pixels: &mut [f32], height: usize, width: usize) {
    for plane in pixels.chunks_exact_mut(height * width) {
        let (upper, lower) = plane.split_at_mut(height / 2 * width);
        let lower = lower.rchunks_exact_mut(width);
        for (a, b) in upper.chunks_exact_mut(width).zip(lower) {
            a.swap_with_slice(b);
        }
    }
}

/// Turns each plane of `[side, side]` by so many quarters of a turn, counter-clockwise.
pub(super) fn turn(pixels: &mut [f32], side: usize, quarters: u32) {
    for plane in pixels.chunks_exact_mut(side * side) {
        let from = plane.to_vec();
        for (place, out) in plane.iter_mut().enumerate() {
            let (row, column) = (place / side, place % side);
            let last = side - 1;
            let (row, column) = match quarters % 4 {
                0 => (row, column),
                1 => (column, last - row),
                2 => (last - row, last - column),
                _ => (last - column, row),
            };
            *out = from[row * side + column];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_exchanged_and_a_middle_one_stays() {
        let mut pixels = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        mirror_columns(&mut pixels, 3, 2);
        assert_eq!(pixels, [5.0, 6.0, 3.0, 4.0, 1.0, 2.0]);
        // two planes of two rows
        let mut pixels = [1.0, 2.0, 3.0, 4.0];
        mirror_columns(&mut pixels, 2, 1);
        assert_eq!(pixels, [2.0, 1.0, 4.0, 3.0]);
    }

    #[test]
    fn the_right_edge_goes_up_and_four_quarters_are_none() {
        let image = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        for (quarters, turned) in [
            (0, image),
            (1, [3.0, 6.0, 9.0, 2.0, 5.0, 8.0, 1.0, 4.0, 7.0]),
            (2, [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0]),
            (3, [7.0, 4.0, 1.0, 8.0, 5.0, 2.0, 9.0, 6.0, 3.0]),
            (4, image),
        ] {
            let mut pixels = [image, image].concat();
            turn(&mut pixels, 3, quarters);
            assert_eq!(pixels, [turned, turned].concat(), "{quarters}");
        }
    }
}
