//! Pictures larger than a network was trained for: it looks at overlapping windows of its own size, and what it expects
//! there is averaged (MultiDiffusion, Bar-Tal et al. 2023, eq. 5).

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_schedule::{Level, Stop};

use crate::denoiser::{Denoiser, Estimate, LearnedVariance, Output};
use crate::rows::check_like;
use crate::{Condition, DiffusionError};

/// Windows over a canvas.
#[derive(Debug, Clone, PartialEq)]
pub struct Tiling {
    /// `[height, width]` of the canvas and of a window.
    canvas: [usize; 2],
    window: [usize; 2],
    /// Where windows begin, by rows and by columns.
    starts: [Vec<usize>; 2],
    /// How much each line of each window counts, by rows and by columns: those of a line of the canvas add up to 1.
    shares: [Vec<Vec<f64>>; 2],
}

impl Tiling {
    /// Windows that overlap by at least so many pixels and cover the canvas; the last ones end where it does.
    ///
    /// A window counts most in its middle and falls off in straight lines to its edges, where others count instead.
    ///
    /// # Errors   [`DiffusionError::Editing`] for a canvas smaller than a window, or an overlap as large as one
    pub fn new(
        canvas: [usize; 2],
        window: [usize; 2],
        overlap: usize,
    ) -> Result<Self, DiffusionError> {
        let refuse = |what, got: String, expected| {
            Err(DiffusionError::Editing {
                what,
                got,
                expected,
            })
        };
        let least = window[0].min(window[1]);
        if least == 0 || (0..2).any(|side| canvas[side] < window[side]) {
            return refuse(
                "the canvas",
                format!("{}x{}", canvas[0], canvas[1]),
                "at least as high and as wide as the network's own images",
            );
        }
        if overlap >= least {
            return refuse(
                "the overlap of windows",
                overlap.to_string(),
                "less than a side of the network's own images",
            );
        }
        let starts = [0, 1].map(|side| {
            let (whole, own) = (canvas[side], window[side]);
            let last = whole - own;
            let mut starts: Vec<usize> = (0..last).step_by(own - overlap).collect();
            starts.push(last);
            starts
        });
        let shares = [0, 1].map(|side| shares(canvas[side], window[side], &starts[side]));
        Ok(Self {
            canvas,
            window,
            starts,
            shares,
        })
    }

    /// How many windows there are.
    #[must_use]
    pub fn windows(&self) -> usize {
        self.starts[0].len() * self.starts[1].len()
    }

    /// Where a window begins and what its pixels count: `[1, 1, height, width]`.
    fn place(&self, window: usize, device: &Device) -> ([usize; 2], Tensor<4>) {
        let columns = self.starts[1].len();
        let (row, column) = (window / columns, window % columns);
        let (of_rows, of_columns) = (&self.shares[0][row], &self.shares[1][column]);
        let each = of_rows
            .iter()
            .flat_map(|a| of_columns.iter().map(move |b| (a * b) as f32));
        let each = TensorData::new(each.collect(), [1, 1, self.window[0], self.window[1]]);
        let starts = [self.starts[0][row], self.starts[1][column]];
        (starts, Tensor::from_data(each, device))
    }
}

/// What each line of each window counts, in units of all that count there.
fn shares(canvas: usize, window: usize, starts: &[usize]) -> Vec<Vec<f64>> {
    let tent = |line: usize| (line + 1).min(window - line) as f64;
    let mut all = vec![0.0; canvas];
    for start in starts {
        (0..window).for_each(|line| all[start + line] += tent(line));
    }
    let of = |start: &usize| {
        (0..window)
            .map(|line| tent(line) / all[start + line])
            .collect()
    };
    starts.iter().map(of).collect()
}

/// A denoiser of canvases around one of windows, all of a tiling at every evaluation.
pub struct Tile<D> {
    inner: D,
    batch: usize,
    window: [usize; 2],
    canvas: [usize; 2],
    places: Vec<([usize; 2], Tensor<4>)>,
}

impl<D: Denoiser> Tile<D> {
    /// Asks `inner` for at most `batch` windows at a time.
    pub fn new(inner: D, tiling: &Tiling, batch: usize, device: &Device) -> Self {
        Self {
            inner,
            batch: batch.max(1),
            window: tiling.window,
            canvas: tiling.canvas,
            places: (0..tiling.windows())
                .map(|window| tiling.place(window, device))
                .collect(),
        }
    }

    /// A window of images of the canvas's size; other tensors have no windows.
    fn cut(&self, x: &Tensor<4>, row: usize, [top, left]: [usize; 2]) -> Tensor<4> {
        let [_, channels, ..] = x.dims();
        let [height, width] = self.window;
        x.clone().slice([
            row..row + 1,
            0..channels,
            top..top + height,
            left..left + width,
        ])
    }

    /// What the network is told of one window of one image.
    fn told(&self, condition: &Condition, row: usize, start: [usize; 2]) -> Condition {
        let own = condition.rows(row..row + 1);
        let cut = |of: &Option<Tensor<4>>| of.as_ref().map(|of| self.cut(of, 0, start));
        Condition {
            picture: cut(&own.picture),
            x0: cut(&own.x0),
            ..own
        }
    }
}

impl<D: Denoiser> Denoiser for Tile<D> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        condition: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let [rows, channels, ..] = x.dims();
        let canvas = [rows, channels, self.canvas[0], self.canvas[1]];
        check_like("the canvas", x, canvas)?;
        let pairs: Vec<(usize, usize)> = (0..rows)
            .flat_map(|row| (0..self.places.len()).map(move |window| (row, window)))
            .collect();
        let mut sums: Option<Sums> = None;
        for pairs in pairs.chunks(self.batch) {
            let starts = pairs
                .iter()
                .map(|&(row, window)| (row, self.places[window].0));
            let windows = starts
                .clone()
                .map(|(row, start)| self.cut(x, row, start))
                .collect();
            let told = starts.map(|(row, start)| self.told(condition, row, start));
            let told = told.reduce(|all, next| all.then(&next)).unwrap_or_default();
            let estimate = self.inner.denoise(&Tensor::cat(windows, 0), at, &told)?;
            let sums = sums.get_or_insert_with(|| Sums::new(x, &estimate));
            for (from, &(row, window)) in pairs.iter().enumerate() {
                let (start, share) = &self.places[window];
                sums.add(&estimate, from, row, *start, share);
            }
        }
        Ok(match sums {
            Some(sums) => sums.estimate,
            None => self.inner.denoise(x, at, condition)?,
        })
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}

/// The estimate of the canvas as far as windows have said theirs.
struct Sums {
    estimate: Estimate,
}

impl Sums {
    /// Nothing yet of all that an estimate of windows has.
    fn new(x: &Tensor<4>, like: &Estimate) -> Self {
        let zeros = || x.zeros_like();
        Self {
            estimate: Estimate {
                x0: zeros(),
                variance: like.variance.as_ref().map(|variance| match variance {
                    LearnedVariance::Share(_) => LearnedVariance::Share(zeros()),
                    LearnedVariance::Log(_) => LearnedVariance::Log(zeros()),
                }),
                output: like.output.as_ref().map(|output| Output {
                    value: zeros(),
                    ..output.clone()
                }),
            },
        }
    }

    /// One window's part. x̂0 is linear in the output, so that the average of outputs means that of images.
    fn add(
        &mut self,
        windows: &Estimate,
        from: usize,
        row: usize,
        start: [usize; 2],
        share: &Tensor<4>,
    ) {
        let add = |to: &mut Tensor<4>, part: &Tensor<4>| put(to, part, from, row, start, share);
        add(&mut self.estimate.x0, &windows.x0);
        use LearnedVariance::{Log, Share};
        match (&mut self.estimate.variance, &windows.variance) {
            (Some(Share(to)), Some(Share(part))) | (Some(Log(to)), Some(Log(part))) => {
                add(to, part)
            }
            _ => {}
        }
        if let (Some(to), Some(part)) = (&mut self.estimate.output, &windows.output) {
            add(&mut to.value, &part.value);
        }
    }
}

/// Adds window `from` of `part` to image `row` of `to`.
fn put(
    to: &mut Tensor<4>,
    part: &Tensor<4>,
    from: usize,
    row: usize,
    [top, left]: [usize; 2],
    share: &Tensor<4>,
) {
    let [_, channels, height, width] = part.dims();
    let place = [
        row..row + 1,
        0..channels,
        top..top + height,
        left..left + width,
    ];
    let own = part.clone().narrow(0, from, 1) * share.clone();
    let sum = to.clone().slice(place.clone()) + own;
    *to = to.clone().slice_assign(place, sum);
}
