//! Ranks on the processor, in one thread and in several: what the run-level tests cannot see or bring about.

use std::sync::{Arc, Barrier, Mutex};

use burn::tensor::Tensor;
use ddpm_data::{Dataset, Loader, LoaderConfig};
use ddpm_unet::params;

use super::*;
use crate::config::Validated;
use crate::ema::SigmaRels;
use crate::guard::{Cause, Guard, Verdict};
use crate::snapshot::Progress;
use crate::state::read;
use crate::trainer::model_shape;

/// A run of `count` ranks, at its start.
struct Run {
    ranks: Ranks,
    state: TrainState,
    saved: SavedState,
    loader: Loader,
    guard: Guard,
}

/// Everything that two runs can differ in: weights, averages, moments, losses and norms, as bits.
#[derive(Debug, PartialEq)]
struct Trace {
    weights: Vec<Vec<u8>>,
    slots: Vec<Vec<u8>>,
    steps: Vec<Step>,
}

/// Loss, norm, and time and loss of each image.
type Step = (u64, u64, Vec<(u64, u32)>);

fn start(count: usize, accumulate: usize, threads: bool) -> Run {
    start_on(Device::flex(), count, accumulate, threads, true)
}

fn start_on(device: Device, count: usize, accumulate: usize, threads: bool, record: bool) -> Run {
    let mut config = crate::testing::tiny(0.2);
    config.ema.power_function = SigmaRels::new(&[0.05, 0.1]).unwrap();
    config.train.batch = 12;
    config.train.accumulate = accumulate;
    let Validated {
        config,
        process,
        objective,
        ..
    } = config.validate().unwrap();
    let dataset = Arc::new(Dataset::load(&config.data, 0, &mut |_, _| {}).unwrap());
    let shape = model_shape(&config, &dataset);
    let recipe = Recipe {
        seed: config.seed,
        process,
        objective,
        optim: config.optim,
        ema: config.ema,
        total_steps: 10,
        precision: config.train.precision,
        recompute: false,
        record,
    };
    let devices = vec![device.clone(); count];
    let mut ranks = Ranks::with_threads(&devices, &config, &recipe, |_, _| threads).unwrap();
    let model = config
        .model
        .build(shape, config.seed, &device.autodiff())
        .unwrap();
    let state = TrainState::new(model).tracking(&config.ema.power_function);
    let loader = LoaderConfig {
        seed: config.seed,
        batch: config.train.batch,
        ..LoaderConfig::default()
    };
    let loader = Loader::new(dataset, loader).unwrap();
    let saved = SavedState {
        config,
        channels: shape.channels,
        height: shape.height,
        width: shape.width,
        data: None,
        progress: Progress::default(),
    };
    ranks.mirror(&state, &saved).unwrap();
    Run {
        ranks,
        state,
        saved,
        loader,
        guard: Guard::default(),
    }
}

impl Run {
    /// Goes on by some steps; in those of `spoiled` the last pixel of the batch is none.
    fn go(mut self, steps: u64, spoiled: &[u64]) -> (Self, Trace) {
        let mut trace = Vec::new();
        for _ in 0..steps {
            let mut batch = self.loader.next().unwrap();
            if spoiled.contains(&(self.state.step + 1)) {
                *batch.pixels.last_mut().unwrap() = f32::NAN;
            }
            let underway = self.ranks.compute(&self.state, &Arc::new(batch)).unwrap();
            let computed = underway.wait().unwrap();
            let (loss, norm) = (computed.loss, computed.grad_norm);
            let images = computed
                .per_image
                .iter()
                .map(|&(t, x)| (t.to_bits(), x.to_bits()));
            trace.push((loss.to_bits(), norm.to_bits(), images.collect()));
            self.state = match self.guard.judge(&self.saved.config.guard, loss, norm) {
                Verdict::Update { max_norm } => self.ranks.update(self.state, computed, max_norm).0,
                Verdict::Skip(cause) => {
                    assert_eq!(cause, Cause::Loss);
                    self.ranks.skip(self.state, computed)
                }
            };
        }
        let trace = Trace {
            weights: bytes(&self.state),
            slots: slots(&self.state),
            steps: trace,
        };
        (self, trace)
    }
}

fn bytes(state: &TrainState) -> Vec<Vec<u8>> {
    let exported = params::export(&state.model).into_iter();
    exported.map(|(_, data)| data.as_bytes().to_vec()).collect()
}

fn slots(state: &TrainState) -> Vec<Vec<u8>> {
    let each = state.slots.iter();
    let tracked = state.tracked.iter().flat_map(|average| &average.values);
    each.flat_map(|slot| [&slot.exp_avg, &slot.exp_avg_sq, &slot.ema])
        .chain(tracked)
        .map(|tensor| tensor.to_data().as_bytes().to_vec())
        .collect()
}

/// Every rank's position, weights and slots are rank 0's.
#[track_caller]
fn assert_all_equal(run: &mut Run) {
    let expected = (
        bytes(&run.state),
        slots(&run.state),
        (run.state.step, run.state.images_seen, run.state.updates),
    );
    for peer in &mut run.ranks.peers {
        let found = peer.ask(|seat| {
            let state = seat.state.as_ref().unwrap();
            let position = (state.step, state.images_seen, state.updates);
            (bytes(state), slots(state), position)
        });
        assert!(found.wait() == expected);
    }
}

/// Dropout and a step whose images are broken on one rank included.
#[test]
fn ranks_are_the_parts_of_a_batch_bit_for_bit() {
    for count in [2, 3, 4] {
        let (_, expected) = start(1, count, false).go(4, &[2]);
        for threads in [false, true] {
            let (mut run, found) = start(count, 1, threads).go(4, &[2]);
            assert!(found == expected, "{count} ranks, threads: {threads}");
            assert_eq!((run.state.step, run.state.updates), (4, 3));
            assert_eq!(run.state.images_seen, 48);
            assert_all_equal(&mut run);
        }
    }
}

#[test]
fn threads_change_no_bit_with_accumulation() {
    let (_, once) = start(2, 3, true).go(3, &[]);
    let (mut run, again) = start(2, 3, true).go(3, &[]);
    assert!(once == again);
    assert!(start(2, 3, false).go(3, &[]).1 == once);
    assert_all_equal(&mut run);
}

/// Each rank replays its own recording, the one of a step before which an update was left out too.
#[cfg(feature = "wgpu")]
#[test]
#[ignore = "needs a GPU, or Vulkan in software"]
fn ranks_on_a_card_do_what_they_recorded() {
    use burn::tensor::DeviceKind;
    let start = |record| start_on(Device::wgpu(DeviceKind::Cpu), 2, 1, true, record);
    let (_, expected) = start(false).go(5, &[1]);
    let (mut run, found) = start(true).go(5, &[1]);
    assert!(found == expected);
    assert_all_equal(&mut run);
    assert!(run.state.recorder.borrow().replays().is_ok());
    for peer in &mut run.ranks.peers {
        let answer = peer.ask(|seat| {
            seat.state
                .as_ref()
                .unwrap()
                .recorder
                .borrow()
                .replays()
                .is_ok()
        });
        assert!(answer.wait());
    }
}

#[test]
fn a_step_left_out_moves_no_rank() {
    let mut run = start(3, 1, true);
    let before = (bytes(&run.state), slots(&run.state));
    (run, _) = run.go(2, &[1, 2]);
    assert!((bytes(&run.state), slots(&run.state)) == before);
    assert_all_equal(&mut run);
}

/// Multiplies a peer's weights.
fn stretch(run: &mut Run, peer: usize, factor: f32) {
    let stretched = run.ranks.peers[peer].ask(move |seat| {
        let mut state = seat.state.take().unwrap();
        let exported = params::export(&state.model).into_iter();
        let weights = exported.map(|(name, data)| {
            let shape = data.shape().to_vec();
            let data = data.iter::<f32>().map(|x| x * factor).collect();
            (name, shape, data)
        });
        state.model = params::load(state.model, weights.collect::<Vec<_>>()).unwrap();
        seat.state = Some(state);
    });
    stretched.wait();
}

#[test]
fn ranks_that_come_apart_are_found() {
    for threads in [false, true] {
        let (mut run, _) = start(3, 1, threads).go(1, &[]);
        let saved = run.saved.clone();
        run.ranks.agree(&run.state, &saved).unwrap();
        // What rounding can do is taken back.
        stretch(&mut run, 1, 1.0 + 1e-6);
        run.ranks.agree(&run.state, &saved).unwrap();
        assert_all_equal(&mut run);
        for factor in [1.01, f32::NAN] {
            stretch(&mut run, 1, factor);
            let error = run.ranks.agree(&run.state, &saved).unwrap_err();
            assert!(
                matches!(
                    error,
                    TrainError::Apart {
                        device: 3,
                        step: 1,
                        ..
                    }
                ),
                "{error}"
            );
            run.ranks.mirror(&run.state, &saved).unwrap();
        }
    }
}

/// What cards do among themselves, for two threads: the second to come adds up, the first waits for it.
fn meet_and_add(tensor: Tensor<1>, devices: &[Device]) -> Tensor<1> {
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

/// The steps of devices that add up among themselves are those of the host, for two numbers have one sum.
#[test]
fn devices_that_meet_for_the_sum_do_what_the_host_does() {
    let mut run = start(2, 2, true);
    let devices = [Device::flex(), Device::flex()];
    run.ranks.reduction = Reduction::among(&devices, meet_and_add, &mut run.ranks.peers);
    assert!(matches!(run.ranks.reduction, Reduction::OnDevices(_)));
    let (mut run, found) = run.go(4, &[2]);
    assert!(found == start(2, 2, true).go(4, &[2]).1);
    assert_all_equal(&mut run);
    run.ranks.peers[0].tell(|seat| seat.state = None);
    let batch = Arc::new(run.loader.next().unwrap());
    assert!(run.ranks.compute(&run.state, &batch).is_err());
}

/// What does not add up is not relied on.
#[test]
fn devices_that_fail_the_test_leave_the_sum_to_the_host() {
    let mut run = start(3, 1, true);
    let devices = vec![Device::flex(); 3];
    let reduction = Reduction::among(&devices, |own, _| own, &mut run.ranks.peers);
    assert!(matches!(reduction, Reduction::OnHost));
}

/// An error of one rank is that of the step, and the others are not left waiting.
#[test]
fn a_rank_that_fails_fails_the_step() {
    let mut run = start(3, 1, true);
    run.ranks.peers[1].tell(|seat| seat.state = None);
    let batch = Arc::new(run.loader.next().unwrap());
    let error = run.ranks.compute(&run.state, &batch).unwrap_err();
    assert!(matches!(error, TrainError::Device { .. }), "{error}");
}

#[test]
fn a_panic_of_a_rank_goes_on_where_it_is_waited_for() {
    let mut run = start(2, 1, true);
    let answer = run.ranks.peers[0].ask(|seat| {
        seat.state = None;
        assert!(seat.state.is_some(), "on purpose");
    });
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer.wait()));
    assert!(caught.is_err());
    // And so does what is asked of a thread that is gone.
    let answer = run.ranks.peers[0].ask(|_| ());
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| answer.wait()));
    assert!(caught.is_err());
}

#[test]
fn a_batch_that_does_not_come_out_even_is_refused() {
    let mut config = Config::default();
    config.train.batch = 12;
    check_devices(&config, 4).unwrap();
    config.train.accumulate = 2;
    check_devices(&config, 3).unwrap();
    let error = check_devices(&config, 4).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`train.batch` = 12: --devices names 4 devices with `train.accumulate` = 2 parts each, so it must be a \
         multiple of 8"
    );
    assert!(check_devices(&config, 0).is_err());
    assert!(check_devices(&config, usize::MAX).is_err());
}
