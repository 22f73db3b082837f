//! Rows 4, 5 and 6: checkpoints that were cut, altered or mixed up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ddpm_store::{RunDir, checkpoint};

use super::toy;
use super::{Form, Passed};
use crate::Sandbox;

/// A finished toy with all its checkpoints, of which the newest is to be damaged.
struct Damaged {
    place: Sandbox,
    run: RunDir,
    newest: PathBuf,
}

impl Damaged {
    fn new() -> Result<Self> {
        let place = Sandbox::new();
        let begun = toy::end(&mut place.command(toy::begin("run", &["train.keep=9"])))?;
        toy::expect(&begun, 0, &[])?;
        let run = RunDir::open(place.path("run"))?;
        let newest = run.checkpoint(toy::STEPS);
        Ok(Self { place, run, newest })
    }

    fn before(&self) -> PathBuf {
        self.run.checkpoint(toy::STEPS - toy::EVERY)
    }

    /// The newest one must be refused, and the one before it be found instead.
    fn must_be_detected(&self) -> Result<()> {
        ensure!(
            checkpoint::verify(&self.newest).is_err() && checkpoint::load(&self.newest).is_err(),
            "it was not noticed"
        );
        let fallen_back = checkpoint::latest_valid(&self.run)?;
        ensure!(
            fallen_back == Some(self.before()),
            "fell back to {fallen_back:?}"
        );
        Ok(())
    }

    /// What the program says and does about it: as in a resume, and when asked for that very checkpoint.
    fn must_be_said(&self, words: &[&str]) -> Result<()> {
        let verify = ["checkpoint", "verify", "run"];
        let ended = toy::end(&mut self.place.command(verify))?;
        toy::expect(&ended, 4, &[])?;
        let goes_on = format!("goes on from step {}", toy::STEPS - toy::EVERY);
        for word in words.iter().copied().chain(["DAMAGED", &goes_on]) {
            ensure!(
                ended.stdout.contains(word),
                "no `{word}` in: {}",
                ended.stdout
            );
        }
        let sample = ["sample", "--model", "run", "-n", "1", "--grid", "x.png"];
        let ended = toy::end(&mut self.place.command(sample))?;
        toy::expect(&ended, 0, &[])?;
        ensure!(
            ended.stderr.contains("falling back"),
            "nothing was said: {}",
            ended.stderr
        );
        let newest = format!("run/checkpoints/step-{}", toy::STEPS);
        let sample = ["sample", "--model", &newest, "-n", "1", "--grid", "x.png"];
        toy::expect(&toy::end(&mut self.place.command(sample))?, 4, &[&newest])
    }
}

/// Row 4: every file cut at each 64th of its length.
pub fn cuts(_form: Form) -> Result<Passed> {
    const PARTS: usize = 64;
    let damaged = Damaged::new()?;
    let files = toy::files(&damaged.newest)?;
    let mut count = 0;
    for file in &files {
        let whole = fs::read(file)?;
        for part in 0..PARTS {
            fs::write(file, &whole[..whole.len() * part / PARTS])?;
            damaged
                .must_be_detected()
                .with_context(|| format!("{} at {part}/{PARTS}", file.display()))?;
            count += 1;
        }
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        damaged.must_be_said(&[&name])?;
        fs::write(file, &whole)?;
    }
    checkpoint::verify(&damaged.newest)?;
    Ok(Passed {
        count,
        note: format!("{} files", files.len()),
    })
}

/// Row 5: one bit anywhere in the checkpoint is another one.
pub fn bits(form: Form) -> Result<Passed> {
    let damaged = Damaged::new()?;
    let mut files = Vec::new();
    for path in toy::files(&damaged.newest)? {
        let bytes = fs::read(&path)?;
        files.push((path, bytes));
    }
    let total: usize = files.iter().map(|(_, bytes)| bytes.len() * 8).sum();
    let count = form.pick(100, 1000);
    for case in 0..count {
        // Every second one in the small files, which would else hardly be met.
        let few = case % 2 == 1;
        let among: Vec<_> = files
            .iter()
            .filter(|(_, bytes)| !few || bytes.len() < 8192)
            .collect();
        let bits: usize = among.iter().map(|(_, bytes)| bytes.len() * 8).sum();
        let mut bit = (toy::random(5, case) % bits as u64) as usize;
        for (path, bytes) in among {
            if bit >= bytes.len() * 8 {
                bit -= bytes.len() * 8;
                continue;
            }
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(path, &flipped)?;
            let said = || format!("bit {bit} of {}", path.display());
            damaged.must_be_detected().with_context(said)?;
            if case < 4 {
                damaged.must_be_said(&[]).with_context(said)?;
            }
            fs::write(path, bytes)?;
            break;
        }
    }
    checkpoint::verify(&damaged.newest)?;
    Ok(Passed {
        count,
        note: format!("of {total} bits"),
    })
}

/// Row 6: a file that is missing, steps that are mixed, a future schema, another configuration.
pub fn mixed(_form: Form) -> Result<Passed> {
    let damaged = Damaged::new()?;
    let mut count = 0;
    for file in toy::files(&damaged.newest)? {
        let bytes = fs::read(&file)?;
        let within = file.strip_prefix(&damaged.newest)?;
        fs::remove_file(&file)?;
        damaged.must_be_detected()?;
        damaged.must_be_said(&[&within.to_string_lossy(), "missing"])?;
        // That of another step: a checkpoint must be of one moment.
        fs::copy(damaged.before().join(within), &file)?;
        if fs::read(&file)? != bytes {
            damaged
                .must_be_detected()
                .with_context(|| format!("{} of step 50", within.display()))?;
            damaged.must_be_said(&["step"])?;
            count += 1;
        }
        fs::write(&file, bytes)?;
        count += 1;
    }
    let manifest = damaged.newest.join("manifest.json");
    let text = fs::read_to_string(&manifest)?;
    fs::write(
        &manifest,
        text.replacen("\"schema\": 1", "\"schema\": 2", 1),
    )?;
    damaged.must_be_detected()?;
    damaged.must_be_said(&["schema 2", "newer version"])?;
    fs::write(&manifest, &text)?;
    another_configuration(&damaged)?;
    Ok(Passed::times(count + 4))
}

/// A sound checkpoint of another run, and one whose manifest is of another configuration than its state.
fn another_configuration(damaged: &Damaged) -> Result<()> {
    let place = &damaged.place;
    let other = ["train.steps=70", "model.channels=4"];
    toy::expect(
        &toy::end(&mut place.command(toy::begin("other", &other)))?,
        0,
        &[],
    )?;
    let foreign = damaged.run.checkpoint(70);
    toy::copy(&place.path("other/checkpoints/step-70"), &foreign)?;
    let resumed = toy::end(&mut place.command(toy::go_on("run")))?;
    toy::expect(&resumed, 2, &["step-70", "`model.channels` was 4 and is 8"])?;
    fs::remove_dir_all(&foreign)?;
    // The command line names the other configuration.
    let mut changed = toy::go_on("run");
    changed.extend(["--set".to_owned(), "schedule.kind=linear".to_owned()]);
    let words = ["`schedule.kind` was \"cosine\" and is \"linear\""];
    toy::expect(&toy::end(&mut place.command(changed))?, 2, &words)?;
    // A sealed manifest with the digest of another configuration.
    let ours = digest(&damaged.newest)?;
    let theirs = digest(&place.path("other/checkpoints/step-70"))?;
    ensure!(ours != theirs, "two configurations have one digest");
    reseal(&damaged.newest, &ours, &theirs)?;
    checkpoint::verify(&damaged.newest)?;
    let resumed = toy::end(&mut place.command(toy::go_on("run")))?;
    toy::expect(
        &resumed,
        4,
        &["manifest.json is of another configuration", "--from"],
    )?;
    reseal(&damaged.newest, &theirs, &ours)?;
    // Other images under the same configuration.
    let mut foreign = toy::go_on("run");
    foreign.extend(["--set", "data.kind=idx", "--set", "data.path=x"].map(str::to_owned));
    toy::expect(&toy::end(&mut place.command(foreign))?, 2, &["`data.kind`"])
}

fn digest(checkpoint: &Path) -> Result<String> {
    let text = fs::read_to_string(checkpoint.join("manifest.json"))?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    match value["config_hash"].as_str() {
        Some(digest) => Ok(digest.to_owned()),
        None => bail!("no digest in {text}"),
    }
}

/// Exchanges a text in a manifest and gives it the checksum that belongs to it.
fn reseal(checkpoint: &Path, from: &str, to: &str) -> Result<()> {
    let path = checkpoint.join("manifest.json");
    let text = fs::read_to_string(&path)?;
    let value: serde_json::Value = serde_json::from_str(&text)?;
    let checksum = value["checksum"].as_str().context("no checksum")?;
    let unsealed = text.replacen(from, to, 1).replacen(checksum, "", 1);
    let sum = ddpm_store::atomic::digest(unsealed.as_bytes());
    let sealed = unsealed.replacen("\"checksum\": \"\"", &format!("\"checksum\": \"{sum}\""), 1);
    fs::write(&path, sealed)?;
    Ok(())
}
