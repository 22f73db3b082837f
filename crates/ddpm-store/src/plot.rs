//! Line plots as PNG: noise schedules, loss curves.
//!
//! The font is compiled in, so that a plot looks the same on every machine. Everything is drawn at twice
//! the size and averaged down, for plotters draws lines without smoothing.

use std::path::Path;
use std::sync::OnceLock;

use plotters::prelude::*;
use plotters::style::register_font;

use crate::error::{Result, StoreError};
use crate::images::write_png;

mod ticks;

use self::ticks::Axis;

/// One pair of axes.
#[derive(Debug, Clone, PartialEq)]
pub struct Panel {
    /// Stands above it.
    pub title: String,
    /// Stands below the horizontal axis; may be empty.
    pub x_label: String,
    /// Whether the vertical axis is logarithmic; values that are not positive are then left out.
    pub y_log: bool,
    /// Lines with their names; with more than one there is a legend.
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

const PANEL_WIDTH: u32 = 480;
const PANEL_HEIGHT: u32 = 380;
const COLUMNS: usize = 3;
const MAX_PANELS: usize = 30;
const OVERSAMPLING: u32 = 2;
pub(crate) const FONT: &str = "embedded";

const INK: RGBColor = RGBColor(38, 42, 50);
const FAINT: RGBColor = RGBColor(226, 229, 234);
/// Okabe and Ito's colours, which stay apart for colour-blind eyes.
const LINES: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
];

/// Draws the panels, at most three a row, and writes them as a PNG.
///
/// Points that are not finite are left out; a panel without any is empty but for its title.
///
/// # Errors   [`StoreError::Image`] if there are no panels or more than 30, [`StoreError::Io`]
pub fn plot_lines(path: &Path, panels: &[Panel]) -> Result<()> {
    let refuse = |problem: String| StoreError::Image { problem };
    if panels.is_empty() || panels.len() > MAX_PANELS {
        let problem = format!(
            "a plot of {} panels; 1 to {MAX_PANELS} are possible",
            panels.len()
        );
        return Err(refuse(problem));
    }
    if !font_is_registered() {
        return Err(refuse(
            "text, for the embedded font does not load".to_owned(),
        ));
    }
    let columns = panels.len().min(COLUMNS);
    let rows = panels.len().div_ceil(columns);
    let size = |count: usize, extent: u32| count as u32 * extent * OVERSAMPLING;
    let (width, height) = (size(columns, PANEL_WIDTH), size(rows, PANEL_HEIGHT));
    let mut pixels = vec![255; width as usize * height as usize * 3];
    {
        let root = BitMapBackend::with_buffer(&mut pixels, (width, height)).into_drawing_area();
        for (panel, area) in panels.iter().zip(root.split_evenly((rows, columns))) {
            draw(panel, &area).map_err(|error| refuse(error.to_string()))?;
        }
        root.present().map_err(|error| refuse(error.to_string()))?;
    }
    let small = average(&pixels, width as usize);
    let (width, height) = (width / OVERSAMPLING, height / OVERSAMPLING);
    write_png(path, &small, width as usize, height as usize, 3)
}

pub(crate) fn font_is_registered() -> bool {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    *REGISTERED.get_or_init(|| {
        register_font(FONT, FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT).is_ok()
    })
}

type Area<'a> = DrawingArea<BitMapBackend<'a>, plotters::coord::Shift>;
type DrawError<'a> = DrawingAreaErrorKind<<BitMapBackend<'a> as DrawingBackend>::ErrorType>;

fn draw<'a>(panel: &Panel, area: &Area<'a>) -> Result<(), DrawError<'a>> {
    let scale = |pixels: u32| pixels * OVERSAMPLING;
    let text = |size: u32| (FONT, scale(size)).into_font().color(&INK);
    let lines: Vec<Vec<(f64, f64)>> = panel
        .series
        .iter()
        .map(|(_, points)| drawable(points, panel.y_log))
        .collect();
    let x_axis = Axis::linear(lines.iter().flatten().map(|point| point.0), false);
    let y_values = lines.iter().flatten().map(|point| point.1);
    let y_axis = if panel.y_log {
        Axis::decades(y_values)
    } else {
        Axis::linear(y_values, true)
    };

    let (x_labels, y_labels) = (x_axis.ticks.len(), y_axis.ticks.len());
    let mut chart = ChartBuilder::on(area)
        .margin(scale(14))
        .caption(&panel.title, text(19))
        .x_label_area_size(scale(if panel.x_label.is_empty() { 26 } else { 40 }))
        .y_label_area_size(scale(54))
        .build_cartesian_2d(x_axis, y_axis)?;
    chart
        .configure_mesh()
        .bold_line_style(FAINT.stroke_width(OVERSAMPLING))
        .light_line_style(TRANSPARENT)
        .axis_style(INK.stroke_width(OVERSAMPLING))
        .label_style(text(13))
        .axis_desc_style(text(14))
        .x_desc(&panel.x_label)
        .x_labels(x_labels)
        .y_labels(y_labels)
        .draw()?;
    for (index, ((name, _), points)) in panel.series.iter().zip(lines).enumerate() {
        let style = LINES[index % LINES.len()].stroke_width(2 * OVERSAMPLING);
        let sample = move |(x, y)| PathElement::new([(x, y), (x + scale(20) as i32, y)], style);
        chart
            .draw_series(LineSeries::new(points, style))?
            .label(name)
            .legend(sample);
    }
    if panel.series.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.85))
            .border_style(FAINT)
            .legend_area_size(scale(26))
            .margin(scale(8))
            .label_font(text(13))
            .draw()?;
    }
    Ok(())
}

/// Points as they are drawn: finite, and a logarithmic axis is linear in log10.
fn drawable(points: &[(f64, f64)], y_log: bool) -> Vec<(f64, f64)> {
    let placed = points
        .iter()
        .map(|&(x, y)| (x, if y_log { y.log10() } else { y }));
    placed
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect()
}

/// The mean of each square of OVERSAMPLING² pixels.
fn average(pixels: &[u8], width: usize) -> Vec<u8> {
    let side = OVERSAMPLING as usize;
    let mut small = Vec::with_capacity(pixels.len() / (side * side));
    for rows in pixels.chunks_exact(width * 3 * side) {
        for x in 0..width / side {
            for channel in 0..3 {
                let square = (0..side * side)
                    .map(|k| rows[(k / side * width + x * side + k % side) * 3 + channel])
                    .map(u32::from);
                small.push((square.sum::<u32>() / (side * side) as u32) as u8);
            }
        }
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel(y_log: bool, series: Vec<(String, Vec<(f64, f64)>)>) -> Panel {
        Panel {
            title: "ᾱ".into(),
            x_label: "t".into(),
            y_log,
            series,
        }
    }

    /// How many pixels are nearest to a line's colour in each half of the picture.
    fn coloured(path: &Path, colour: RGBColor) -> (usize, usize) {
        let image = image::open(path).unwrap().into_rgb8();
        let near = |pixel: &image::Rgb<u8>| {
            let parts = [colour.0, colour.1, colour.2];
            pixel.0.iter().zip(parts).all(|(&a, b)| a.abs_diff(b) < 40)
        };
        let middle = image.height() / 2;
        let hits = image.enumerate_pixels().filter(|(_, _, pixel)| near(pixel));
        let (upper, lower): (Vec<_>, Vec<_>) = hits.partition(|(_, y, _)| *y < middle);
        (upper.len(), lower.len())
    }

    #[test]
    fn a_line_is_drawn_where_its_values_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.png");
        let falling = (0..100)
            .map(|t| (f64::from(t), 1.0 - f64::from(t) / 99.0))
            .collect();
        let high = (0..100).map(|t| (f64::from(t), 0.9)).collect();
        plot_lines(
            &path,
            &[panel(
                false,
                vec![("a".into(), falling), ("b".into(), high)],
            )],
        )
        .unwrap();
        let image = image::open(&path).unwrap();
        assert_eq!((image.width(), image.height()), (PANEL_WIDTH, PANEL_HEIGHT));
        let (upper, lower) = coloured(&path, LINES[0]);
        assert!(upper > 100 && lower > 100, "{upper} {lower}");
        let (upper, lower) = coloured(&path, LINES[1]);
        assert!(upper > 300 && lower == 0, "{upper} {lower}");
    }

    #[test]
    fn hostile_numbers_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.png");
        let points = vec![
            (0.0, 1e-300),
            (1.0, 0.0),
            (2.0, -1.0),
            (f64::NAN, 1.0),
            (3.0, f64::INFINITY),
            (4.0, 1e300),
        ];
        for y_log in [false, true] {
            for series in [
                vec![],
                vec![("a".into(), vec![])],
                vec![("a".into(), points.clone())],
            ] {
                plot_lines(&path, &[panel(y_log, series)]).unwrap();
            }
            let constant = vec![("a".into(), vec![(5.0, 0.25); 3])];
            plot_lines(&path, &[panel(y_log, constant)]).unwrap();
        }
        assert!(plot_lines(&path, &[]).is_err());
    }

    #[test]
    fn panels_wrap_after_three() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plot.png");
        plot_lines(&path, &vec![panel(false, vec![]); 4]).unwrap();
        let image = image::open(&path).unwrap();
        assert_eq!(
            (image.width(), image.height()),
            (3 * PANEL_WIDTH, 2 * PANEL_HEIGHT)
        );
    }
}
