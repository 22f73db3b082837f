//! Whatever is wrong with what a person gives is one sentence and the right exit code, and leaves nothing behind.

use ddpm_tests::Sandbox;

fn idx(magic: [u8; 4], count: u32, bytes: usize) -> Vec<u8> {
    let mut file = magic.to_vec();
    for extent in [count, 8, 8] {
        file.extend(extent.to_be_bytes());
    }
    file.resize(16 + bytes, 7);
    file
}

/// A `.npy` of `<f4`.
fn floats(shape: &str, values: impl Iterator<Item = f32>) -> Vec<u8> {
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(values.flat_map(f32::to_le_bytes));
    file
}

/// The first bytes of a PNG of 8×8 grey pixels, cut off inside its data.
const TRUNCATED_PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0,
    8, 0, 0, 0, 8, 8, 0, 0, 0, 0, 0xe1, 0x64, 0xe1, 0x57, 0, 0, 0, 99, b'I', b'D', b'A', b'T',
    0x78, 0x9c, 0x63,
];

#[test]
fn configurations() {
    let place = Sandbox::new();
    place.file("typo.toml", "[train]\nbtach = 3\n");
    place.file("type.toml", "[train]\nbatch = \"many\"\n");
    place.file("syntax.toml", "[train\n");
    place.file("kind.toml", "[data]\nkind = \"imagenet\"\n");
    place.file("both.toml", "[train]\nsteps = 3\nepochs = 3\n");
    let long = "x".repeat(2 << 20);
    place.file("long.toml", long);
    let cases: &[(&[&str], &[&str])] = &[
        (&["no-such.toml"], &["no-such.toml"]),
        (
            &["typo.toml"],
            &["typo.toml", "train.btach", "`train.batch`"],
        ),
        (&["type.toml"], &["type.toml", "train.batch"]),
        (&["syntax.toml"], &["syntax.toml:1"]),
        (&["kind.toml"], &["kind.toml", "imagenet", "digits"]),
        (&["long.toml"], &["long.toml"]),
        (&["."], &["."]),
        (&["--set", "train.batch"], &["train.batch", "="]),
        (&["--set", "optim.lr=-1"], &["optim.lr", "-1"]),
        (&["--set", "train.batch=0"], &["train.batch"]),
        (
            &["--set", "train.accumulate=7"],
            &["train.accumulate", "train.batch"],
        ),
        (&["both.toml"], &["steps", "epochs"]),
        (&["--set", "schedule.steps=0"], &["schedule"]),
        (
            &[
                "--set",
                "schedule.kind=linear",
                "--set",
                "schedule.beta_end=1.5",
            ],
            &["schedule"],
        ),
        (&["--set", "schedule.zero_terminal_snr=true"], &["zero"]),
        (
            &["--set", "schedule.beta_end=0.01"],
            &["schedule.beta_end", "schedule.kind"],
        ),
        (
            &[
                "--set",
                "schedule.kind=linear",
                "--set",
                "schedule.sigmoid_tau=0.9",
            ],
            &["schedule.sigmoid_tau"],
        ),
        (&["--set", "sample.steps=2000"], &["2000"]),
        (&["--set", "model.groups=5"], &["groups", "5"]),
        (
            &["--set", "model.attention_at=[5]"],
            &["model.attention_at", "5"],
        ),
        (
            &[
                "--set",
                "model.multipliers=[1,2,2,2,2]",
                "--set",
                "model.attention_at=[]",
            ],
            &["8x8", "16x16", "pad"],
        ),
        (&["--set", "data.path=here"], &["path", "digits"]),
        (&["--set", "data.kind=folder"], &["path"]),
        (&["--device", "gpu"], &["gpu"]),
    ];
    for (args, words) in cases {
        let ended = place.ddpm(["train"].iter().chain(*args));
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        for word in *words {
            assert!(
                ended.stderr.contains(word),
                "{args:?}: no `{word}` in {}",
                ended.stderr
            );
        }
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        assert!(!place.path("runs").exists(), "{args:?} left a run");
    }
}

#[test]
fn data() {
    let place = Sandbox::new();
    std::fs::create_dir(place.path("empty")).unwrap();
    place.file("cut/a/one.png", TRUNCATED_PNG);
    place.file("html/one.jpg", "<html><body>404</body></html>");
    place.file("magic.idx", idx([9, 9, 9, 9], 2, 128));
    place.file("short-idx3-ubyte", idx([0, 0, 8, 3], 1000, 128));
    place.file("part.bin", vec![1; 3073 + 5]);
    place.file("no.zip", "not a zip");
    place.file("plain-file", "x");
    // Resizing overshoots; one image or many.
    let ramp = |count: usize| (0..count).map(move |i| i as f32 / count as f32 * 1.12 - 0.06);
    place.file("over.npy", floats("(9, 8, 8)", ramp(576)));
    place.file("one.npy", floats("(8, 8, 3)", ramp(192)));
    let cases: &[(&str, &str, &[&str])] = &[
        ("npy", "over.npy", &["over.npy", "data.range"]),
        (
            "npy",
            "one.npy",
            &["one.npy", "one image of 8x8x3", "8 images"],
        ),
        ("folder", "missing", &["missing"]),
        ("folder", "empty", &["empty"]),
        ("folder", "plain-file", &["plain-file"]),
        ("folder", "cut", &["one.png"]),
        ("folder", "html", &["one.jpg"]),
        ("idx", "magic.idx", &["magic.idx", "magic"]),
        ("idx", "short-idx3-ubyte", &["short-idx3-ubyte"]),
        ("cifar10", "part.bin", &["part.bin"]),
        ("zip", "no.zip", &["no.zip"]),
        ("npy", "plain-file", &["plain-file"]),
        ("idx", "missing", &["missing"]),
    ];
    for (kind, path, words) in cases {
        let kind = format!("data.kind={kind}");
        let path = format!("data.path={path}");
        place
            .ddpm(["train", "--set", &kind, "--set", &path])
            .failed(3, words);
        assert!(!place.path("runs").exists(), "{kind} {path} left a run");
    }
}

#[cfg(unix)]
#[test]
fn unreadable_folder() {
    use std::os::unix::fs::PermissionsExt;
    let place = Sandbox::new();
    let folder = place.path("locked");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o000)).unwrap();
    let words: &[&str] = &["locked"];
    // For a superuser the folder is readable and empty: an error of the same kind.
    place
        .ddpm([
            "train",
            "--set",
            "data.kind=folder",
            "--set",
            "data.path=locked",
        ])
        .failed(3, words);
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn bad_images_can_be_skipped_and_are_counted() {
    let place = Sandbox::new();
    place.train_tiny("run", &[]).done();
    place
        .ddpm([
            "sample", "--model", "run", "-n", "6", "--steps", "2", "--out", "set",
        ])
        .done();
    place.file("set/cut.png", TRUNCATED_PNG);
    let args = |on_bad: &str| {
        let on_bad = format!("data.on_bad={on_bad}");
        [
            "train",
            "--dry-run",
            "--json",
            "--set",
            "data.kind=folder",
            "--set",
            "data.path=set",
            "--set",
        ]
        .map(String::from)
        .into_iter()
        .chain([on_bad])
        .collect::<Vec<_>>()
    };
    place.ddpm(args("error")).failed(3, &["cut.png"]);
    let ended = place.ddpm(args("skip")).done();
    assert_eq!(ended.json()["images"], 6);
    assert!(ended.stderr.contains("cut.png"), "{}", ended.stderr);
}

#[test]
fn models_and_checkpoints() {
    let place = Sandbox::new();
    place.ddpm(["sample"]).failed(2, &["runs", "ddpm train"]);
    place.ddpm(["train", "--resume"]).failed(2, &["runs"]);
    place
        .ddpm(["sample", "--model", "nothing"])
        .failed(4, &["nothing"]);
    place.ddpm(["inspect", "nothing"]).failed(4, &["nothing"]);
    place.file("junk.safetensors", [0xff; 64]);
    place
        .ddpm(["inspect", "junk.safetensors"])
        .failed(4, &["junk.safetensors"]);
    place.train_tiny("run", &[]).done();
    place
        .ddpm(["sample", "--model", "run", "-n", "0"])
        .failed(2, &["--n 0"]);
    place
        .ddpm(["sample", "--model", "run", "--steps", "5000"])
        .failed(2, &["5000"]);
    place
        .ddpm(["sample", "--model", "run", "--class", "3"])
        .failed(2, &["--class 3"]);
    place
        .ddpm(["sample", "--model", "run", "--device", "cuda:0"])
        .failed(6, &["cuda"]);

    // A damaged checkpoint is passed over for the one before it; without one it is an error.
    let damaged = place.path("run/checkpoints/step-6/ema/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&damaged).unwrap();
    std::fs::write(&damaged, &bytes[..bytes.len() - 8]).unwrap();
    let ended = place
        .ddpm([
            "sample", "--model", "run", "-n", "1", "--steps", "2", "--grid", "g.png", "--json",
        ])
        .done();
    assert_eq!(ended.json()["step"], 4);
    assert!(ended.stderr.contains("step-6"), "{}", ended.stderr);
    place
        .ddpm(["sample", "--model", "run/checkpoints/step-6"])
        .failed(4, &["step-6", "step-4"]);
}

#[test]
fn a_network_that_diverges_ends_with_5_and_keeps_its_checkpoints() {
    let place = Sandbox::new();
    place
        .train_tiny(
            "run",
            &[
                "--set",
                "optim.lr=1e30",
                "--set",
                "train.steps=50",
                "--set",
                "optim.warmup_steps=5",
                "--set",
                "optim.clip_norm=0",
            ],
        )
        .failed(5, &["diverged", "optim.lr"]);
    for entry in std::fs::read_dir(place.path("run/checkpoints")).unwrap() {
        let path = entry.unwrap().path();
        let weights = path.join("unet/diffusion_pytorch_model.safetensors");
        let file = ddpm_store::TensorFile::read(&weights).unwrap();
        let finite = file
            .tensors
            .iter()
            .flat_map(|tensor| &tensor.data)
            .all(|x| x.is_finite());
        assert!(finite, "{}", path.display());
    }
}

#[cfg(unix)]
#[test]
fn a_closed_stdout_is_no_error() {
    use std::process::Stdio;
    let place = Sandbox::new();
    let mut child = place
        .command(["schedule", "--rows", "1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
