use crate::raster::{Raster, Samples};

/// The image with its rows for columns and its columns for rows.
pub(super) fn transposed(raster: Raster) -> Raster {
    let Raster {
        width,
        height,
        channels,
        samples,
    } = raster;
    let samples = match samples {
        Samples::U8(bytes) => Samples::U8(exchange(&bytes, width, channels)),
        Samples::Unit(units) => Samples::Unit(exchange(&units, width, channels)),
    };
    Raster::new(height, width, channels, samples)
}

/// `[height, width, channels]` to `[width, height, channels]`.
fn exchange<S: Copy>(samples: &[S], width: usize, channels: usize) -> Vec<S> {
    (0..width)
        .flat_map(|column| samples.chunks_exact(channels).skip(column).step_by(width))
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_columns() {
        // 3 wide, 2 high, 2 channels
        let bytes = vec![0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121];
        let image = Raster::new(3, 2, 2, Samples::U8(bytes));
        let turned = transposed(image.clone());
        let want = vec![0, 1, 100, 101, 10, 11, 110, 111, 20, 21, 120, 121];
        assert_eq!(turned, Raster::new(2, 3, 2, Samples::U8(want)));
        assert_eq!(transposed(turned), image);
    }
}
