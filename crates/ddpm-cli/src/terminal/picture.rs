//! Images as text: one character holds two pixels, one above the other.

use std::fmt::Write;

/// The colours of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// 24-bit colours.
    True,
    /// The 256 colours of xterm: a cube of 6×6×6 and 24 greys.
    Xterm256,
}

impl Colours {
    /// What a terminal shows, by the variables `TERM` and `COLORTERM`; `None` where it shows none.
    pub fn of(terminal: bool, term: Option<&str>, colorterm: Option<&str>) -> Option<Self> {
        if !terminal || term == Some("dumb") {
            return None;
        }
        match colorterm {
            Some("truecolor" | "24bit") => Some(Self::True),
            _ => Some(Self::Xterm256),
        }
    }
}

/// An 8-bit image, rows from the top, channels last.
#[derive(Clone, Copy, Debug)]
pub struct Picture<'a> {
    pixels: &'a [u8],
    width: usize,
    height: usize,
    channels: usize,
}

type Rgb = [u8; 3];

/// What shows through transparent pixels.
const BACKGROUND: u8 = 255;

impl<'a> Picture<'a> {
    /// The image over `pixels`: grey, grey and alpha, RGB or RGBA by its 1 to 4 channels.
    ///
    /// `None` if the number of bytes is not `width · height · channels`, or is 0.
    pub fn new(pixels: &'a [u8], width: usize, height: usize, channels: usize) -> Option<Self> {
        let bytes = width.checked_mul(height)?.checked_mul(channels)?;
        let whole = bytes > 0 && bytes == pixels.len() && (1..=4).contains(&channels);
        whole.then_some(Self {
            pixels,
            width,
            height,
            channels,
        })
    }

    /// The image as lines of `▀`, at most `columns` characters wide; wider images are shrunk by a
    /// whole factor, each block of pixels to its mean. Empty without colours.
    pub fn draw(&self, colours: Option<Colours>, columns: usize) -> String {
        let Some(colours) = colours else {
            return String::new();
        };
        let factor = self.width.div_ceil(columns.max(1));
        let (width, height) = (self.width.div_ceil(factor), self.height.div_ceil(factor));
        let mut text = String::new();
        for top in (0..height).step_by(2) {
            let mut last = None;
            for x in 0..width {
                let upper = self.mean(x, top, factor);
                let lower = (top + 1 < height).then(|| self.mean(x, top + 1, factor));
                // A colour holds until the next one: say it only where it changes.
                if last != Some((upper, lower)) {
                    paint(&mut text, colours, upper, lower);
                    last = Some((upper, lower));
                }
                text.push('▀');
            }
            text.push_str("\x1b[0m\n");
        }
        text
    }

    /// The mean colour of the block of `factor`² pixels at column `x` and row `y` of blocks, which
    /// the image's right and lower edges may cut.
    fn mean(&self, x: usize, y: usize, factor: usize) -> Rgb {
        let columns = x * factor..((x + 1) * factor).min(self.width);
        let rows = y * factor..((y + 1) * factor).min(self.height);
        let count = columns.len() * rows.len();
        let mut sum = [0_usize; 3];
        for row in rows {
            for column in columns.clone() {
                for (sum, value) in sum.iter_mut().zip(self.pixel(column, row)) {
                    *sum += usize::from(value);
                }
            }
        }
        sum.map(|sum| u8::try_from((sum + count / 2) / count.max(1)).unwrap_or(u8::MAX))
    }

    fn pixel(&self, x: usize, y: usize) -> Rgb {
        let start = (y * self.width + x) * self.channels;
        match self.pixels[start..start + self.channels] {
            [grey] => [grey; 3],
            [grey, alpha] => [over(grey, alpha); 3],
            [r, g, b] => [r, g, b],
            [r, g, b, alpha] => [r, g, b].map(|value| over(value, alpha)),
            // `new` lets nothing else through.
            _ => [BACKGROUND; 3],
        }
    }
}

/// A value laid over the background.
fn over(value: u8, alpha: u8) -> u8 {
    let [value, alpha, background] = [value, alpha, BACKGROUND].map(u32::from);
    let mixed = (value * alpha + background * (255 - alpha) + 127) / 255;
    u8::try_from(mixed).unwrap_or(u8::MAX)
}

/// Sets the colours of the following half blocks: the upper pixel is drawn in the foreground, the
/// lower one is the background; below an odd last row the terminal's own shows.
fn paint(text: &mut String, colours: Colours, upper: Rgb, lower: Option<Rgb>) {
    // Writing to a string does not fail.
    let _ = match colours {
        Colours::True => {
            let [r, g, b] = upper;
            write!(text, "\x1b[38;2;{r};{g};{b}")
        }
        Colours::Xterm256 => write!(text, "\x1b[38;5;{}", xterm(upper)),
    };
    let _ = match (colours, lower) {
        (_, None) => write!(text, ";49m"),
        (Colours::True, Some([r, g, b])) => write!(text, ";48;2;{r};{g};{b}m"),
        (Colours::Xterm256, Some(lower)) => write!(text, ";48;5;{}m", xterm(lower)),
    };
}

/// The nearest of xterm's 256 colours, less the first 16, which users redefine.
fn xterm(rgb: Rgb) -> u8 {
    const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
    let nearest = |value: u8| {
        (0_u8..6)
            .zip(LEVELS)
            .min_by_key(|(_, level)| level.abs_diff(value))
            .unwrap_or((0, 0))
    };
    let [(r, cube_r), (g, cube_g), (b, cube_b)] = rgb.map(nearest);
    let mean = rgb.iter().map(|&value| u16::from(value)).sum::<u16>() / 3;
    // Greys 232 to 255 are 8, 18, … 238.
    let step = u8::try_from(mean.saturating_sub(3) / 10).map_or(23, |step| step.min(23));
    let grey = 8 + 10 * step;
    if distance(rgb, [grey; 3]) < distance(rgb, [cube_r, cube_g, cube_b]) {
        232 + step
    } else {
        16 + 36 * r + 6 * g + b
    }
}

fn distance(a: Rgb, b: Rgb) -> u32 {
    a.iter()
        .zip(b)
        .map(|(&a, b)| u32::from(a.abs_diff(b)).pow(2))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_says_what_colours_it_has() {
        let cases = [
            (false, Some("xterm"), Some("truecolor"), None),
            (true, Some("dumb"), Some("truecolor"), None),
            (true, Some("xterm"), Some("truecolor"), Some(Colours::True)),
            (true, Some("xterm"), Some("24bit"), Some(Colours::True)),
            (true, Some("xterm-256color"), None, Some(Colours::Xterm256)),
            (true, None, Some(""), Some(Colours::Xterm256)),
        ];
        for (terminal, term, colorterm, colours) in cases {
            assert_eq!(Colours::of(terminal, term, colorterm), colours);
        }
    }

    #[test]
    fn two_rows_share_a_line() {
        let pixels = [255, 0, 0, 0, 0, 255, 0, 255, 0, 0, 0, 0];
        let picture = Picture::new(&pixels, 2, 2, 3).unwrap();
        assert_eq!(
            picture.draw(Some(Colours::True), 80),
            "\x1b[38;2;255;0;0;48;2;0;255;0m▀\x1b[38;2;0;0;255;48;2;0;0;0m▀\x1b[0m\n"
        );
        assert_eq!(
            picture.draw(Some(Colours::Xterm256), 80),
            "\x1b[38;5;196;48;5;46m▀\x1b[38;5;21;48;5;16m▀\x1b[0m\n"
        );
        assert_eq!(picture.draw(None, 80), "");
    }

    #[test]
    fn an_odd_last_row_leaves_the_background() {
        let picture = Picture::new(&[7], 1, 1, 1).unwrap();
        assert_eq!(
            picture.draw(Some(Colours::True), 80),
            "\x1b[38;2;7;7;7;49m▀\x1b[0m\n"
        );
    }

    #[test]
    fn wide_images_shrink_by_a_whole_factor_to_means() {
        // Five columns into at most two: blocks of 3, the last one cut to 2.
        let row = [0, 3, 6, 100, 200];
        let pixels = [row, row, row].concat();
        let picture = Picture::new(&pixels, 5, 3, 1).unwrap();
        assert_eq!(
            picture.draw(Some(Colours::True), 2),
            "\x1b[38;2;3;3;3;49m▀\x1b[38;2;150;150;150;49m▀\x1b[0m\n"
        );
        for columns in [0, 1, 2, 3, 4, 5, 80] {
            let text = picture.draw(Some(Colours::Xterm256), columns);
            for line in text.lines() {
                assert!(line.matches('▀').count() <= columns.max(1));
            }
        }
    }

    #[test]
    fn transparency_shows_white() {
        let cases: [(&[u8], [u8; 3]); 4] = [
            (&[10, 0], [255; 3]),
            (&[10, 255], [10; 3]),
            (&[10, 20, 30, 255], [10, 20, 30]),
            (&[0, 0, 0, 51], [204; 3]),
        ];
        for (pixel, rgb) in cases {
            let picture = Picture::new(pixel, 1, 1, pixel.len()).unwrap();
            assert_eq!(picture.pixel(0, 0), rgb, "{pixel:?}");
        }
    }

    #[test]
    fn sizes_that_disagree_are_no_picture() {
        let cases = [
            (2, 2, 2),
            (0, 4, 1),
            (1, 1, 0),
            (1, 1, 5),
            (usize::MAX, 2, 1),
        ];
        for (width, height, channels) in cases {
            assert!(Picture::new(&[0; 5], width, height, channels).is_none());
        }
    }

    #[test]
    fn the_nearest_of_256_colours() {
        let cases = [
            ([0, 0, 0], 16),
            ([255, 255, 255], 231),
            ([128, 128, 128], 244),
            ([8, 8, 8], 232),
            ([238, 238, 238], 255),
            ([95, 135, 175], 67),
        ];
        for (rgb, colour) in cases {
            assert_eq!(xterm(rgb), colour, "{rgb:?}");
        }
    }
}
