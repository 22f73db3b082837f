//! Runs of several processes under `mpirun`.

#![cfg(all(feature = "mpi", target_os = "linux"))]
#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ddpm_tests::faults::{Form, rows};
use ddpm_tests::mpirun::{self, children, mpirun, signal};
use ddpm_tests::{Ended, OBJECTIVES, Sandbox, repository, tiny};

/// The files of a checkpoint that hold its tensors, and the log without what a clock says.
fn left(run: &Path, step: u64) -> (Vec<Vec<u8>>, Vec<String>) {
    let checkpoint = run.join(format!("checkpoints/step-{step}"));
    let files = [
        "unet/diffusion_pytorch_model.safetensors",
        "ema/diffusion_pytorch_model.safetensors",
        "optimiser.safetensors",
    ];
    let log = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = log.lines().map(|line| {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        line.as_object_mut().unwrap().remove("images_per_s");
        line.to_string()
    });
    let bytes = files.map(|file| fs::read(checkpoint.join(file)).unwrap());
    (bytes.to_vec(), lines.collect())
}

/// Four micro-batches of one image, and more settings.
fn arguments(run: &str, more: &[&str]) -> Vec<String> {
    let mut args = tiny(run);
    for set in ["train.accumulate=4"].iter().chain(more) {
        args.extend(["--set".to_owned(), (*set).to_owned()]);
    }
    args
}

/// A learning rate that does not depend on the run's length.
const CONSTANT: &str = "optim.decay=constant";

fn resume(run: &str) -> Vec<String> {
    [
        "train", "--resume", "--json", "--device", "cpu", "--run", run,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn run(ranks: usize, command: &Command) -> Ended {
    mpirun::end(mpirun(ranks, command)).unwrap()
}

#[test]
fn any_number_of_processes_gives_byte_equal_checkpoints() {
    let place = Sandbox::new();
    place.ddpm(arguments("one", &[])).done();
    let one = left(&place.path("one"), 6);
    for ranks in [2, 3, 4] {
        let name = format!("of-{ranks}");
        let ended = run(ranks, &place.command(arguments(&name, &[]))).done();
        // One process writes and reports.
        assert_eq!(ended.json()["step"], 6);
        assert!(left(&place.path(&name), 6) == one, "{ranks} processes");
    }
    let fast = run(
        2,
        &place.command(arguments("fast", &["train.reduction=fast"])),
    )
    .done();
    assert_eq!(fast.json()["step"], 6);
}

#[test]
fn every_objective_is_the_same_on_two_processes() {
    let place = Sandbox::new();
    for (name, settings) in OBJECTIVES {
        let two = format!("{name}-two");
        place.ddpm(arguments(name, settings)).done();
        run(2, &place.command(arguments(&two, settings))).done();
        assert!(
            left(&place.path(name), 6) == left(&place.path(&two), 6),
            "{name}"
        );
    }
}

/// Waits until the log has so many lines.
fn wait_for_lines(run: &Path, lines: usize) {
    let clock = Instant::now();
    while fs::read_to_string(run.join("metrics.jsonl")).map_or(0, |log| log.lines().count()) < lines
    {
        assert!(clock.elapsed() < Duration::from_secs(60), "no line {lines}");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_to_one_process_stops_all_after_the_same_step() {
    let place = Sandbox::new();
    let long = arguments(
        "run",
        &["train.steps=100000", "train.checkpoint_every=0", CONSTANT],
    );
    for rank in [0, 2] {
        let _ = fs::remove_dir_all(place.path("run"));
        let job = mpirun(3, &place.command(&long))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        wait_for_lines(&place.path("run"), 5);
        assert!(signal(children(job.id(), "ddpm")[rank], "-TERM"));
        let ended = mpirun::wait(job).unwrap();
        assert_eq!(ended.code, Some(75), "{}", ended.stderr);
        let said = ended.json();
        assert_eq!(said["stopped"], true);
        // To go on to where a run without a stop is.
        let step = said["step"].as_u64().unwrap() + 3;
        let until = format!("train.steps={step}");
        let mut rest = resume("run");
        rest.extend(["--set".to_owned(), until.clone()]);
        run(2, &place.command(rest)).done();
        let whole = format!("whole-{rank}");
        place.ddpm(arguments(&whole, &[&until, CONSTANT])).done();
        assert!(left(&place.path("run"), step) == left(&place.path(&whole), step));
    }
}

#[test]
fn a_step_that_goes_wrong_on_one_process_is_skipped_by_all() {
    let place = Sandbox::new();
    let poisoned = |run: &str, rank: &str| {
        let mut command = place.faulty(arguments(run, &[]));
        command
            .env("DDPM_POISON", "batch:nan:3")
            .env("DDPM_RANK", rank);
        command
    };
    let alone = poisoned("one", "0").output().unwrap();
    Ended::from(alone).done();
    // The first row of rank 0 is the first one of the batch.
    let ended = run(4, &poisoned("four", "0")).done();
    assert!(
        ended.stderr.contains("step 3: the loss is NaN"),
        "{}",
        ended.stderr
    );
    assert!(left(&place.path("one"), 6) == left(&place.path("four"), 6));
    let ended = run(4, &poisoned("other", "3")).done();
    assert!(
        ended.stderr.contains("step 3: the loss is NaN"),
        "{}",
        ended.stderr
    );
}

/// A folder of 24 images of 8×8, of which one ends in the middle of its pixels.
fn images_with_a_bad_one(place: &Sandbox) -> PathBuf {
    let source = repository().join("configs/data/sprites-32.zip");
    let archive = fs::File::open(source).unwrap();
    let mut archive = zip::ZipArchive::new(archive).unwrap();
    for i in 0..24 {
        let mut file = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        if i == 17 {
            bytes.truncate(bytes.len() / 2);
        }
        place.file(&format!("images/{i:02}.png"), bytes);
    }
    place.path("images")
}

#[test]
fn what_fails_on_one_process_ends_all_with_its_reason() {
    let place = Sandbox::new();
    let images = images_with_a_bad_one(&place);
    let path = format!("data.path={}", images.display());
    let lazily = [
        "data.kind=folder",
        &path,
        "data.size=8",
        "data.channels=1",
        "data.cache_bytes=0",
    ];
    let ended = run(3, &place.command(arguments("bad-image", &lazily)));
    ended.failed(3, &["17.png"]);
    // The disk of rank 0 is full when it writes its first checkpoint.
    let mut full = place.faulty(arguments("full", &[]));
    full.env("DDPM_DISK", "fail:12:28:always")
        .env("DDPM_RANK", "0");
    run(3, &full).failed(4, &["No space left"]);
    // What a process finds before anything has begun.
    run(
        2,
        &place.command(arguments(
            "none",
            &["data.path=/nowhere", "data.kind=folder"],
        )),
    )
    .failed(3, &["/nowhere"]);
    run(2, &place.command(arguments("none", &["optim.lr=-1"]))).failed(2, &["optim.lr"]);
    run(
        2,
        &place.command(arguments("none", &["train.accumulate=1"])),
    )
    .failed(2, &["train.accumulate", "2 ranks"]);
    let mut several = arguments("none", &[]);
    several.retain(|argument| argument != "--device" && argument != "cpu");
    several.extend(["--devices".to_owned(), "cpu:2".to_owned()]);
    run(2, &place.command(several)).failed(2, &["--devices", "--device cuda:auto"]);
    assert!(!place.path("none").exists());
    let ended = run(2, &place.command(["samplers"]));
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("only `ddpm train`"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_killed_process_costs_nothing_beyond_the_last_checkpoint() {
    let row = rows().into_iter().find(|row| row.number == 19).unwrap();
    let held = row.run(Form::Quick).outcome.unwrap();
    assert_eq!(held.count, 20);
}

#[test]
fn the_doctor_says_what_ranks_have_and_what_their_sums_take() {
    let place = Sandbox::new();
    let doctor = [
        "doctor",
        "--json",
        "--device",
        "cpu",
        "--set",
        "train.batch=4",
    ];
    let ended = run(2, &place.command(doctor)).done();
    let said = ended.json();
    let said = &said["figures"];
    assert_eq!(said["ranks"]["size"], 2, "{said}");
    assert_eq!(said["ranks"]["machines"], 1);
    assert!(said["sum_s"].as_f64().unwrap() > 0.0);
}

/// Network namespaces that are two hosts, joined by a cable; taken down when dropped.
struct TwoHosts;

impl TwoHosts {
    fn up() -> Result<Self, String> {
        let _ = Self::script(&["down"]).output();
        let output = Self::script(&["up"])
            .output()
            .map_err(|error| error.to_string())?;
        match output.status.success() {
            true => Ok(Self),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn script(args: &[&str]) -> Command {
        let mut command = Command::new("bash");
        command
            .arg(repository().join("tests/two-hosts.sh"))
            .args(args);
        command
    }

    /// The command in so many processes, half of them on each host.
    fn run(ranks: usize, command: &Command) -> Command {
        let mut all = Self::script(&["run", &ranks.to_string()]);
        all.arg(command.get_program())
            .args(command.get_args())
            .env("RAYON_NUM_THREADS", "1");
        if let Some(folder) = command.get_current_dir() {
            all.current_dir(folder);
        }
        all
    }
}

impl Drop for TwoHosts {
    fn drop(&mut self) {
        let _ = Self::script(&["down"]).output();
    }
}

/// Over a network it is the same run; where the network is cut, the job ends within its timeout with a sentence, and
/// goes on elsewhere to the same bytes.
#[test]
#[ignore = "needs a superuser, to make network namespaces"]
fn two_hosts_that_are_cut_apart_end_with_a_sentence() {
    let _hosts = match TwoHosts::up() {
        Ok(hosts) => hosts,
        Err(why) => return eprintln!("skipped: no network namespaces can be made here: {why}"),
    };
    let place = Sandbox::new();
    place.ddpm(arguments("one", &[CONSTANT])).done();
    let mut over_tcp = TwoHosts::run(4, &place.command(arguments("four", &[CONSTANT])));
    Ended::from(over_tcp.output().unwrap()).done();
    assert!(left(&place.path("one"), 6) == left(&place.path("four"), 6));

    let long = [
        "train.steps=100000",
        "train.timeout_s=1",
        "train.checkpoint_every=4",
        CONSTANT,
    ];
    // Into a file: what is left on the other host may hold a pipe open.
    let told = place.path("told");
    let mut job = TwoHosts::run(2, &place.command(arguments("cut", &long)))
        .stdout(Stdio::null())
        .stderr(fs::File::create(&told).unwrap())
        .spawn()
        .unwrap();
    wait_for_lines(&place.path("cut"), 10);
    let cut = Command::new("ip")
        .args(["-n", "n1", "link", "set", "va", "down"])
        .status();
    assert!(cut.unwrap().success());
    let clock = Instant::now();
    let status = loop {
        if let Some(status) = job.try_wait().unwrap() {
            break status;
        }
        if clock.elapsed() > Duration::from_secs(60) {
            job.kill().unwrap();
            panic!("the job goes on: {}", fs::read_to_string(&told).unwrap());
        }
        sleep(Duration::from_millis(50));
    };
    assert!(!status.success());
    let told = fs::read_to_string(told).unwrap();
    assert!(
        told.contains("no answer from the other ranks within 1 s"),
        "{status}: {told}"
    );

    let newest = fs::read_dir(place.path("cut/checkpoints"))
        .unwrap()
        .filter_map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()?
                .strip_prefix("step-")?
                .parse::<u64>()
                .ok()
        });
    let step = newest.max().unwrap() + 2;
    let until = format!("train.steps={step}");
    let mut rest = resume("cut");
    rest.extend(["--set".to_owned(), until.clone()]);
    place.ddpm(rest).done();
    place
        .ddpm(arguments(
            "whole",
            &[&until, "train.checkpoint_every=4", CONSTANT],
        ))
        .done();
    assert!(left(&place.path("cut"), step) == left(&place.path("whole"), step));
}
