use burn::tensor::Device;
use ddpm_diffusion::{Meaning, SampleConfig};
use ddpm_schedule::{Prediction, ProcessConfig, ScheduleConfig};
use ddpm_unet::{ConditionShape, ModelConfig, ModelShape, PlainSection, UnetSection};
use serde_json::json;

use super::*;

const SHAPE: ModelShape = ModelShape {
    channels: 1,
    height: 8,
    width: 12,
    learned_variance: false,
    self_condition: false,
    steps: 1000,
    condition: ConditionShape {
        classes: None,
        null_class: false,
        vector: None,
        picture_channels: 0,
    },
};

fn unet() -> UnetSection {
    UnetSection {
        channels: 4,
        multipliers: vec![1, 2],
        blocks: 1,
        groups: 2,
        ..UnetSection::default()
    }
}

fn opened(config: ModelConfig, shape: ModelShape) -> OpenedModel {
    let device = Device::flex();
    OpenedModel {
        condition: Default::default(),
        class_names: None,
        columns: Vec::new(),
        imported: None,
        model: config.build(shape, 0, &device).unwrap(),
        device,
        warning: None,
        path: "runs/a/checkpoints/step-7".into(),
        step: Some(7),
        averaged: Some(true),
        trained: None,
        process: ProcessConfig::default(),
        schedule: ScheduleConfig::default(),
        meaning: Prediction::Eps.into(),
        sample: SampleConfig::default(),
        channels: shape.channels,
        size: Some([shape.height, shape.width]),
        seed: 0,
        refusal: None,
        scheduler: None,
    }
}

fn of_unet(shape: ModelShape) -> OpenedModel {
    opened(ModelConfig::Unet(unet()), shape)
}

fn told(condition: ConditionShape) -> ModelShape {
    ModelShape { condition, ..SHAPE }
}

#[test]
fn what_diffusers_cannot_represent_is_refused_by_name() {
    let padded = |height| {
        let section = UnetSection {
            pad: true,
            ..unet()
        };
        let shape = ModelShape { height, ..SHAPE };
        opened(ModelConfig::Unet(section), shape)
    };
    let vector = told(ConditionShape {
        vector: Some(3),
        ..SHAPE.condition
    });
    let picture = told(ConditionShape {
        picture_channels: 1,
        ..SHAPE.condition
    });
    let itself = OpenedModel {
        meaning: Meaning {
            self_condition: true,
            ..Prediction::Eps.into()
        },
        ..of_unet(ModelShape {
            self_condition: true,
            ..SHAPE
        })
    };
    let vp = OpenedModel {
        process: serde_json::from_value(json!({"kind": "vp"})).unwrap(),
        ..of_unet(SHAPE)
    };
    let plain = ModelConfig::Plain(PlainSection {
        features: vec![2, 3],
    });
    for (model, words) in [
        (
            opened(plain, SHAPE),
            ["`model.kind` is \"plain\"", "FILE.safetensors"],
        ),
        (padded(7), ["`_pad` is true", "model.pad = false"]),
        (of_unet(vector), ["`_vector_dim` is 3", "FILE.safetensors"]),
        (of_unet(picture), ["`in_channels` is 2", "picture"]),
        (
            itself,
            [
                "`objective.self_condition` is true",
                "no scheduler of diffusers",
            ],
        ),
        (vp, ["`process.kind` is \"vp\"", "discrete"]),
    ] {
        let refused = Pipeline::of(&model, None).unwrap_err().to_string();
        for word in words.into_iter().chain(["runs/a/checkpoints/step-7"]) {
            assert!(refused.contains(word), "no {word} in: {refused}");
        }
        // The weights are those of any network.
        let folder = tempfile::tempdir().unwrap();
        write_weights(&model, &folder.path().join("a.safetensors")).unwrap();
    }
    // Nothing is padded at a size that the levels divide.
    let pipeline = Pipeline::of(&padded(8), None).unwrap();
    assert!(!pipeline.config.contains_key("_pad"));
}

#[test]
fn a_pipeline_opens_as_what_it_was_made_of() {
    let model = of_unet(told(ConditionShape {
        classes: Some(3),
        null_class: true,
        ..SHAPE.condition
    }));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("model");
    let pipeline = Pipeline::of(&model, None).unwrap();
    pipeline
        .write(&place, "a card", Some(b"a picture"))
        .unwrap();
    let mut read = OpenedModel::open(&place, None, &model.device).unwrap();
    read.prepare(None, None).unwrap();
    assert_eq!(weights(&read).unwrap(), weights(&model).unwrap());
    assert_eq!(read.model.conditioning(), model.model.conditioning());
    assert_eq!(read.size, model.size);
    let plan = |model: &OpenedModel| {
        let process = model.process().unwrap();
        let plan = model.sample.plan(&process, model.meaning).unwrap();
        (plan.grid().clone(), plan.sampler().name(), plan.hold())
    };
    assert_eq!(plan(&read), plan(&model));
    for (file, text) in [("README.md", "a card"), ("grid.png", "a picture")] {
        assert_eq!(std::fs::read_to_string(place.join(file)).unwrap(), text);
    }
    // Its own scheduler goes on as it is, and another takes its place where one is asked for.
    let again = Pipeline::of(&read, None).unwrap();
    assert_eq!(again.scheduler.to_json(), pipeline.scheduler.to_json());
    let ddim: SampleConfig =
        serde_json::from_value(json!({"sampler": "ddim", "steps": 9})).unwrap();
    let other = Pipeline::of(&read, Some(&ddim)).unwrap();
    assert_eq!(
        (other.scheduler.class(), other.steps, other.difference),
        ("DDIMScheduler", Some(9), None)
    );
}

#[test]
fn the_program_fits_scheduler_and_classes() {
    let plain = of_unet(SHAPE);
    let classes = of_unet(told(ConditionShape {
        classes: Some(3),
        null_class: true,
        ..SHAPE.condition
    }));
    let card = Card {
        name: "me/\"model\"",
        license: None,
        datasets: &[],
        grid: false,
    };
    for (model, sample, words, lacks) in [
        (
            &plain,
            json!({"sampler": "ddpm", "steps": 10}),
            &[
                "DDPMPipeline.from_pretrained(\"me/\\\"model\\\"\")",
                "pipeline(batch_size=4, num_inference_steps=10)",
            ][..],
            "torch",
        ),
        (
            &plain,
            json!({"sampler": {"kind": "ddim", "eta": 0.5}, "steps": 10}),
            &["import DDIMPipeline", "eta=0.5, num_inference_steps=10"],
            "torch",
        ),
        (
            &plain,
            json!({"sampler": "dpm_solver", "steps": 10}),
            &["pipeline(batch_size=4, num_inference_steps=10)"],
            "torch",
        ),
        (
            &plain,
            json!({"sampler": "euler", "steps": 10, "clip": false}),
            &[
                "import torch",
                "torch.randn(4, 1, 8, 12) * scheduler.init_noise_sigma",
                "scheduler.scale_model_input(x, t)",
            ],
            "class_labels",
        ),
        (
            &classes,
            json!({"sampler": "ddim", "steps": 10}),
            &[
                "class_labels = torch.tensor([0, 1, 2, 0])  # 0 to 2; 3 for no class",
                "t, class_labels=class_labels)",
            ],
            "batch_size",
        ),
    ] {
        let sample: SampleConfig = serde_json::from_value(sample).unwrap();
        let pipeline = Pipeline::of(model, Some(&sample)).unwrap();
        assert_eq!(pipeline.difference, None, "{sample:?}");
        let text = card.text(model, &pipeline);
        for word in words {
            assert!(text.contains(word), "no {word} in: {text}");
        }
        assert!(!text.contains(lacks), "{lacks} in: {text}");
    }
}

#[test]
fn a_card_says_what_a_hub_and_a_reader_ask() {
    let model = OpenedModel {
        trained: Some(json!({
            "data": {"kind": "folder", "path": "/home/me/secret/my_*cats*", "flip": true},
            "model": {"kind": "unet", "attention_at": [4]},
            "optim": {"lr": 2e-3, "decay": "cosine"},
            "train": {"batch": 32, "epochs": null},
            "init": {"model": "/home/me/secret/cats-001", "weights": "raw"},
        })),
        ..of_unet(SHAPE)
    };
    let pipeline = Pipeline::of(&model, None).unwrap();
    let datasets = ["uoft-cs/cifar10".to_owned()];
    let card = Card {
        name: "Cats",
        license: Some("mit"),
        datasets: &datasets,
        grid: true,
    };
    let text = card.text(&model, &pipeline);
    let front = "---\nlicense: mit\nlibrary_name: diffusers\ntags:\n- ddpm\n- diffusion\n\
                 - unconditional-image-generation\ndatasets:\n- uoft-cs/cifar10\n\
                 pipeline_tag: unconditional-image-generation\n---\n\n# Cats\n";
    assert!(text.starts_with(front), "{text}");
    for word in [
        "draws grey images of 8x12 pixels",
        "Process: 1000 steps of the table linear; the network predicts eps",
        "Data: my_\\*cats\\* (folder), mirrored at random",
        "Training: 7 steps of 32 images, 224 in all",
        "Began with the weights of cats-001",
        "Weights: their exponential moving average (EMA)",
        "![Samples](grid.png)",
        "ddpm sample --model model -n 16 --grid grid.png",
        "```toml\ndata.flip = true\ndata.kind = \"folder\"\nmodel.attention_at = [4]\nmodel.kind = \"unet\"\n\
         optim.decay = \"cosine\"\noptim.lr = 0.002\ntrain.batch = 32\n```",
    ] {
        assert!(text.contains(word), "no {word} in: {text}");
    }
    for word in ["secret", "null"] {
        assert!(!text.contains(word), "{word} in: {text}");
    }
    let unknown = Card {
        license: None,
        datasets: &[],
        grid: false,
        ..card
    };
    let text = unknown.text(&model, &pipeline);
    assert!(text.starts_with("---\nlicense: unknown\n"), "{text}");
    for word in ["datasets:", "grid.png)"] {
        assert!(!text.contains(word), "{word} in: {text}");
    }
}
