//! Ranks that are threads: their calls, their sums, and what happens where one fails.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;

use burn::tensor::{Device, Tensor, TensorData};
use ddpm_data::DataError;
use ddpm_kernels::{GpuTransport, NcclError};

use super::gpus::GpuSum;
use super::gradients::{Flags, GradientSum, LocalGradients, Reduction};
use super::on_devices::ThreadGpus;
use super::on_processes::ProcessGpus;
use super::threads::Threads;
use super::*;
use crate::optim::ParamGrads;
use crate::step::{TrainState, read};

/// What each of `size` ranks returns.
fn on_ranks<T: Send>(size: usize, task: impl Fn(Threads) -> T + Sync) -> Vec<T> {
    let places = Threads::of(&vec![Device::flex(); size]);
    thread::scope(|scope| {
        let task = &task;
        let ranks = places
            .into_iter()
            .map(|rank| scope.spawn(move || task(rank)));
        let ranks: Vec<_> = ranks.collect();
        let joined = ranks.into_iter().map(|rank| rank.join().unwrap());
        joined.collect()
    })
}

#[test]
fn every_rank_gets_what_the_others_give() {
    for size in 1..5 {
        let found = on_ranks(size, |mut ranks| {
            let rank = ranks.rank();
            let own = |i: usize| (10 * rank + i) as f32;
            let mut all = Vec::new();
            // More than one round: what was brought to an earlier one is gone.
            for round in 0..20 {
                let pieces = ranks.all_to_all((0..2 * size).map(own).collect()).unwrap();
                let gathered = ranks.all_gather(vec![own(round)]).unwrap();
                let reduced = ranks.all_reduce(vec![own(0), 1.0]).unwrap();
                let root = round % size;
                let said = match rank == root {
                    true => vec![round as u8, rank as u8],
                    false => Vec::new(),
                };
                let said = ranks.broadcast(said, root).unwrap();
                assert_eq!(said, [round as u8, root as u8]);
                all.push((pieces, gathered, reduced));
            }
            all
        });
        for (rank, rounds) in found.iter().enumerate() {
            for (round, (pieces, gathered, reduced)) in rounds.iter().enumerate() {
                let expected: Vec<f32> = (0..size)
                    .flat_map(|from| [0, 1].map(|i| (10 * from + 2 * rank + i) as f32))
                    .collect();
                assert_eq!(*pieces, expected);
                let expected: Vec<f32> = (0..size).map(|from| (10 * from + round) as f32).collect();
                assert_eq!(*gathered, expected);
                let sum = (0..size).map(|from| 10 * from).sum::<usize>();
                assert_eq!(*reduced, [sum as f32, size as f32]);
            }
        }
    }
}

/// Gradients of one parameter of five numbers, of which the one before is not trained.
fn gradients(micro_batch: usize) -> (ParamGrads, Vec<f32>) {
    let numbers = (0..5).map(|i| ((micro_batch * 5 + i) as f32 * 1.7).sin() / 3.0);
    let data = TensorData::new(numbers.collect::<Vec<f32>>(), [5]);
    let flat = vec![Tensor::from_data(data, &Device::flex())];
    let losses = vec![0.1 * micro_batch as f32, 1.0, 2.0 + micro_batch as f32];
    (ParamGrads::of(vec![false, true], flat), losses)
}

fn summing(reduction: Reduction, micro_batches: usize) -> GradientSum {
    GradientSum {
        reduction,
        micro_batches,
        images: 2,
        parameters: vec![3, 5],
        device: Device::flex(),
        gpus: None,
    }
}

/// The sum over `size` ranks, as one of them has it.
fn summed(mut ranks: Threads, summing: &GradientSum) -> (Vec<u32>, Vec<f32>) {
    let micro_batches = summing.micro_batches;
    let own = tree::share(ranks.rank(), ranks.size(), micro_batches);
    let mut losses = Vec::new();
    let mut leaf = |node: &std::ops::Range<usize>| {
        Ok::<_, TrainError>((node.len() == 1).then(|| {
            let (grads, of) = gradients(node.start);
            losses.extend(of);
            grads
        }))
    };
    let sums = tree::subtrees(&own, micro_batches)
        .into_iter()
        .map(|node| tree::fold(node, &mut leaf, &mut ParamGrads::plus).unwrap());
    let sums = sums.collect();
    let local = LocalGradients {
        sums,
        losses: Tensor::from_floats(losses.as_slice(), &Device::flex()),
    };
    let flags = Flags {
        stop: ranks.rank() == 1,
        capture: false,
    };
    let several = ranks.size() > 1;
    let found = summing.over(&mut ranks, Ok(local), flags).unwrap();
    assert_eq!(found.flags.stop, several);
    assert!(!found.flags.capture);
    let numbers = found.grads.to_host(&summing.parameters).unwrap();
    (
        numbers.iter().map(|x| x.to_bits()).collect(),
        read(found.losses).unwrap(),
    )
}

#[test]
fn the_tree_sums_to_the_same_bits_on_any_number_of_ranks() {
    for micro_batches in [1, 2, 3, 6, 8] {
        let expected = &on_ranks(1, |rank| {
            summed(rank, &summing(Reduction::Tree, micro_batches))
        })[0];
        let mut in_another_order = 0;
        for size in 2..=micro_batches {
            for found in on_ranks(size, |rank| {
                summed(rank, &summing(Reduction::Tree, micro_batches))
            }) {
                assert_eq!(
                    found, *expected,
                    "{size} ranks, {micro_batches} micro-batches"
                );
            }
            for found in on_ranks(size, |rank| {
                summed(rank, &summing(Reduction::Fast, micro_batches))
            }) {
                assert_eq!(found.1, expected.1);
                in_another_order += usize::from(found.0 != expected.0);
                for (fast, tree) in found.0.iter().zip(&expected.0) {
                    let difference = f32::from_bits(*fast) - f32::from_bits(*tree);
                    assert!(difference.abs() < 1e-6);
                }
            }
        }
        // It can fail: where there are orders to choose from, another one has other bits.
        assert_eq!(in_another_order > 0, micro_batches > 2, "{micro_batches}");
    }
}

#[test]
fn an_error_of_one_rank_is_that_of_all() {
    let failed = || {
        TrainError::Data(DataError::Stopped {
            reason: "the disk is gone".into(),
        })
    };
    let found = on_ranks(3, |mut ranks| {
        let own = match ranks.rank() {
            1 => Err(failed()),
            _ => Ok(LocalGradients {
                sums: vec![gradients(ranks.rank()).0],
                losses: Tensor::from_floats([0.0; 3], &Device::flex()),
            }),
        };
        let flags = Flags::default();
        let summed = summing(Reduction::Tree, 3).over(&mut ranks, own, flags);
        let own = (ranks.rank() == 2)
            .then_some(())
            .map_or(Ok(()), |()| Err(failed()));
        [summed.map(drop), agree(&mut ranks, own)].map(Result::unwrap_err)
    });
    for (rank, errors) in found.iter().enumerate() {
        for (error, failed) in errors.iter().zip([1, 2]) {
            match error {
                TrainError::Data(_) => assert_eq!(rank, failed),
                TrainError::OtherRank {
                    rank: from,
                    kind,
                    message,
                } => {
                    assert!((*from, *kind) == (failed, Fault::Data) && rank != failed);
                    assert!(message.contains("the disk is gone"), "{message}");
                }
                other => panic!("{other}"),
            }
        }
    }
}

#[test]
fn what_rank_0_finds_out_all_know() {
    let found = on_ranks(3, |mut ranks| {
        let rank = ranks.rank();
        let told: Vec<u64> = on_first(&mut ranks, || {
            assert_eq!(rank, 0);
            Ok(vec![1, 2])
        })
        .unwrap();
        let failed: Result<u64, _> = on_first(&mut ranks, || {
            Err(TrainError::Device {
                message: "it is hot".to_owned(),
            })
        });
        (told, failed.unwrap_err().to_string())
    });
    assert_eq!(
        found[0],
        (vec![1, 2], "the device failed: it is hot".to_owned())
    );
    assert_eq!(found[1].1, "rank 0: the device failed: it is hot");
}

#[test]
fn a_rank_that_ends_leaves_none_waiting() {
    let found = on_ranks(3, |mut ranks| {
        if ranks.rank() == 1 {
            let panicked = catch_unwind(AssertUnwindSafe(move || {
                let _ranks = ranks;
                panic!("on purpose");
            }));
            assert!(panicked.is_err());
            return String::new();
        }
        ranks.all_gather(vec![1.0]).unwrap_err().to_string()
    });
    assert!(found[0].contains("rank 1 has ended"), "{found:?}");
    assert_eq!(found[0], found[2]);
}

#[test]
fn ranks_of_one_device_compute_in_turn() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let computing = AtomicUsize::new(0);
    on_ranks(4, |mut ranks| {
        for _ in 0..50 {
            ranks.begin_turn(false).unwrap();
            assert_eq!(computing.fetch_add(1, Ordering::SeqCst), 0);
            thread::yield_now();
            computing.fetch_sub(1, Ordering::SeqCst);
            ranks.end_turn();
        }
        ranks.all_gather(vec![0.0]).unwrap();
    });
}

/// A state whose weights are multiplied with `factor`.
fn stretched(factor: f32) -> TrainState {
    let config = crate::testing::tiny(0.0);
    let shape = ddpm_unet::ModelShape {
        channels: 1,
        height: 8,
        width: 8,
        learned_variance: false,
        self_condition: false,
        steps: 1000,
        condition: Default::default(),
    };
    let device = Device::flex().autodiff();
    let model = config.model.build(shape, 0, &device).unwrap();
    let exported = ddpm_unet::params::export(&model).into_iter();
    let weights = exported.map(|(name, data)| {
        let shape = data.shape().to_vec();
        (
            name,
            shape,
            data.iter::<f32>().map(|x| x * factor).collect(),
        )
    });
    let weights: Vec<_> = weights.collect();
    TrainState::new(ddpm_unet::params::load(model, weights).unwrap())
}

#[test]
fn replicas_that_diverge_are_found() {
    for (factor, expected) in [
        (1.0, Some(true)),
        (1.0 + 1e-6, Some(false)),
        (1.01, None),
        (f32::NAN, None),
    ] {
        let found = on_ranks(3, |mut ranks| {
            let own = match ranks.rank() {
                2 => factor,
                _ => 1.0,
            };
            replicas::check(&mut ranks, &stretched(own))
        });
        for (rank, found) in found.into_iter().enumerate() {
            match (found, rank) {
                (
                    Err(TrainError::ReplicaDiverged {
                        rank: 2, step: 0, ..
                    }),
                    2,
                )
                | (
                    Err(TrainError::OtherRank {
                        rank: 2,
                        kind: Fault::Device,
                        ..
                    }),
                    0 | 1,
                ) => {
                    assert_eq!(expected, None);
                }
                (found, _) => assert_eq!(Some(found.unwrap()), expected, "{factor}"),
            }
        }
    }
}

/// What GPUs do among themselves, for two threads: the second to come adds up, the first waits for it.
fn meet_and_add(tensor: Tensor<1>, devices: &[Device]) -> Tensor<1> {
    use std::sync::Barrier;
    static MEETING: (Mutex<Vec<Vec<f32>>>, Barrier) = (Mutex::new(Vec::new()), Barrier::new(2));
    assert_eq!(devices.len(), 2);
    let (given, everyone) = &MEETING;
    let device = tensor.device();
    given.lock().unwrap().push(read(tensor).unwrap());
    everyone.wait();
    let sum: Vec<f32> = match &given.lock().unwrap()[..] {
        [a, b] => a.iter().zip(b).map(|(a, b)| a + b).collect(),
        other => panic!("{} met", other.len()),
    };
    if everyone.wait().is_leader() {
        given.lock().unwrap().clear();
    }
    everyone.wait();
    Tensor::from_floats(sum.as_slice(), &device)
}

/// Two numbers have one sum, whoever adds them.
#[test]
fn gpus_that_sum_among_themselves_sum_as_the_host_does() {
    let devices = [Device::flex(), Device::flex()];
    let threads = |sum| GpuSum::Threads(ThreadGpus::by(&devices, sum));
    let found = on_ranks(2, |mut ranks| {
        let gpus = threads(meet_and_add);
        gpus.rehearse(&mut ranks, &Device::flex()).unwrap();
        let on_gpus = GradientSum {
            gpus: Some(gpus),
            ..summing(Reduction::Fast, 2)
        };
        summed(ranks, &on_gpus)
    });
    let expected = on_ranks(2, |rank| summed(rank, &summing(Reduction::Fast, 2)));
    assert_eq!(found, expected);
    // What does not add up is not relied on.
    let refused = on_ranks(2, |mut ranks| {
        let rehearsed = threads(|own, _| own).rehearse(&mut ranks, &Device::flex());
        rehearsed.unwrap_err().to_string()
    });
    assert!(refused[0].contains("is wrong"), "{refused:?}");
}

/// GPUs of processes, as threads with tensors of the CPU play them.
#[derive(Debug)]
struct Played(RefCell<Threads>);

impl Played {
    fn call(
        &self,
        own: Tensor<1>,
        call: impl FnOnce(&mut Threads, Vec<f32>) -> Result<Vec<f32>, TrainError>,
    ) -> Result<Tensor<1>, NcclError> {
        let device = own.device();
        let found = call(&mut self.0.borrow_mut(), read(own).unwrap()).unwrap();
        Ok(Tensor::from_floats(found.as_slice(), &device))
    }
}

impl GpuTransport for Played {
    fn all_to_all(&self, send: Tensor<1>, _: Duration) -> Result<Tensor<1>, NcclError> {
        self.call(send, Threads::all_to_all)
    }

    fn all_gather(&self, own: Tensor<1>, _: Duration) -> Result<Tensor<1>, NcclError> {
        self.call(own, Threads::all_gather)
    }

    fn all_reduce(&self, own: Tensor<1>, _: Duration) -> Result<Tensor<1>, NcclError> {
        self.call(own, Threads::all_reduce)
    }
}

#[test]
fn gpus_of_processes_sum_along_the_tree_to_the_bits_of_the_host() {
    for micro_batches in [2, 3, 6, 8] {
        let expected = &on_ranks(1, |rank| {
            summed(rank, &summing(Reduction::Tree, micro_batches))
        })[0];
        for size in 2..=micro_batches {
            // Numbers that travel at once, of five.
            for bucket in [1, 3, 100] {
                let others = Threads::of(&vec![Device::flex(); size]).into_iter();
                let others = Mutex::new(others.map(Some).collect::<Vec<_>>());
                let found = on_ranks(size, |mut ranks| {
                    let place = others.lock().unwrap()[ranks.rank()].take().unwrap();
                    let transport = Box::new(Played(RefCell::new(place)));
                    let gpus = GpuSum::Processes(ProcessGpus::by(transport, Duration::MAX, bucket));
                    gpus.rehearse(&mut ranks, &Device::flex()).unwrap();
                    let on_gpus = GradientSum {
                        gpus: Some(gpus),
                        ..summing(Reduction::Tree, micro_batches)
                    };
                    summed(ranks, &on_gpus)
                });
                for found in found {
                    assert_eq!(found, *expected, "{size} of {micro_batches}, {bucket}");
                }
            }
        }
    }
}

#[test]
fn ranks_without_nvidia_gpus_sum_on_the_host() {
    let found = on_ranks(2, |mut ranks| {
        let device = Device::flex();
        assert!(ProcessGpus::join(&mut ranks, &device).unwrap().is_none());
        // One rank without is enough.
        let gpu = match ranks.rank() {
            0 => Ok([0; 16]),
            _ => Err(NcclError::NoGpu),
        };
        let joined = ProcessGpus::try_join(&mut ranks, &device, gpu);
        joined.unwrap_err().to_string()
    });
    assert!(found[0].starts_with("rank 1: "), "{found:?}");
    for said in found {
        assert!(said.contains("is not an NVIDIA GPU"), "{said}");
    }
}
