//! A loss of power at every moment of a commit: what was not forced onto the medium is gone.

use std::fs::{self, File};
use std::io;
use std::sync::{Arc, Mutex};

use super::tests::{Run, checkpoint, files, run_with};
use super::*;
use crate::faults::{Change, Seam, Verdict, install};

/// Lets the first changes happen, lists them, and fails all others, as after the power went.
struct Cut {
    after: u64,
    happened: Arc<Mutex<Vec<(Change, PathBuf)>>>,
}

impl Seam for Cut {
    fn before(&self, number: u64, change: Change, path: &Path) -> Verdict {
        if number > self.after {
            return Verdict::Fail(io::Error::other("the power went"));
        }
        self.happened
            .lock()
            .unwrap()
            .push((change, path.to_owned()));
        Verdict::Pass
    }
}

/// Saves `checkpoint(20)` until the power goes after `after` changes, then takes from the disk what need not have
/// reached it: the contents of files that were not fsynced, and the last `undone` renames in the directory that was
/// not. Returns whether the save was through, and how many renames could be undone.
fn save_and_lose(run: &Run, after: u64, undone: usize) -> (bool, usize) {
    let writer = &run.writer;
    let staging = writer
        .checkpoints()
        .join(format!(".tmp-step-20-{}", std::process::id()));
    let happened = Arc::new(Mutex::new(Vec::new()));
    let installed = install(Box::new(Cut {
        after,
        happened: happened.clone(),
    }));
    let through = save(writer, &checkpoint(20)).is_ok();
    drop(installed);
    let happened = happened.lock().unwrap();

    let target = writer.checkpoint(20);
    let renamed = happened.contains(&(Change::Rename, target.clone()));
    let folder = if renamed { &target } else { &staging };
    for file in files(folder) {
        // It was written under its name in the staging directory.
        let staged = staging.join(file.strip_prefix(folder).unwrap());
        if !happened.contains(&(Change::Sync, staged)) {
            File::create(&file).unwrap();
        }
    }
    let durable = happened
        .iter()
        .rposition(|change| *change == (Change::SyncDir, writer.checkpoints()))
        .map_or(0, |last| last + 1);
    let renames: Vec<&PathBuf> = happened[durable..]
        .iter()
        .filter(|(change, _)| *change == Change::Rename)
        .map(|(_, to)| to)
        .collect();
    for to in renames.iter().rev().take(undone) {
        let from = if **to == target { &staging } else { &target };
        fs::rename(to, from).unwrap();
    }
    (through, renames.len())
}

/// Whatever is lost, the next start finds a sound checkpoint that is the earlier or the new one in whole.
fn survives(prepare: impl Fn() -> Run, may_remain: &[Checkpoint]) {
    let mut moments = 0;
    let mut undone_most = 0;
    for after in 0.. {
        let mut undone = 0;
        loop {
            let run = prepare();
            let (through, possible) = save_and_lose(&run, after, undone);
            let Run { _root, writer } = run;
            let path = writer.path().to_owned();
            drop(writer);
            let writer = RunDir::resume(&path).unwrap();
            let newest = latest_valid(&writer).unwrap().expect("a sound checkpoint");
            let found = load(&newest).unwrap();
            assert!(
                may_remain.contains(&found),
                "after {after} changes, {undone} renames undone: step {}",
                found.step
            );
            moments += 1;
            undone_most = undone_most.max(undone);
            if through {
                assert!(
                    moments > 25 && undone_most > 0,
                    "{moments} moments, {undone_most} undone"
                );
                assert_eq!(found, checkpoint(20));
                return;
            }
            if undone == possible {
                break;
            }
            undone += 1;
        }
    }
}

#[test]
fn a_new_checkpoint() {
    survives(|| run_with(&[10]), &[checkpoint(10), checkpoint(20)]);
}

#[test]
fn one_that_replaces_another() {
    let older = || Checkpoint {
        state: serde_json::json!({"another": "try"}),
        ..checkpoint(20)
    };
    let prepare = || {
        let run = run_with(&[10]);
        save(&run.writer, &older()).unwrap();
        run
    };
    // Step 10 is no answer here: a sound checkpoint of step 20 was there.
    survives(prepare, &[older(), checkpoint(20)]);
}
