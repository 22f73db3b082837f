//! All pairs of images: their products and distances, once, for every figure that is made of them.

use std::ops::ControlFlow;

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, Par};
use rayon::prelude::*;

use crate::error::EvalError;
use crate::rows::Rows;

/// Images that a thread takes at a time.
const BLOCK: usize = 64;

/// Called after each part of a long computation; a break stops it.
pub type Tick<'a> = &'a (dyn Fn() -> ControlFlow<()> + Sync);

/// Features in f64, with their lengths.
#[derive(Debug)]
pub struct Points {
    /// `[dim, n]`
    columns: Mat<f64>,
    /// |x|²
    squares: Vec<f64>,
}

/// What each image of a set has with the others of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Within {
    /// The sum of the cubic kernel (x·y/d + 1)³ over the others.
    pub cubic: Vec<f64>,
    /// The mean of the RBF kernel of [`rbf`] over all, itself among them.
    pub rbf: Vec<f64>,
    /// The squared distance of the nearest other one; infinite if there is none.
    pub nearest: Vec<f64>,
    /// The squared distance of the k-th nearest other one; infinite if there are not as many.
    pub radius: Vec<f64>,
}

/// What images of a first set have with those of a second one.
#[derive(Debug, Clone, PartialEq)]
pub struct Between {
    /// Of each image of the first set.
    pub first: Side,
    /// Of each image of the second set.
    pub second: Side,
}

/// What one image has with all those of another set.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The sum of the cubic kernel.
    pub cubic: Vec<f64>,
    /// The mean of the RBF kernel.
    pub rbf: Vec<f64>,
    /// The squared distance of the nearest one.
    pub nearest: Vec<f64>,
    /// Which is that, by its number.
    pub nearest_index: Vec<usize>,
    /// Whether it lies in a ball of the others, their surfaces counted.
    pub inside: Vec<bool>,
    /// How many balls of the others it lies in, their surfaces not counted.
    pub balls: Vec<u32>,
    /// Whether one of the others lies in its own ball, its surface not counted.
    pub covered: Vec<bool>,
}

/// exp(-|x - y|²/(2·10²)) of features of length 1 (Jayasumana et al. 2024, CMMD).
pub fn rbf(product: f64) -> f64 {
    const SIGMA: f64 = 10.0;
    ((product - 1.0) / (SIGMA * SIGMA)).exp()
}

impl Points {
    /// The rows of a set.
    #[must_use]
    pub fn new(rows: &Rows) -> Self {
        let squares = (0..rows.count()).map(|i| {
            let of_row = rows.row(i).iter();
            of_row.map(|&x| f64::from(x) * f64::from(x)).sum()
        });
        Self {
            squares: squares.collect(),
            columns: rows.columns(None),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.squares.len()
    }

    /// The products of some images of another set with all of these, `[these, those]`.
    fn products(&self, of: &Self, from: usize, count: usize) -> Mat<f64> {
        let mut products = Mat::zeros(self.count(), count);
        matmul(
            &mut products,
            Accum::Replace,
            self.columns.transpose(),
            of.columns.subcols(from, count),
            1.0,
            // The blocks are what is spread over threads.
            Par::Seq,
        );
        products
    }

    /// What each image has with the others of the set.
    ///
    /// # Errors   [`EvalError::Stopped`]
    pub fn within(&self, k: usize, tick: Tick<'_>) -> Result<Within, EvalError> {
        let n = self.count();
        let parts = blocks(n, tick, |from, count| {
            let products = self.products(self, from, count);
            let rows = (0..count).map(|at| self.among(from + at, products.col_as_slice(at), k));
            rows.collect::<Vec<[f64; 4]>>()
        })?;
        let column = |which: usize| parts.iter().flatten().map(move |row| row[which]).collect();
        Ok(Within {
            cubic: column(0),
            rbf: column(1),
            nearest: column(2),
            radius: column(3),
        })
    }

    /// One image among the others: both kernels, the nearest and the k-th nearest.
    fn among(&self, me: usize, products: &[f64], k: usize) -> [f64; 4] {
        let dim = self.columns.nrows() as f64;
        let mut nearest = vec![f64::INFINITY; k.max(1)];
        let (mut cubic, mut radial) = (0.0, 0.0);
        for (other, &product) in products.iter().enumerate() {
            if other == me {
                radial += 1.0;
                continue;
            }
            cubic += (product / dim + 1.0).powi(3);
            radial += rbf(self.cosine(product, me, self, other));
            let distance = (self.squares[me] + self.squares[other] - 2.0 * product).max(0.0);
            insert(&mut nearest, distance);
        }
        [
            cubic,
            radial / self.count() as f64,
            nearest[0],
            nearest[nearest.len() - 1],
        ]
    }

    fn cosine(&self, product: f64, me: usize, others: &Self, other: usize) -> f64 {
        // An image whose features are all zero has no direction, and a product of zero.
        let lengths = (self.squares[me] * others.squares[other]).sqrt();
        if lengths > 0.0 {
            product / lengths
        } else {
            0.0
        }
    }

    /// What these images have with those of another set, and those with these. `radii` are the squared ones of the balls of
    /// both.
    ///
    /// # Errors   [`EvalError::Stopped`], [`EvalError::Shape`] if the features differ in number
    pub fn between(
        &self,
        others: &Self,
        radii: [&[f64]; 2],
        tick: Tick<'_>,
    ) -> Result<Between, EvalError> {
        if self.columns.nrows() != others.columns.nrows() {
            return Err(EvalError::Shape {
                what: "features",
                expected: format!("the reference's {}", others.columns.nrows()),
                got: format!("{}", self.columns.nrows()),
            });
        }
        let (n, m) = (self.count(), others.count());
        let parts = blocks(n, tick, |from, count| {
            let products = others.products(self, from, count);
            let mut first = Side::new(0);
            let mut second = Side::new(m);
            for at in 0..count {
                let me = from + at;
                first.push();
                for (other, &product) in products.col_as_slice(at).iter().enumerate() {
                    self.meet(me, others, other, product, radii, &mut first, &mut second);
                }
            }
            (first, second)
        })?;
        let mut between = Between {
            first: Side::new(0),
            second: Side::new(m),
        };
        for (first, second) in parts {
            between.first.append(first);
            between.second.merge(&second);
        }
        between
            .first
            .rbf
            .iter_mut()
            .for_each(|sum| *sum /= m as f64);
        between
            .second
            .rbf
            .iter_mut()
            .for_each(|sum| *sum /= n as f64);
        Ok(between)
    }

    #[expect(clippy::too_many_arguments, reason = "the inner loop of one function")]
    fn meet(
        &self,
        me: usize,
        others: &Self,
        other: usize,
        product: f64,
        radii: [&[f64]; 2],
        first: &mut Side,
        second: &mut Side,
    ) {
        let cubic = (product / self.columns.nrows() as f64 + 1.0).powi(3);
        let radial = rbf(self.cosine(product, me, others, other));
        let squares = self.squares[me] + others.squares[other];
        let distance = (squares - 2.0 * product).max(0.0);
        // What rounding leaves of a difference of squares: two equal images lie on one point.
        let rounding = 1e-11 * squares;
        let mine = first.cubic.len() - 1;
        let [my_ball, other_ball] = [radii[0][me], radii[1][other]];
        first.see(mine, [cubic, radial, distance], other);
        second.see(other, [cubic, radial, distance], me);
        first.inside[mine] |= distance <= other_ball + rounding;
        second.inside[other] |= distance <= my_ball + rounding;
        let in_other = distance < other_ball - rounding;
        let in_mine = distance < my_ball - rounding;
        first.balls[mine] += u32::from(in_other);
        second.balls[other] += u32::from(in_mine);
        second.covered[other] |= in_other;
        first.covered[mine] |= in_mine;
    }
}

impl Side {
    fn new(n: usize) -> Self {
        Self {
            cubic: vec![0.0; n],
            rbf: vec![0.0; n],
            nearest: vec![f64::INFINITY; n],
            nearest_index: vec![0; n],
            inside: vec![false; n],
            balls: vec![0; n],
            covered: vec![false; n],
        }
    }

    fn push(&mut self) {
        self.append(Self::new(1));
    }

    fn append(&mut self, other: Self) {
        self.cubic.extend(other.cubic);
        self.rbf.extend(other.rbf);
        self.nearest.extend(other.nearest);
        self.nearest_index.extend(other.nearest_index);
        self.inside.extend(other.inside);
        self.balls.extend(other.balls);
        self.covered.extend(other.covered);
    }

    fn see(&mut self, at: usize, [cubic, radial, distance]: [f64; 3], other: usize) {
        self.cubic[at] += cubic;
        self.rbf[at] += radial;
        if distance < self.nearest[at] {
            self.nearest[at] = distance;
            self.nearest_index[at] = other;
        }
    }

    /// Adds what the same images have with more others.
    fn merge(&mut self, more: &Self) {
        for at in 0..self.cubic.len() {
            self.see(
                at,
                [more.cubic[at], more.rbf[at], more.nearest[at]],
                more.nearest_index[at],
            );
            self.inside[at] |= more.inside[at];
            self.balls[at] += more.balls[at];
            self.covered[at] |= more.covered[at];
        }
    }
}

/// Keeps the smallest distances, in order.
fn insert(nearest: &mut [f64], distance: f64) {
    let mut at = nearest.len();
    while at > 0 && distance < nearest[at - 1] {
        at -= 1;
    }
    if at < nearest.len() {
        nearest[at..].rotate_right(1);
        nearest[at] = distance;
    }
}

/// The results of all blocks of n images in their order, whichever thread made them.
fn blocks<T: Send>(
    n: usize,
    tick: Tick<'_>,
    work: impl Fn(usize, usize) -> T + Sync,
) -> Result<Vec<T>, EvalError> {
    let starts: Vec<usize> = (0..n).step_by(BLOCK).collect();
    let done = starts.into_par_iter().map(|from| {
        let found = work(from, BLOCK.min(n - from));
        match tick() {
            ControlFlow::Continue(()) => Ok(found),
            ControlFlow::Break(()) => Err(EvalError::Stopped),
        }
    });
    done.collect()
}

/// How often `tick` is called for so many images.
#[must_use]
pub fn ticks(n: usize) -> usize {
    n.div_ceil(BLOCK)
}
