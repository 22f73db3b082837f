use std::fs::{self, OpenOptions};

use serde_json::json;

use super::*;
use crate::diffusers::DiffusersModel;

fn tensor(name: &str, seed: u64) -> NamedTensor {
    let data = (0..6).map(|k| (seed * 10 + k) as f32 / 7.0).collect();
    NamedTensor {
        name: name.to_owned(),
        shape: vec![2, 3],
        data,
    }
}

pub(super) fn checkpoint(step: u64) -> Checkpoint {
    Checkpoint {
        step,
        images_seen: step * 32,
        config_hash: "c0ffee".to_owned(),
        metrics_bytes: step * 100,
        weights: vec![
            tensor("conv_in.weight", step),
            tensor("conv_out.weight", step + 1),
        ],
        ema: vec![
            tensor("conv_in.weight", step + 2),
            tensor("conv_out.weight", step + 3),
        ],
        optimiser: vec![tensor("exp_avg/conv_in.weight", step + 4)],
        state: json!({"step": step, "skipped": []}),
        config: json!({"_class_name": "UNet2DModel", "sample_size": 8}),
        scheduler: Some(json!({"_class_name": "DDIMScheduler", "steps_offset": 1})),
    }
}

pub(super) struct Run {
    pub(super) _root: tempfile::TempDir,
    pub(super) writer: RunWriter,
}

pub(super) fn run_with(steps: &[u64]) -> Run {
    let root = tempfile::tempdir().unwrap();
    let writer = RunDir::create(root.path().join("a")).unwrap();
    writer.write_config("seed = 0").unwrap();
    for &step in steps {
        save(&writer, &checkpoint(step)).unwrap();
    }
    Run {
        _root: root,
        writer,
    }
}

fn steps(run: &RunDir) -> Vec<u64> {
    list(run).unwrap().iter().map(|info| info.step).collect()
}

pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in disk::read_dir_sorted(directory).unwrap() {
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

#[test]
fn a_checkpoint_comes_back_and_is_a_model_directory() {
    let run = run_with(&[]);
    let saved = checkpoint(1200);
    let path = save(&run.writer, &saved).unwrap();
    assert_eq!(path, run.writer.checkpoint(1200));
    assert_eq!(load(&path).unwrap(), saved);
    let found = load_for_sampling(&path, Weights::Ema).unwrap();
    assert_eq!(
        (found.step, &found.state, &found.config, &found.weights),
        (1200, &saved.state, &saved.config, &saved.ema)
    );
    let summary = verify(&path).unwrap();
    assert_eq!(
        (summary.step, summary.images_seen, summary.metrics_bytes),
        (1200, 38_400, 120_000)
    );
    assert!(summary.has_ema);
    let model = DiffusersModel::read(&path).unwrap();
    assert_eq!(model.tensors.tensors, saved.weights);
    assert_eq!(model.scheduler.unwrap().class(), "DDIMScheduler");
    let names: Vec<_> = disk::read_dir_sorted(&run.writer.checkpoints()).unwrap();
    assert_eq!(names, [path]);

    let bare = Checkpoint {
        ema: vec![],
        optimiser: vec![],
        scheduler: None,
        ..checkpoint(1300)
    };
    let path = save(&run.writer, &bare).unwrap();
    assert_eq!(load(&path).unwrap(), bare);
    assert_eq!(
        load_for_sampling(&path, Weights::Ema).unwrap().weights,
        bare.weights
    );
    assert!(!path.join("ema").exists());
}

#[test]
fn a_checkpoint_outside_of_a_run_takes_no_place_that_is_taken() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("models/average");
    let model = Checkpoint {
        ema: vec![],
        optimiser: vec![],
        ..checkpoint(7)
    };
    export(&path, &model).unwrap();
    assert_eq!(load(&path).unwrap(), model);
    let found = load_for_sampling(&path, Weights::Ema).unwrap();
    assert!(!found.averaged && found.weights == model.weights);
    let refused = export(&path, &checkpoint(8)).unwrap_err();
    assert!(matches!(refused, StoreError::Occupied { .. }));
    assert_eq!(load(&path).unwrap(), model);
}

#[test]
fn equal_checkpoints_have_equal_bytes() {
    let (a, b) = (run_with(&[5]), run_with(&[5]));
    let (a, b) = (a.writer.checkpoint(5), b.writer.checkpoint(5));
    for file in files(&a) {
        let other = b.join(file.strip_prefix(&a).unwrap());
        assert_eq!(
            fs::read(&file).unwrap(),
            fs::read(&other).unwrap(),
            "{}",
            file.display()
        );
    }
}

#[test]
fn every_cut_of_every_file_is_detected() {
    let run = run_with(&[10, 20]);
    let path = run.writer.checkpoint(20);
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        for part in 0..64 {
            fs::write(&file, &whole[..whole.len() * part / 64]).unwrap();
            let error = load(&path).unwrap_err();
            assert!(
                matches!(
                    &error,
                    StoreError::Checkpoint {
                        instead: Instead::Step(10),
                        ..
                    }
                ),
                "{}: {part}/64: {error}",
                file.display()
            );
            let message = error.to_string();
            let name = file.file_name().unwrap().to_str().unwrap();
            assert!(
                message.contains(name) && message.contains("--from 10"),
                "{message}"
            );
        }
        assert_eq!(
            latest_valid(&run.writer).unwrap(),
            Some(run.writer.checkpoint(10))
        );
        fs::write(&file, &whole).unwrap();
    }
    assert_eq!(latest_valid(&run.writer).unwrap(), Some(path));
}

#[test]
fn every_flipped_bit_is_detected() {
    let run = run_with(&[10]);
    let path = run.writer.checkpoint(10);
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        // Odd strides meet every bit of a byte; closest in the manifest, which guards itself.
        let stride = if file.ends_with(MANIFEST) { 3 } else { 61 };
        for bit in (0..whole.len() * 8).step_by(stride) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, &bytes).unwrap();
            let error = verify(&path).expect_err("a flipped bit");
            assert!(
                matches!(
                    error,
                    StoreError::Checkpoint { .. } | StoreError::Schema { .. }
                ),
                "{} bit {bit}: {error}",
                file.display()
            );
        }
        fs::write(&file, &whole).unwrap();
    }
    verify(&path).unwrap();
}

#[test]
fn missing_mixed_and_future_ones_are_refused_by_cause() {
    let run = run_with(&[10, 20]);
    let path = run.writer.checkpoint(20);
    let refused = |expected: &str| {
        let message = load(&path).unwrap_err().to_string();
        assert!(
            message.contains("step-20") && message.contains(expected),
            "{message}"
        );
    };
    for file in files(&path) {
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        refused("is missing");
        fs::write(&file, bytes).unwrap();
    }
    // The manifest, then the weights of another step.
    for name in [MANIFEST, WEIGHTS[1]] {
        let bytes = fs::read(path.join(name)).unwrap();
        fs::copy(run.writer.checkpoint(10).join(name), path.join(name)).unwrap();
        refused(if name == MANIFEST {
            "belongs to step 10"
        } else {
            "checksum of unet/"
        });
        fs::write(path.join(name), bytes).unwrap();
    }
    let text = fs::read_to_string(path.join(MANIFEST)).unwrap();
    for (from, to, expected) in [
        ("\"schema\": 1", "\"schema\": 7", "schema 7"),
        (
            "\"images_seen\": 640",
            "\"images_seen\": 641",
            "was altered",
        ),
        ("\"state.json\"", "\"../state.json\"", "was altered"),
        ("{", "{ \"extra\": 1,", "extra"),
    ] {
        fs::write(path.join(MANIFEST), text.replacen(from, to, 1)).unwrap();
        refused(expected);
    }
}

#[test]
fn a_sealed_manifest_may_still_not_point_elsewhere() {
    let run = run_with(&[10]);
    let path = run.writer.checkpoint(10);
    let manifest = Manifest::read(&path).unwrap();
    let text = String::from_utf8(manifest.to_bytes(&path).unwrap()).unwrap();
    for (from, to, expected) in [
        ("state.json", "stat.json", "does not list state.json"),
        ("ema/config.json", "../x", "lies elsewhere"),
    ] {
        let mut value: Manifest = serde_json::from_str(&text.replace(from, to)).unwrap();
        value = serde_json::from_slice(&value.to_bytes(&path).unwrap()).unwrap();
        fs::write(path.join(MANIFEST), value.to_bytes(&path).unwrap()).unwrap();
        let message = verify(&path).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

/// What a damaged checkpoint's error says is what happens next.
#[test]
fn the_advice_is_what_there_is() {
    let message = |run: &Run, step| load(&run.writer.checkpoint(step)).unwrap_err().to_string();
    let damage =
        |run: &Run, step| fs::remove_file(run.writer.checkpoint(step).join(STATE)).unwrap();
    let nothing = "state.json is missing; there is no sound checkpoint beside it";

    let alone = run_with(&[10]);
    damage(&alone, 10);
    assert!(message(&alone, 10).contains(nothing));
    let refused = latest_valid(&alone.writer).unwrap_err().to_string();
    assert!(
        refused.contains("step-10") && refused.contains(nothing),
        "{refused}"
    );
    let problem = list(&alone.writer)
        .unwrap()
        .remove(0)
        .problem
        .unwrap()
        .to_string();
    assert!(problem.ends_with("state.json is missing"), "{problem}");
    assert_eq!(latest_valid(&run_with(&[]).writer).unwrap(), None);

    // The newest before it, and only without one the newest after it.
    let run = run_with(&[10, 20, 30, 40, 50]);
    for (step, sound) in [(30, 20), (20, 10), (10, 50)] {
        damage(&run, step);
        let said = message(&run, step);
        let expected = format!(
            "; step-{sound} beside it is sound: name that one, or resume with --from {sound}"
        );
        assert!(said.ends_with(&expected), "{said}");
    }
    // Nobody is told that there is nothing while there is something.
    damage(&run, 50);
    assert_eq!(
        latest_valid(&run.writer).unwrap(),
        Some(run.writer.checkpoint(40))
    );
    let unsought = verify(&run.writer.checkpoint(50)).unwrap_err().to_string();
    assert!(
        unsought.ends_with("step-50: state.json is missing"),
        "{unsought}"
    );
}

#[test]
fn steps_are_ordered_as_numbers_and_foreign_names_are_passed_over() {
    let run = run_with(&[900, 1000, 90]);
    for name in ["step-x", "step-007", "notes", ".tmp-step-5-1"] {
        fs::create_dir(run.writer.checkpoints().join(name)).unwrap();
    }
    assert_eq!(steps(&run.writer), [90, 900, 1000]);
    assert_eq!(
        latest_valid(&run.writer).unwrap(),
        Some(run.writer.checkpoint(1000))
    );
}

#[test]
fn saving_again_keeps_an_equal_one_and_replaces_another() {
    let run = run_with(&[10]);
    let path = run.writer.checkpoint(10);
    let modified = || {
        fs::metadata(path.join(MANIFEST))
            .unwrap()
            .modified()
            .unwrap()
    };
    let before = modified();
    save(&run.writer, &checkpoint(10)).unwrap();
    assert_eq!(modified(), before);

    let other = Checkpoint {
        state: json!({"another": "try"}),
        ..checkpoint(10)
    };
    save(&run.writer, &other).unwrap();
    assert_eq!(load(&path).unwrap(), other);

    OpenOptions::new()
        .write(true)
        .open(path.join(OPTIMISER))
        .unwrap()
        .set_len(5)
        .unwrap();
    save(&run.writer, &other).unwrap();
    assert_eq!(load(&path).unwrap(), other);
    assert_eq!(
        disk::read_dir_sorted(&run.writer.checkpoints()).unwrap(),
        [path]
    );
}

#[test]
fn a_failed_save_leaves_the_earlier_ones_and_no_rest() {
    let run = run_with(&[10]);
    let twice = vec![tensor("a", 1), tensor("a", 2)];
    let failed = save(
        &run.writer,
        &Checkpoint {
            optimiser: twice,
            ..checkpoint(20)
        },
    );
    assert!(matches!(failed, Err(StoreError::Tensor { .. })));
    let names = disk::read_dir_sorted(&run.writer.checkpoints()).unwrap();
    assert_eq!(names, [run.writer.checkpoint(10)]);
}

/// Keeps the newest `keep` and no others.
fn newest(keep: usize) -> Retention {
    Retention {
        keep,
        keep_every: 0,
        best: None,
    }
}

#[test]
fn retention_keeps_the_newest_and_never_the_damaged_instead() {
    let run = run_with(&[10, 20, 30, 40]);
    assert_eq!(
        prune(&run.writer, newest(9), 40).unwrap(),
        Vec::<PathBuf>::new()
    );
    let removed = prune(&run.writer, newest(3), 40).unwrap();
    assert_eq!(removed, [run.writer.checkpoint(10)]);
    fs::remove_file(run.writer.checkpoint(30).join(STATE)).unwrap();
    prune(&run.writer, newest(2), 40).unwrap();
    assert_eq!(steps(&run.writer), [20, 30, 40]);
    prune(&run.writer, newest(0), 40).unwrap();
    assert_eq!(steps(&run.writer), [40]);
    assert_eq!(
        files(&run.writer.checkpoints()).len(),
        files(&run.writer.checkpoint(40)).len()
    );
}

#[test]
fn retention_keeps_multiples_for_good() {
    let run = run_with(&[10, 20, 30, 40, 50]);
    let retention = Retention {
        keep: 1,
        keep_every: 20,
        best: None,
    };
    prune(&run.writer, retention, 50).unwrap();
    assert_eq!(steps(&run.writer), [20, 40, 50]);
}

#[test]
fn retention_stops_if_the_newest_does_not_verify() {
    let run = run_with(&[10, 20, 30]);
    let weights = run.writer.checkpoint(30).join(WEIGHTS[1]);
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let message = prune(&run.writer, newest(1), 30).unwrap_err().to_string();
    assert!(message.contains("--from 20"), "{message}");
    assert_eq!(steps(&run.writer), [10, 20, 30]);
}

/// Training fell back to 20 because 30 is damaged, and has come to 25: 30 is neither trusted nor in the way.
#[test]
fn retention_passes_over_what_lies_ahead() {
    let run = run_with(&[10, 20, 25, 30]);
    fs::remove_file(run.writer.checkpoint(30).join(STATE)).unwrap();
    prune(&run.writer, newest(1), 25).unwrap();
    assert_eq!(steps(&run.writer), [25, 30]);
    assert_eq!(
        remove_damaged(&run.writer).unwrap(),
        [run.writer.checkpoint(30)]
    );
    fs::remove_file(run.writer.checkpoint(25).join(STATE)).unwrap();
    assert_eq!(remove_damaged(&run.writer).unwrap(), Vec::<PathBuf>::new());
}

#[test]
fn going_back_on_purpose_moves_the_later_ones_away() {
    let run = run_with(&[10, 20, 30]);
    let missing = at_step(&run.writer, 15).unwrap_err().to_string();
    assert!(missing.contains("10, 20, 30"), "{missing}");
    assert_eq!(at_step(&run.writer, 10).unwrap(), run.writer.checkpoint(10));
    assert_eq!(supersede(&run.writer, 10).unwrap(), 2);
    assert_eq!(steps(&run.writer), [10]);
    verify(&run.writer.superseded().join("step-30")).unwrap();
    // A second time, over what is there already.
    save(&run.writer, &checkpoint(20)).unwrap();
    assert_eq!(supersede(&run.writer, 10).unwrap(), 1);
    assert_eq!(remove_superseded(&run.writer).unwrap().len(), 2);
    assert!(!run.writer.superseded().exists());
    assert_eq!(remove_superseded(&run.writer).unwrap().len(), 0);
}

#[test]
fn a_start_sweeps_what_a_crash_left() {
    let run = run_with(&[10, 20]);
    let path = run.writer.path().to_owned();
    let checkpoints = run.writer.checkpoints();
    fs::create_dir_all(checkpoints.join(".tmp-step-30-77/unet")).unwrap();
    // Killed between moving step 20 aside and giving its name to the new one.
    fs::rename(
        checkpoints.join("step-20"),
        checkpoints.join(".replaced-step-20"),
    )
    .unwrap();
    // Killed after that, before the old one was removed.
    fs::create_dir_all(checkpoints.join(".replaced-step-10")).unwrap();
    let Run { _root, writer } = run;
    drop(writer);
    let writer = RunDir::resume(&path).unwrap();
    let names = disk::read_dir_sorted(&checkpoints).unwrap();
    assert_eq!(names, [writer.checkpoint(10), writer.checkpoint(20)]);
    assert_eq!(load(&writer.checkpoint(20)).unwrap(), checkpoint(20));
}

/// The order that makes a checkpoint survive a loss of power at any moment, which no kill of a process can show:
/// whatever a rename reveals has been forced onto the medium before it, and the name itself after it.
#[cfg(feature = "faults")]
#[test]
fn everything_is_on_the_medium_before_it_gets_its_name() {
    use crate::faults::{Change, Seam, Verdict, install};
    use std::sync::{Arc, Mutex};

    struct Listing(Arc<Mutex<Vec<(Change, PathBuf)>>>);
    impl Seam for Listing {
        fn before(&self, _number: u64, change: Change, path: &Path) -> Verdict {
            self.0.lock().unwrap().push((change, path.to_owned()));
            Verdict::Pass
        }
    }

    let run = run_with(&[10]);
    let changes = Arc::new(Mutex::new(Vec::new()));
    let installed = install(Box::new(Listing(changes.clone())));
    save(&run.writer, &checkpoint(20)).unwrap();
    drop(installed);
    let changes = changes.lock().unwrap();
    let checkpoints = run.writer.checkpoints();
    let staging = checkpoints.join(format!(".tmp-step-20-{}", std::process::id()));
    let last = |change: Change, path: &Path| {
        let found = changes.iter().rposition(|(c, p)| *c == change && p == path);
        found.unwrap_or_else(|| panic!("no {} of {}", change.name(), path.display()))
    };
    let renamed = last(Change::Rename, &run.writer.checkpoint(20));
    let committed = files(&run.writer.checkpoint(20));
    assert_eq!(committed.len(), 9);
    let manifest_begun = last(Change::Create, &staging.join(MANIFEST));
    for file in committed {
        let staged = staging.join(file.strip_prefix(run.writer.checkpoint(20)).unwrap());
        let (written, synced) = (last(Change::Write, &staged), last(Change::Sync, &staged));
        assert!(written < synced && synced < renamed, "{}", staged.display());
        let name_synced = last(Change::SyncDir, staged.parent().unwrap());
        assert!(
            synced < name_synced && name_synced < renamed,
            "{}",
            staged.display()
        );
        assert!(synced < manifest_begun || staged.ends_with(MANIFEST));
    }
    assert!(last(Change::SyncDir, &checkpoints) > renamed);
}

/// The disk fails at each change of a save in turn: the earlier checkpoint stays the newest, or the new one is whole.
#[cfg(feature = "faults")]
#[test]
fn a_save_that_fails_anywhere_leaves_one_sound_checkpoint_or_the_other() {
    use crate::faults::{Failing, Lasting, install};
    for lasting in [Lasting::Once, Lasting::ForGood] {
        let mut at = 0;
        loop {
            at += 1;
            let run = run_with(&[10]);
            let failing = Failing {
                at,
                os_error: 28,
                lasting,
            };
            let installed = install(Box::new(failing));
            let saved = save(&run.writer, &checkpoint(20));
            drop(installed);
            let newest = latest_valid(&run.writer).unwrap().unwrap();
            if let Ok(path) = saved {
                assert_eq!(newest, path);
                assert!(at > 25, "only {at} changes");
                break;
            }
            assert!(matches!(saved, Err(StoreError::Io { .. })), "{saved:?}");
            // After the rename the new one is there, and only its name may be lost with the power.
            assert!(
                [10, 20]
                    .map(|step| run.writer.checkpoint(step))
                    .contains(&newest)
            );
            let Run { _root, writer } = run;
            let path = writer.path().to_owned();
            drop(writer);
            let writer = RunDir::resume(&path).unwrap();
            let left = disk::read_dir_sorted(&writer.checkpoints()).unwrap();
            assert!(left.iter().all(|path| step_of(path).is_some()), "{left:?}");
        }
    }
}
