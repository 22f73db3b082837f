//! What is known of a product on matrix units when its kernel is compiled.

use cubecl::cmma::MatrixLayout;
use serde::{Deserialize, Serialize};

/// Among how many planes a large tile is divided: with fewer, each reads less of shared memory for a product and holds
/// more results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Planes {
    /// 64×64 results each.
    Four,
    /// 64×32 results each.
    Eight,
}

/// Results of a square, in each direction.
pub(super) const SIDE: usize = 16;

/// Bytes that a thread moves at once.
pub(super) const MOVED: usize = 16;

/// The words of that.
pub(super) const WORDS: usize = MOVED / 4;

/// Vectors of a slice along the depth.
pub(super) const DEEP: usize = 4;

/// Threads of a plane.
pub(super) const LANES: usize = 32;

/// Results that a thread writes at once.
pub(super) const WRITTEN: usize = 4;

/// Vectors of a square's results that a thread writes.
pub(super) const EACH: usize = SIDE * SIDE / WRITTEN / LANES;

/// Vectors from one row of a plane's results in shared memory to the next.
pub(super) const PITCH: usize = SIDE / WRITTEN + 1;

/// What a cube makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tile {
    /// Planes, down and across.
    pub(super) planes: (usize, usize),
    /// Squares of results that each has, down and across.
    pub(super) each: (usize, usize),
}

pub(super) const SMALL: Tile = Tile {
    planes: (2, 2),
    each: (2, 2),
};

impl Tile {
    pub(super) const fn large(planes: Planes) -> Self {
        match planes {
            Planes::Four => Self {
                planes: (2, 2),
                each: (4, 4),
            },
            Planes::Eight => Self {
                planes: (2, 4),
                each: (4, 2),
            },
        }
    }

    /// Results a cube makes, in each direction: tiles are square.
    pub(super) const fn side(self) -> usize {
        self.planes.0 * self.each.0 * SIDE
    }

    pub(super) const fn planes(self) -> usize {
        self.planes.0 * self.planes.1
    }

    /// How many there are for `[m, n]`.
    pub(super) fn count(self, m: usize, n: usize) -> usize {
        m.div_ceil(self.side()) * n.div_ceil(self.side())
    }
}

/// Which product of x `[batch, height, width, in]`, w `[out, k, k, in]` and y `[batch, height', width', out]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Operation {
    /// y = x ∗ w
    Forward,
    /// dx from dy and w
    Data,
    /// dw from dy and x
    Weight,
}

/// How a plane multiplies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Instruction {
    /// By squares that only the plane knows the order of, of this depth: wherever there are matrix units.
    Squares { depth: usize },
    /// By registers of a known order, which NVIDIA's GPUs fill from shared memory in one instruction.
    Registers,
    /// One value by another, on ordinary units: `units.rs`.
    Units,
}

/// Everything that a kernel is compiled for: the less of it, the fewer kernels are compiled before the first step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) operation: Operation,
    pub(super) stride: usize,
    pub(super) tile: Tile,
    pub(super) instruction: Instruction,
    /// Values in what a thread moves at once.
    pub(super) size: usize,
}

/// Where the vectors of one factor lie in a slice. A row in shared memory is a row of the product's and goes along the
/// depth, if the factor's memory does, or the other way round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lie {
    /// Whether rows go along the depth.
    pub(super) deep: bool,
    /// Vectors of a row.
    pub(super) row: usize,
    /// Vectors from one row to the next: one more, so that rows begin in different banks.
    pub(super) pitch: usize,
    /// Vectors of a slice.
    pub(super) length: usize,
    /// Rows from one vector that a thread brings to its next.
    pub(super) apart: usize,
}

impl Plan {
    pub(super) const fn threads(self) -> usize {
        self.tile.planes() * LANES
    }

    /// Depth of a slice in shared memory.
    pub(super) const fn slice(self) -> usize {
        DEEP * self.size
    }

    /// Vectors of each factor that a thread brings for a slice.
    pub(super) const fn brought(self) -> usize {
        self.tile.side() * DEEP / self.threads()
    }

    /// Whether the depth is (tap, channel); it is pixels otherwise.
    pub(super) const fn through_taps(self) -> bool {
        !matches!(self.operation, Operation::Weight)
    }

    pub(super) const fn squares(self) -> bool {
        matches!(self.instruction, Instruction::Squares { .. })
    }

    pub(super) const fn registers(self) -> bool {
        matches!(self.instruction, Instruction::Registers)
    }

    pub(super) const fn units(self) -> bool {
        matches!(self.instruction, Instruction::Units)
    }

    /// Depth of one instruction.
    pub(super) const fn step(self) -> usize {
        match self.instruction {
            Instruction::Squares { depth } => depth,
            Instruction::Registers => SIDE,
            Instruction::Units => 1,
        }
    }

    const fn lie(self, deep: bool) -> Lie {
        let (row, rows) = match deep {
            true => (DEEP, self.tile.side()),
            false => (self.tile.side() / self.size, self.slice()),
        };
        Lie {
            deep,
            row,
            pitch: row + 1,
            length: rows * (row + 1),
            apart: self.threads() / row,
        }
    }

    /// Of the left factor.
    pub(super) const fn a(self) -> Lie {
        self.lie(self.through_taps())
    }

    /// Of the right factor.
    pub(super) const fn b(self) -> Lie {
        self.lie(matches!(self.operation, Operation::Forward))
    }

    pub(super) const fn layout_a(self) -> MatrixLayout {
        match self.a().deep {
            true => MatrixLayout::RowMajor,
            false => MatrixLayout::ColMajor,
        }
    }

    pub(super) const fn layout_b(self) -> MatrixLayout {
        match self.b().deep {
            true => MatrixLayout::ColMajor,
            false => MatrixLayout::RowMajor,
        }
    }

    /// Vectors of scratch memory for the results, of all planes.
    pub(super) const fn scratch(self) -> usize {
        self.tile.planes() * SIDE * PITCH
    }
}
