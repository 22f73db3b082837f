//! Every command that README and docs show, run as it stands there: `train` with `--dry-run`.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::Path;

use ddpm_tests::shown::{Shown, commands};
use ddpm_tests::{Sandbox, repository, stand_in};

/// All documents, with their names.
fn documents() -> Vec<(String, String)> {
    let mut paths = vec![
        repository().join("README.md"),
        repository().join("ARCHITECTURE.md"),
    ];
    let docs = fs::read_dir(repository().join("docs")).unwrap();
    paths.extend(docs.map(|entry| entry.unwrap().path()));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read_to_string(path).unwrap())
        })
        .collect()
}

/// The arguments of `ddpm`, if that is what a command runs.
fn of_ddpm(shown: &Shown) -> Option<Vec<String>> {
    let mut words: Vec<&str> = shown.words.iter().map(String::as_str).collect();
    // What a launcher starts several times works once, too.
    if ["mpirun", "srun"].contains(&words[0]) {
        let program = words.iter().position(|word| word.ends_with("ddpm"))?;
        words.drain(..program);
    }
    let rest = match words.as_slice() {
        ["ddpm" | "target/release/ddpm", rest @ ..]
        | ["cargo", "run", "-p", "ddpm-cli", "--", rest @ ..]
        | ["cargo", "run", "-p", "ddpm-cli", rest @ ..] => rest,
        _ => return None,
    };
    Some(rest.iter().map(ToString::to_string).collect())
}

/// A folder as a user of the commands has it: the recipes, photos, a run.
fn at_home() -> Sandbox {
    let place = Sandbox::new();
    for folder in ["configs", "configs/data", "configs/data/sprites"] {
        fs::create_dir(place.path(folder)).unwrap();
        for entry in fs::read_dir(repository().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let name = Path::new(folder).join(path.file_name().unwrap());
                fs::copy(&path, place.path(name)).unwrap();
            }
        }
    }
    fs::create_dir(place.path("photos")).unwrap();
    let images = repository().join("tests/fixtures/images");
    for entry in fs::read_dir(images).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "jpg" || extension == "png")
        {
            fs::copy(&path, place.path("photos").join(path.file_name().unwrap())).unwrap();
        }
    }
    let photos = [
        "train",
        "--data",
        "photos",
        "--run",
        "runs/photos-001",
        "--device",
        "cpu",
    ];
    let short = [
        "train.steps=1",
        "train.batch=1",
        "sample.steps=1",
        "sample.count=1",
    ];
    let short = short.iter().flat_map(|set| ["--set", set]);
    place.ddpm(photos.into_iter().chain(short)).done();
    for run in ["runs/digits-classes-001", "runs/small"] {
        place
            .train_tiny(run, &["--set", "model.classes=auto"])
            .done();
    }
    let size = ["--set", "data.size=4"];
    place.train_tiny("runs/tiny", &size).done();
    let enlarges = "condition.kind=low_resolution condition.factor=2 condition.noise=0.5";
    let photos = "data.kind=folder data.path=photos data.size=8 data.channels=4";
    let mut table = String::from("file_name,age\n");
    for (age, entry) in fs::read_dir(place.path("photos")).unwrap().enumerate() {
        let name = entry.unwrap().file_name();
        table += &format!("{},{age}\n", name.to_string_lossy());
    }
    place.file("photos/labels.csv", table);
    for (run, sets) in [
        ("runs/large", enlarges.to_owned()),
        ("runs/colours", format!("{photos} condition.kind=gray")),
        ("runs/aged", format!("{photos} condition.columns=['age']")),
    ] {
        let sets = sets.split_whitespace().flat_map(|set| ["--set", set]);
        place.train_tiny(run, &sets.collect::<Vec<_>>()).done();
    }
    // What is compared with others.
    place.train_tiny("runs/digits-002", &[]).done();
    place
        .ddpm(["eval", "runs/digits-002", "--device", "cpu"])
        .done();
    // The latest run, which `sample` and `--resume` mean.
    let tracked = ["--set", "ema.power_function=[0.05,0.1]"];
    place.train_tiny("runs/digits-001", &tracked).done();
    let few = ["sample", "-n", "40", "--device", "cpu"];
    place.ddpm(few).done();
    place
}

/// The command without the options that name a device or a precision that is not here, and whether it had any.
fn without_device(args: &[String]) -> (Vec<String>, bool) {
    const DEVICE: [&str; 3] = ["--device", "--devices", "--precision"];
    let mut kept = Vec::new();
    let mut words = args.iter().peekable();
    while let Some(word) = words.next() {
        let value = words.peek().map_or("", |value| value.as_str());
        if DEVICE.contains(&word.as_str())
            || (word == "--set" && value.starts_with("train.precision="))
        {
            words.next();
        } else {
            kept.push(word.clone());
        }
    }
    let had = kept.len() < args.len();
    (kept, had)
}

#[test]
fn every_command_of_ddpm_works_as_it_is_shown() {
    let place = at_home();
    let mut run = 0;
    for (document, text) in documents() {
        for shown in commands(&text) {
            let Some(args) = of_ddpm(&shown) else {
                continue;
            };
            let of_train = args.first().is_some_and(|command| command == "train");
            let mut more = Vec::new();
            if of_train {
                let shown = args.iter().any(|word| word == "--dry-run");
                more.extend((!shown).then(|| "--dry-run".to_owned()));
                let recipe = args.iter().find(|word| word.ends_with(".toml"));
                let recipe = recipe.and_then(|word| Path::new(word).file_stem());
                if let Some(recipe) = recipe {
                    for set in stand_in(&place, &recipe.to_string_lossy()) {
                        more.extend(["--set".to_owned(), set]);
                    }
                }
            }
            let (here, named_a_device) = without_device(&args);
            let ended = place.ddpm(here.iter().chain(&more));
            let typed = shown.words.join(" ");
            if shown.output.is_empty() {
                assert_eq!(
                    ended.code,
                    Some(0),
                    "{document}: {typed}\n{}{}",
                    ended.stdout,
                    ended.stderr
                );
            } else {
                let pattern = shown
                    .without
                    .as_deref()
                    .unwrap_or("^$")
                    .trim_start_matches('^');
                let lines: Vec<&str> = ended
                    .stdout
                    .lines()
                    .filter(|line| shown.without.is_none() || !line.starts_with(pattern))
                    .collect();
                assert_eq!(lines, shown.output, "{document}: {typed}");
            }
            // With the device that it names, either that is missing here or all is well.
            if named_a_device {
                let ended = place.ddpm(args.iter().chain(&more));
                assert!(
                    matches!(ended.code, Some(0 | 6)),
                    "{document}: {typed}\n{}{}",
                    ended.stdout,
                    ended.stderr
                );
            }
            run += 1;
        }
    }
    assert!(run > 10, "{run}");
}

/// Commands of cargo name packages that there are, with features that they have. Those of `xtask` are parsed by its own
/// tests.
#[test]
fn every_command_of_cargo_names_what_there_is() {
    let manifest = |package: &str| {
        let places = [
            format!("crates/{package}"),
            "tests".to_owned(),
            "xtask".to_owned(),
        ];
        places
            .iter()
            .map(|place| repository().join(place).join("Cargo.toml"))
            .filter_map(|path| fs::read_to_string(path).ok())
            .find(|text| text.contains(&format!("name = \"{package}\"")))
    };
    for (document, text) in documents() {
        for shown in commands(&text) {
            let words = &shown.words;
            let typed = words.join(" ");
            if words.iter().any(|word| word == "gpu-bundle/run.sh") || of_ddpm(&shown).is_some() {
                continue;
            }
            assert_eq!(words[0], "cargo", "{document}: nothing checks `{typed}`");
            let packages = words
                .windows(2)
                .filter(|pair| ["-p", "--package"].contains(&pair[0].as_str()));
            for package in packages.map(|pair| pair[1].as_str()) {
                let manifest = manifest(package);
                let manifest =
                    manifest.unwrap_or_else(|| panic!("{document}: no {package} for `{typed}`"));
                let features = words.windows(2).filter(|pair| pair[0] == "--features");
                for feature in features.flat_map(|pair| pair[1].split(',')) {
                    let line = format!("\n{feature} = [");
                    assert!(
                        manifest.contains(&line),
                        "{document}: {package} has no {feature}"
                    );
                }
            }
        }
    }
}

/// docs/samplers.md lists the samplers of this program, and its pictures are there, all of them and no others.
#[test]
fn the_page_of_samplers_is_of_this_program() {
    let page = fs::read_to_string(repository().join("docs/samplers.md")).unwrap();
    let listed = Sandbox::new().ddpm(["samplers", "--json"]).done().json();
    let samplers = listed["samplers"].as_array().unwrap();
    assert!(samplers.len() > 10);
    for sampler in samplers {
        let text = |key: &str| sampler[key].as_str().unwrap();
        let first = format!("| `{}` ({}) |", text("kind"), text("source"));
        let line = page.lines().find(|line| line.starts_with(&first));
        assert!(
            line.is_some_and(|line| line.contains(text("good_for"))),
            "make the page anew: {first}"
        );
    }
    let mut linked: Vec<&str> = page
        .split("](samplers/")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .collect();
    linked.sort_unstable();
    let pictures = fs::read_dir(repository().join("docs/samplers")).unwrap();
    let mut pictures: Vec<_> = pictures
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pictures.sort_unstable();
    assert_eq!(linked, pictures);
}
