//! Every recipe resolves, and fits the data it is for.

use ddpm_tests::{Sandbox, repository, stand_in};

#[test]
fn recipes_are_valid() {
    let place = Sandbox::new();
    // Paths in recipes are relative to the top of the repository.
    std::fs::create_dir(place.path("configs")).unwrap();
    std::fs::create_dir(place.path("configs/data")).unwrap();
    let zip = "configs/data/sprites-32.zip";
    std::fs::copy(repository().join(zip), place.path(zip)).unwrap();
    let expected = [
        ("ddpm-256", 113_673_219),
        ("ddpm-cifar10", 35_746_307),
        ("digits", 0),
        ("digits-edm", 0),
        ("digits-flow", 0),
        ("fashion-mnist", 0),
        ("fashion-mnist-edm", 0),
        ("fashion-mnist-ddpm", 0),
        ("fashion-mnist-flow", 0),
        ("digits-classes", 0),
        ("fashion-mnist-learned", 0),
        ("fashion-mnist-v", 0),
        ("fashion-mnist-vp", 0),
        ("sprites", 0),
        ("sprites-ddpm", 0),
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
    let place = Sandbox::new();
    let dry = |args: &[&str]| {
        place
            .ddpm(["train", "--dry-run", "--json"].iter().chain(args))
            .done()
            .json()
    };
    let file = repository().join("configs/digits.toml");
    assert_eq!(dry(&[]), dry(&[file.to_str().unwrap()]));
}

/// What `cargo xtask recipes digits` does; the recipes that take longer are left to it.
#[test]
fn the_digits_keep_their_promise() {
    let place = Sandbox::new();
    let train = ["train", "--run", "run", "--device", "cpu"];
    place.ddpm(train).done();
    let eval = ["eval", "run", "-n", "1000", "--device", "cpu", "--json"];
    let promise = place.ddpm(eval).done().json()["promise"].clone();
    assert_eq!(promise["kept"], true, "{promise}");
    assert!(promise["bounds"].as_array().unwrap().len() > 3, "{promise}");
}
