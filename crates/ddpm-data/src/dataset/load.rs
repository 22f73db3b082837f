use std::path::PathBuf;

use super::decode_all::{Trouble, decode_all};
use super::{Dataset, Decoder, Store};
use crate::classes::Classes;
use crate::columns::Columns;
use crate::config::{DataConfig, DataKind, OnBad};
use crate::error::{DataError, Fault, Skipped};
use crate::kinds::PassedOver;
use crate::raster::{Raster, Samples};
use crate::source::{self, Beside, Listing, Source, Synthetic};
use crate::transform::Fitting;

type Progress<'a> = &'a mut dyn FnMut(usize, usize);

pub(super) fn load(
    config: &DataConfig,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Dataset, DataError> {
    config.validate()?;
    let Listing {
        source,
        classes,
        columns,
    } = source::open(config, seed)?;
    if source.len() == 0 {
        return Err(DataError::Empty {
            path: path_of(config),
            passed_over: PassedOver::default(),
        });
    }
    match source {
        Source::Synthetic(synthetic) => Ok(made(config, synthetic, progress)),
        source => {
            let fitting = Fitting::new(config);
            let decoder = Decoder {
                source,
                transpose: config.transpose,
                fitting,
            };
            say_beside(config, &decoder.source);
            decoded(config, decoder, (classes, columns), progress)
        }
    }
}

/// Says what was found beside the images, once.
fn say_beside(config: &DataConfig, source: &Source) {
    let Beside { passed_over, notes } = source.beside();
    let path = path_of(config);
    let path = path.display();
    for note in notes {
        tracing::warn!("{note}");
    }
    if let Some(unread) = passed_over.describe_unread() {
        tracing::warn!("{path}: passed over {unread}");
    }
    if let Some(hidden) = passed_over.describe_hidden() {
        tracing::info!("{path}: skipped {hidden}");
    }
    if config.kind == DataKind::Idx && !config.transpose && source::is_emnist(source) {
        tracing::warn!("{path}: EMNIST's images are stored transposed; set data.transpose = true");
    }
}

fn path_of(config: &DataConfig) -> PathBuf {
    match &config.path {
        Some(path) => path.clone(),
        None => PathBuf::from(config.kind.name()),
    }
}

fn name_of(config: &DataConfig) -> String {
    match &config.path {
        Some(path) => format!("{} {}", config.kind.name(), path.display()),
        None => config.kind.name().to_owned(),
    }
}

fn made(config: &DataConfig, synthetic: Synthetic, progress: Progress<'_>) -> Dataset {
    let len = synthetic.len();
    progress(len, len);
    Dataset {
        name: name_of(config),
        len,
        shape: synthetic.shape(),
        store: Store::Synthetic(synthetic),
        labels: None,
        num_classes: None,
        class_names: None,
        columns: Columns::default(),
        skipped: Vec::new(),
        passed_over: PassedOver::default(),
    }
}

fn decoded(
    config: &DataConfig,
    decoder: Decoder,
    (classes, columns): (Classes, Columns),
    progress: Progress<'_>,
) -> Result<Dataset, DataError> {
    let total = decoder.source.len();
    let (first, model, mut bad) = first_good(config, &decoder, progress)?;
    let shape = model.shape();
    let pass = Pass {
        decoder: &decoder,
        shape,
        first,
        total,
        on_bad: config.on_bad,
    };
    let image_bytes = match &model.samples {
        Samples::U8(bytes) => bytes.len(),
        Samples::Unit(units) => size_of_val(units.as_slice()),
    };
    let fits = (image_bytes as u64)
        .checked_mul((total - first) as u64)
        .is_some_and(|bytes| bytes <= config.cache_bytes);
    let mut cache = None;
    if fits {
        let (store, faults) = pass.fill(&model, progress)?;
        cache = Some(store);
        bad.extend(faults);
    } else if config.on_bad == OnBad::Skip {
        bad.extend(pass.check(progress)?);
    } else {
        progress(total, total);
    }
    let skipped = bad
        .iter()
        .map(|(index, fault)| Skipped {
            path: decoder.path_of(*index),
            reason: fault.to_string(),
        })
        .collect();
    let kept = without(total, &bad);
    let passed_over = decoder.source.beside().passed_over;
    let labels = classes
        .labels
        .map(|labels| kept.iter().map(|&index| labels[index]).collect());
    let store = match cache {
        Some(Store::Bytes(bytes)) => {
            Store::Bytes(compact(bytes, model.samples.len(), first, &kept))
        }
        Some(Store::Units(units)) => {
            Store::Units(compact(units, model.samples.len(), first, &kept))
        }
        _ => Store::OnDemand {
            decoder: Box::new(decoder),
            kept: kept.clone(),
        },
    };
    Ok(Dataset {
        name: name_of(config),
        len: kept.len(),
        shape,
        store,
        labels,
        num_classes: classes.count,
        class_names: classes.names,
        columns: columns.rows(&kept),
        skipped,
        passed_over,
    })
}

/// An image's number in the source and what is wrong with it.
type Faults = Vec<(usize, Fault)>;

/// The first image that can be used, which decides the shape of the set, and the bad ones before it.
fn first_good(
    config: &DataConfig,
    decoder: &Decoder,
    progress: Progress<'_>,
) -> Result<(usize, Raster, Faults), DataError> {
    let total = decoder.source.len();
    let mut bad = Vec::new();
    for index in 0..total {
        match decoder.decode(index) {
            Ok(raster) => return Ok((index, raster, bad)),
            Err(fault) if config.on_bad == OnBad::Skip => bad.push((index, fault)),
            Err(fault) => return Err(fault.at(decoder.path_of(index))),
        }
        progress(index + 1, total);
    }
    let (first, reason) = match bad.first() {
        Some((index, fault)) => (decoder.path_of(*index), fault.to_string()),
        None => (PathBuf::new(), String::new()),
    };
    Err(DataError::AllBad {
        path: path_of(config),
        count: total,
        first,
        reason,
    })
}

/// One pass over the images `first..total` of a source.
struct Pass<'a> {
    decoder: &'a Decoder,
    shape: [usize; 3],
    first: usize,
    total: usize,
    on_bad: OnBad,
}

impl Pass<'_> {
    fn decode(&self, index: usize) -> Result<Samples, Trouble> {
        let raster = self.decoder.decode(index).map_err(Trouble::Bad)?;
        self.decoder
            .check_shape(index, &raster, self.shape)
            .map_err(Trouble::Fatal)?;
        Ok(raster.samples)
    }

    /// Decodes all into memory: slot i holds image `first + i`, whatever it holds if that is bad.
    fn fill(&self, model: &Raster, progress: Progress<'_>) -> Result<(Store, Faults), DataError> {
        let size = model.samples.len();
        let count = self.total - self.first;
        match &model.samples {
            Samples::U8(_) => {
                let mut bytes = vec![0u8; count * size];
                let faults = self.run(bytes.chunks_exact_mut(size), progress, |index, slot| {
                    if let Samples::U8(samples) = self.decode(index)? {
                        slot.copy_from_slice(&samples);
                    }
                    Ok(())
                })?;
                Ok((Store::Bytes(bytes), faults))
            }
            Samples::Unit(_) => {
                let mut units = vec![0f32; count * size];
                let faults = self.run(units.chunks_exact_mut(size), progress, |index, slot| {
                    if let Samples::Unit(samples) = self.decode(index)? {
                        slot.copy_from_slice(&samples);
                    }
                    Ok(())
                })?;
                Ok((Store::Units(units), faults))
            }
        }
    }

    /// Decodes all to find the bad ones and keeps nothing.
    fn check(&self, progress: Progress<'_>) -> Result<Faults, DataError> {
        let slots = std::iter::repeat_n((), self.total - self.first);
        self.run(slots, progress, |index, ()| self.decode(index).map(|_| ()))
    }

    fn run<S: Send>(
        &self,
        slots: impl Iterator<Item = S> + Send,
        progress: Progress<'_>,
        work: impl Fn(usize, S) -> Result<(), Trouble> + Sync,
    ) -> Result<Faults, DataError> {
        let jobs = (self.first..self.total).zip(slots);
        let mut tell = |done: usize| progress(self.first + done, self.total);
        decode_all(jobs, self.on_bad, &mut tell, work).map_err(|(index, trouble)| match trouble {
            Trouble::Bad(fault) => fault.at(self.decoder.path_of(index)),
            Trouble::Fatal(error) => error,
        })
    }
}

/// The numbers 0..total without those of `bad`, which is in order.
fn without(total: usize, bad: &Faults) -> Vec<usize> {
    let mut left_out = bad.iter().map(|(index, _)| *index).peekable();
    (0..total)
        .filter(|index| left_out.next_if_eq(index).is_none())
        .collect()
}

/// Moves the slots of the images kept together; slot i holds image `first + i`.
fn compact<T: Copy>(mut slots: Vec<T>, size: usize, first: usize, kept: &[usize]) -> Vec<T> {
    for (to, index) in kept.iter().enumerate() {
        let from = (index - first) * size;
        if from != to * size {
            slots.copy_within(from..from + size, to * size);
        }
    }
    slots.truncate(kept.len() * size);
    slots
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_bad_images_close_up() {
        let bad = [0, 1, 3, 5]
            .map(|index| (index, Fault::Bad(String::new())))
            .into();
        let kept = without(6, &bad);
        assert_eq!(kept, [2, 4]);
        // the first good image is 2
        let slots = vec![20, 21, 30, 31, 40, 41, 50, 51];
        assert_eq!(compact(slots, 2, 2, &kept), [20, 21, 40, 41]);
    }
}
