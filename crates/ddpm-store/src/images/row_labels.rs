//! Words beside the rows of a grid.

use plotters::prelude::*;

use super::grid::Grid;
use crate::error::{Result, StoreError};
use crate::plot::{FONT, font_is_registered};

/// Pixels of the letters' height.
const SIZE: u32 = 18;
/// Pixels left and right of a word.
const MARGIN: usize = 8;
/// Longer words are cut.
const MAX_LETTERS: usize = 24;
const BACKGROUND: u8 = 255;

impl Grid {
    /// The same with a word to the left of each of its rows, which are of one height.
    ///
    /// # Errors   [`StoreError::Image`] if the font does not load, or the picture would be too large
    pub fn with_row_labels(self, labels: &[String]) -> Result<Self> {
        let refuse = |problem: &str| StoreError::Image {
            problem: problem.to_owned(),
        };
        if labels.is_empty() || labels.iter().all(String::is_empty) {
            return Ok(self);
        }
        if !font_is_registered() {
            return Err(refuse("words, for the embedded font does not load"));
        }
        let labels: Vec<String> = labels.iter().map(|label| shortened(label)).collect();
        let font = || (FONT, SIZE).into_font();
        let widths = labels.iter().map(|label| match font().box_size(label) {
            Ok((width, _)) => width as usize,
            Err(_) => label.len() * SIZE as usize,
        });
        let margin = widths.max().unwrap_or(0) + 2 * MARGIN;
        let width = self.width + margin;
        let size = width
            .checked_mul(self.height)
            .filter(|&size| size <= 1 << 28);
        let size = size
            .ok_or_else(|| refuse("a grid of more than 2^28 pixels; draw fewer images at once"))?;
        let mut words = vec![BACKGROUND; margin * self.height * 3];
        let sides = (margin as u32, self.height as u32);
        {
            let area = BitMapBackend::with_buffer(&mut words, sides).into_drawing_area();
            let row = self.height as f64 / labels.len() as f64;
            for (i, label) in labels.iter().enumerate() {
                let middle = (row * (i as f64 + 0.5)) as i32 - SIZE as i32 / 2;
                let word = Text::new(label.as_str(), (MARGIN as i32, middle), font());
                area.draw(&word)
                    .map_err(|error| refuse(&error.to_string()))?;
            }
            area.present().map_err(|error| refuse(&error.to_string()))?;
        }
        let colours = self.channels;
        let mut pixels = Vec::with_capacity(size * colours);
        let rows = words.chunks(margin * 3);
        for (words, images) in rows.zip(self.pixels.chunks(self.width * colours)) {
            // The words are grey: their colours are alike.
            pixels.extend(words.chunks(3).flat_map(|pixel| &pixel[..colours]));
            pixels.extend(images);
        }
        Ok(Self {
            width,
            pixels,
            ..self
        })
    }
}

fn shortened(label: &str) -> String {
    match label.chars().count() > MAX_LETTERS {
        true => label.chars().take(MAX_LETTERS - 1).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_of_their_rows_and_leave_the_images_as_they_are() {
        for channels in [1, 3] {
            let grid = Grid {
                width: 10,
                height: 80,
                channels,
                pixels: (0..800 * channels).map(|i| (i % 251) as u8).collect(),
            };
            let labels = ["cat".to_owned(), "a dog".to_owned()];
            let labelled = grid.clone().with_row_labels(&labels).unwrap();
            let margin = labelled.width - 10;
            assert!(margin > 2 * MARGIN && labelled.height == 80);
            assert_eq!(labelled.pixels.len(), labelled.width * 80 * channels);
            let rows = labelled.pixels.chunks(labelled.width * channels);
            let mut ink = [0, 0];
            for (y, row) in rows.enumerate() {
                let (words, images) = row.split_at(margin * channels);
                assert_eq!(images, &grid.pixels[y * 10 * channels..][..10 * channels]);
                ink[y / 40] += words.iter().filter(|&&byte| byte < 128).count();
            }
            assert!(ink.iter().all(|&ink| ink > 10), "{ink:?}");
        }
    }

    #[test]
    fn without_words_nothing_changes_and_long_ones_are_cut() {
        let grid = Grid {
            width: 2,
            height: 2,
            channels: 1,
            pixels: vec![0; 4],
        };
        assert_eq!(grid.clone().with_row_labels(&[]).unwrap(), grid);
        assert_eq!(shortened(&"x".repeat(30)).chars().count(), MAX_LETTERS);
    }
}
