//! Every recipe resolves, and fits the data it is for.

use ddpm_tests::{Workplace, repository};

/// One CIFAR record, or a folder with one picture, in place of what is not shipped.
fn stand_in(place: &Workplace, recipe: &str) -> Vec<String> {
    match recipe {
        "ddpm-cifar10" => {
            for i in 1..=5 {
                place.file(&format!("cifar/data_batch_{i}.bin"), vec![1; 3 * 3073]);
            }
            vec![format!("data.path={}", place.path("cifar").display())]
        }
        "fashion-mnist" => {
            let mut file = vec![0, 0, 8, 3];
            for extent in [3u32, 28, 28] {
                file.extend(extent.to_be_bytes());
            }
            file.resize(16 + 3 * 784, 9);
            place.file("fashion/train-images-idx3-ubyte", file);
            vec![format!("data.path={}", place.path("fashion").display())]
        }
        "ddpm-256" => vec![
            format!(
                "data.path={}",
                repository().join("configs/data/sprites-32.zip").display()
            ),
            "data.kind=zip".to_owned(),
        ],
        _ => Vec::new(),
    }
}

#[test]
fn recipes_are_valid() {
    let place = Workplace::new();
    // Paths in recipes are relative to the top of the repository.
    std::fs::create_dir(place.path("configs")).unwrap();
    std::fs::create_dir(place.path("configs/data")).unwrap();
    let zip = "configs/data/sprites-32.zip";
    std::fs::copy(repository().join(zip), place.path(zip)).unwrap();
    let expected = [
        ("ddpm-256", 113_673_219),
        ("ddpm-cifar10", 35_746_307),
        ("digits", 0),
        ("fashion-mnist", 0),
        ("sprites", 0),
        ("sprites-gpu", 35_746_307),
        ("tutorial", 0),
    ];
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(repository().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut args = vec!["train".to_owned(), path.display().to_string()];
        args.extend(["--dry-run", "--json", "--device", "cpu"].map(String::from));
        for set in stand_in(&place, &name) {
            args.extend(["--set".to_owned(), set]);
        }
        let json = place.ddpm(&args).done().json();
        let parameters = json["parameters"].as_u64().unwrap();
        let (_, published) = expected.iter().find(|(known, _)| *known == name).unwrap();
        // The sizes of Ho et al.'s two networks are published (35.7 and 114 million).
        assert!(
            *published == 0 || parameters == *published,
            "{name}: {parameters}"
        );
        seen.push(name);
    }
    assert_eq!(seen.len(), expected.len(), "{seen:?}");
}

#[test]
fn built_in_recipe_is_the_file() {
    let place = Workplace::new();
    let dry = |args: &[&str]| {
        place
            .ddpm(["train", "--dry-run", "--json"].iter().chain(args))
            .done()
            .json()
    };
    let file = repository().join("configs/digits.toml");
    assert_eq!(dry(&[]), dry(&[file.to_str().unwrap()]));
}
