use super::*;

#[test]
fn built_in_recipe_and_empty_file_are_valid() {
    read(None, &[], None).unwrap().config.validate().unwrap();
    let empty = ConfigFile::parse("empty", "").unwrap();
    assert_eq!(finish(empty).unwrap(), Config::default());
}

#[test]
fn resolved_configuration_reads_back_as_itself() {
    // The digits recipe's [model] keys are a U-Net's, so the plain network starts from nothing.
    for (text, set) in [
        ("", ["model.kind=plain", "train.epochs=3", "sample.steps=7"]),
        (
            "",
            ["model.kind=edm", "model.arch=adm", "model.attention_at=[8]"],
        ),
        (
            "",
            [
                "model.kind=edm2",
                "model.head_dim=8",
                "model.attention_at=[8]",
            ],
        ),
        (
            DIGITS,
            ["model.head_dim=8", "objective.weighting=min_snr", "seed=9"],
        ),
    ] {
        let mut file = ConfigFile::parse("test", text).unwrap();
        for argument in set {
            file.set(argument, TEXTS).unwrap();
        }
        let config = finish(file).unwrap();
        let written = toml::to_string_pretty(&config).unwrap();
        let again = finish(ConfigFile::parse("again", &written).unwrap()).unwrap();
        assert_eq!(again, config, "{written}");
    }
}

#[test]
fn typos_and_wrong_types_name_the_key() {
    let fail = |set: &str| read(None, &[set.to_owned()], None).unwrap_err().to_string();
    assert!(fail("train.stesp=3").contains("`train.steps`"));
    assert!(fail("augment.vertical_flop=true").contains("`augment.vertical_flip`"));
    assert!(fail("model.chanels=3").contains("`model.channels`"));
    assert!(fail("train.batch=many").contains("train.batch"));
    assert!(fail("model.kind=transformer").contains("transformer"));
    assert!(fail("model.features=[3]").contains("model.features"));
    assert!(fail("data.kind=imagenet").contains("imagenet"));
    assert!(fail("train.steps=-3").contains("train.steps"));
}

fn with(text: &str, set: &[&str]) -> Result<Recipe, UsageError> {
    let set: Vec<String> = set.iter().map(ToString::to_string).collect();
    overridden(ConfigFile::parse("a.toml", text)?, &set, None)
}

#[test]
fn another_kind_of_data_drops_the_keys_that_it_does_not_have() {
    let file =
        "[data]\nkind = \"idx\"\npath = \"x\"\nsplit = \"train\"\nlabels = \"y\"\nflip = true";
    for kind in ["idx", "folder"] {
        let recipe = with(file, &[&format!("data.kind={kind}")]).unwrap();
        let data = recipe.config.data;
        assert_eq!(data.path.as_deref(), Some(Path::new("x")));
        assert_eq!(data.split.is_some() && data.labels.is_some(), kind == "idx");
    }
    let recipe = with(file, &["data.kind=digits"]).unwrap();
    let data = recipe.config.data;
    assert_eq!((data.path, data.labels, data.split), (None, None, None));
    assert!(data.flip);
    data_is_refused(with(file, &["data.kind=digits", "data.split=test"]));
    // Without the override the file's keys are its own fault.
    data_is_refused(with("[data]\nsplit = \"train\"", &[]));
}

fn data_is_refused(recipe: Result<Recipe, UsageError>) {
    let error = recipe.unwrap().config.validate().unwrap_err().to_string();
    assert!(error.starts_with("data.split: does not apply"), "{error}");
}

#[test]
fn steps_or_epochs_whichever_is_set_last() {
    let of = |text: &str, set: &[&str]| {
        let train = with(text, set).unwrap().config.train;
        (train.steps, train.epochs)
    };
    let steps = "[train]\nsteps = 5";
    assert_eq!(of(steps, &["train.epochs=2"]), (None, Some(2)));
    assert_eq!(
        of(steps, &["train.epochs=2", "train.steps=3"]),
        (Some(3), None)
    );
    assert_eq!(
        of("[train]\nepochs = 5", &["train.steps=2"]),
        (Some(2), None)
    );
    let both = with("[train]\nepochs = 5\nsteps = 2", &[]).unwrap();
    assert!(both.config.validate().is_err());
}

#[test]
fn attention_written_beside_another_size_gives_way() {
    let shape = |side| ModelShape {
        channels: 1,
        height: side,
        width: side,
        learned_variance: false,
        self_condition: false,
        steps: 10,
        condition: Default::default(),
    };
    let attention = |text: &str, set: &[&str], side| {
        let mut recipe = with(text, set).unwrap();
        recipe.fit_attention(shape(side));
        match recipe.config.model {
            ModelConfig::Unet(section) => section.attention_at,
            other => panic!("{other:?}"),
        }
    };
    let seven = "[model]\nmultipliers = [1, 2, 2]\nattention_at = [7]";
    assert_eq!(attention(seven, &["data.size=32"], 32), None);
    assert_eq!(attention(seven, &["data.size=28"], 28), Some(vec![7]));
    // Written for what it stands beside, it stays and is an error later.
    assert_eq!(attention(seven, &[], 32), Some(vec![7]));
    let set = ["data.size=32", "model.attention_at=[7]"];
    assert_eq!(attention(seven, &set, 32), Some(vec![7]));
}

#[test]
fn values_are_taken_as_people_write_them() {
    let data = |set: &str| with("[data]\nkind = \"folder\"", &[set]).unwrap().config;
    for name in ["2024", "true", "1e5", "2024-01-02", "a b", "x=y", "[a]"] {
        let config = data(&format!("data.path={name}"));
        assert_eq!(config.data.path.as_deref(), Some(Path::new(name)));
    }
    assert_eq!(
        data("data.path=\"quoted\"").data.path.as_deref(),
        Some(Path::new("quoted"))
    );
    assert!((data("optim.lr=.001").optim.lr - 0.001).abs() < 1e-12);
    assert!((data("optim.lr=5.").optim.lr - 5.0).abs() < 1e-12);
    for seed in [0, 7, i64::MAX as u64, 1 << 63, u64::MAX] {
        let config = data(&format!("seed={seed}"));
        assert_eq!(config.seed, seed);
        let again = configuration("again", &toml::to_string(&config).unwrap(), &[]).unwrap();
        assert_eq!(again.seed, seed);
    }
    for seed in ["18446744073709551616", "-1", "0.5", "x"] {
        let error = with("", &[&format!("seed={seed}")])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("seed") && error.contains("18446744073709551615"),
            "{error}"
        );
    }
}

/// A key that is left unwritten where it is as usual would be unknown, if nobody thought of it here.
#[test]
fn every_key_of_every_section_is_known() {
    let known = configuration_keys("unet").unwrap();
    let sections = "data augment condition schedule objective optim ema guard train sample";
    for section in sections.split(' ') {
        let unknown = toml::from_str::<Config>(&format!("[{section}]\nzz = 1")).unwrap_err();
        let (_, expected) = unknown.message().split_once("expected ").unwrap();
        let names: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        assert!(names.len() > 1, "{unknown}");
        for name in names {
            let key = format!("{section}.{name}");
            let holder = format!("{key}.");
            assert!(
                known
                    .iter()
                    .any(|known| *known == key || known.starts_with(&holder)),
                "{key}"
            );
        }
    }
}

#[test]
fn an_empty_configuration_trains_the_digits() {
    let config = with("", &[]).unwrap().config;
    assert_eq!(config.data.kind, DataKind::Digits);
    let shape = ModelShape {
        channels: 1,
        height: 8,
        width: 8,
        learned_variance: false,
        self_condition: false,
        steps: 1000,
        condition: Default::default(),
    };
    assert!(ddpm_unet::Cost::of(&config.model, shape).is_ok());
}
