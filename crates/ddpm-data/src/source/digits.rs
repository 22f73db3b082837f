use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use super::{Listing, Source};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::error::DataError;
use crate::raster::{Raster, Samples};

/// See `data/README.md` for where it comes from and its licence.
const DIGITS: &[u8] = include_bytes!("../../data/digits.csv.gz");
const SIDE: usize = 8;
const INK: f32 = 16.0;
const CLASSES: usize = 10;

/// The embedded digits: `[n, 8, 8]` in [0, 1].
#[derive(Debug)]
pub(crate) struct Digits {
    units: Vec<f32>,
}

pub(super) fn open() -> Result<Listing, DataError> {
    // the file is part of the program: these errors mean a broken build
    let broken = |got: String| {
        DataError::format(
            Path::new("digits.csv.gz"),
            "65 numbers a line, values 0..16 and a class 0..9",
            got,
        )
    };
    let mut text = String::new();
    GzDecoder::new(DIGITS)
        .read_to_string(&mut text)
        .map_err(|error| broken(error.to_string()))?;
    let mut units = Vec::new();
    let mut labels = Vec::new();
    for line in text.lines() {
        let numbers = line
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<u8>, _>>()
            .map_err(|error| broken(error.to_string()))?;
        match numbers.split_last() {
            Some((&class, inks)) if inks.len() == SIDE * SIDE && usize::from(class) < CLASSES => {
                units.extend(inks.iter().map(|&ink| f32::from(ink) / INK));
                labels.push(usize::from(class));
            }
            _ => return Err(broken(format!("{} numbers", numbers.len()))),
        }
    }
    Ok(Listing {
        columns: Columns::default(),
        source: Source::Digits(Digits { units }),
        classes: Classes {
            labels: Some(labels),
            count: Some(CLASSES),
            names: Some((0..CLASSES).map(|class| class.to_string()).collect()),
        },
    })
}

impl Digits {
    /// `[channels, height, width]` of every image.
    pub(super) const SHAPE: [usize; 3] = [1, SIDE, SIDE];

    pub(super) fn len(&self) -> usize {
        self.units.len() / (SIDE * SIDE)
    }

    pub(super) fn decode(&self, index: usize) -> Raster {
        let start = index * SIDE * SIDE;
        let units = self.units[start..start + SIDE * SIDE].to_vec();
        Raster::new(SIDE, SIDE, 1, Samples::Unit(units))
    }
}
