use std::fs;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    seed: u64,
    data: Data,
    train: Train,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Data {
    Digits,
    Folder { path: String },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Train {
    batch: usize,
    lr: f64,
    flip: bool,
    levels: Vec<usize>,
    decay: Decay,
    steps: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Decay {
    Constant,
    Linear,
    Cosine,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            data: Data::Digits,
            train: Train::default(),
        }
    }
}

impl Default for Train {
    fn default() -> Self {
        Self {
            batch: 64,
            lr: 1e-4,
            flip: false,
            levels: vec![1, 2],
            decay: Decay::Constant,
            steps: None,
        }
    }
}

/// Reads `toml` as `a.toml`, with overrides.
fn read(toml: &str, overrides: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.toml");
    fs::write(&path, toml).unwrap();
    let shown = format!("{}{}", folder.path().display(), std::path::MAIN_SEPARATOR);
    let defaults = Table::try_from(Config::default()).unwrap();
    let known = Known {
        defaults: &defaults,
        optional: &["data.path", "train.steps"],
    };
    let config = || {
        let mut file = ConfigFile::load(&path)?;
        for argument in overrides {
            file.set(argument, &["data.path"])?;
        }
        file.read(known)
    };
    config().map_err(|error: UsageError| error.0.replace(&shown, ""))
}

#[test]
fn an_empty_file_is_the_defaults() {
    assert_eq!(read("", &[]), Ok(Config::default()));
    let defaults = Table::try_from(Config::default()).unwrap();
    let known = Known {
        defaults: &defaults,
        optional: &[],
    };
    assert_eq!(ConfigFile::default().read(known), Ok(Config::default()));
}

#[test]
fn overrides_are_merged_before_the_table_is_read() {
    let config = read(
        "seed = 1\n[train]\nbatch = 8\nlr = 1\n",
        &[
            "train.batch=16",
            "train.levels=[1, 2, 4]",
            "train.decay=cosine",
            "train.flip = true",
            "train.steps=100",
            "data.kind=\"folder\"",
            "data.path=/a=b",
        ],
    )
    .unwrap();
    let expected = Config {
        seed: 1,
        data: Data::Folder {
            path: "/a=b".into(),
        },
        train: Train {
            batch: 16,
            lr: 1.0,
            flip: true,
            levels: vec![1, 2, 4],
            decay: Decay::Cosine,
            steps: Some(100),
        },
    };
    assert_eq!(config, expected);
}

#[test]
fn each_mistake_is_one_sentence() {
    let cases: &[(&str, &[&str], &str)] = &[
        (
            "[train]\nbtach = 3",
            &[],
            "a.toml: unknown key `train.btach`; did you mean `train.batch`?",
        ),
        (
            "",
            &["train.btach=3"],
            "--set train.btach=3: unknown key `train.btach`; did you mean `train.batch`?",
        ),
        (
            "[trian]\nbatch = 3",
            &[],
            "a.toml: unknown key `trian`; did you mean `train`?",
        ),
        (
            "batch = 3",
            &[],
            "a.toml: unknown key `batch`; did you mean `train.batch`?",
        ),
        (
            "[data]\npaht = 'x'",
            &[],
            "a.toml: unknown key `data.paht`; did you mean `data.path`?",
        ),
        (
            "something_else = 3",
            &[],
            "a.toml: unknown key `something_else`; known here: data, seed, train",
        ),
        (
            "[train]\nbatch = 'many'",
            &[],
            "a.toml: `train.batch` must be a whole number, not the string \"many\"",
        ),
        (
            "[train]\nbatch = 0.5",
            &["train.lr=2"],
            "a.toml: `train.batch` must be a whole number, not the number 0.5",
        ),
        (
            "[train]\nbatch = 3",
            &["train.lr=fast"],
            "--set train.lr=fast: `train.lr` must be a number, not the string \"fast\"",
        ),
        (
            "train = 3",
            &[],
            "a.toml: `train` must be a table, not the number 3",
        ),
        (
            "[train]\nflip = 1",
            &[],
            "a.toml: `train.flip` must be true or false, not the number 1",
        ),
        (
            "[train]\nbatch = -3",
            &[],
            "a.toml: `train.batch`: invalid value: integer `-3`, expected a whole number of at least 0",
        ),
        (
            "[train]\nlevels = [1, 'x']",
            &[],
            "a.toml: `train.levels`: invalid type: string \"x\", expected a whole number of at least 0",
        ),
        (
            "[train]\ndecay = 'cosin'",
            &[],
            "a.toml: `train.decay`: unknown variant `cosin`, expected one of `constant`, `linear`, `cosine`; did you mean `cosine`?",
        ),
        (
            "[data]\nkind = 'folder'",
            &[],
            "a.toml: `data`: missing field `path`",
        ),
        (
            "seed = 1\n[train\n",
            &[],
            "a.toml:2:7: unclosed table, expected `]`",
        ),
        (
            "",
            &["train.batch"],
            "--set train.batch: no `=`; write --set section.key=value",
        ),
        (
            "",
            &["train..batch=3"],
            "--set train..batch=3: a key is empty; write --set section.key=value",
        ),
        (
            "seed = 3",
            &["seed.a=3"],
            "--set seed.a=3: `seed` is a value, so nothing is below it",
        ),
    ];
    for (toml, overrides, expected) in cases {
        let message = read(toml, overrides).unwrap_err();
        assert_eq!(&message, expected, "{toml:?} {overrides:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let absent = folder.path().join("absent.toml");
    let error = ConfigFile::load(&absent).unwrap_err().0;
    assert!(error.starts_with(&absent.display().to_string()), "{error}");
    assert!(!error.contains('\n'), "{error}");

    assert!(ConfigFile::load(folder.path()).is_err());

    let binary = folder.path().join("a.zip");
    fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    assert!(ConfigFile::load(&binary).is_err());

    let large = folder.path().join("large.toml");
    fs::write(&large, vec![b'#'; MAX_BYTES as usize + 1]).unwrap();
    let error = ConfigFile::load(&large).unwrap_err().0;
    assert!(error.contains("too many"), "{error}");
}

#[test]
fn keys_without_end_cost_nothing() {
    let deep = "a.".repeat(100_000);
    let error = read("", &[&format!("{deep}b=1")]).unwrap_err();
    assert!(error.contains("too many parts"), "{}", &error[..200]);
    assert!(read(&format!("{deep}b = 1"), &[]).is_err());
    assert!(read(&format!("[{deep}b]"), &[]).is_err());
    assert!(read(&format!("a = {}", "[".repeat(100_000)), &[]).is_err());
    let clock = std::time::Instant::now();
    let long = read(&format!("{} = 1", "x".repeat(1_000_000)), &[]).unwrap_err();
    assert!(long.contains("known here"), "{}", &long[..200]);
    assert!(clock.elapsed() < std::time::Duration::from_secs(1));
}
