use super::*;

fn read(value: Value) -> Result<SchedulerSettings> {
    let keys = value.as_object().unwrap().clone();
    SchedulerSettings::from_json(Path::new("m/scheduler_config.json"), keys)
}

#[test]
fn nothing_means_the_defaults() {
    assert_eq!(read(json!({})).unwrap(), SchedulerSettings::default());
    let nulls = json!({"trained_betas": null, "variance_type": null, "skip_prk_steps": true});
    assert_eq!(read(nulls).unwrap(), SchedulerSettings::default());
}

#[test]
fn every_key_is_heard() {
    let settings = read(json!({
        "num_train_timesteps": 200, "beta_start": 0.001, "beta_end": 0.03,
        "beta_schedule": "scaled_linear", "variance_type": "fixed_large", "clip_sample": false,
        "clip_sample_range": 2.5, "prediction_type": "v_prediction",
        "timestep_spacing": "trailing", "steps_offset": 1, "rescale_betas_zero_snr": true,
    }))
    .unwrap();
    let expected = SchedulerSettings {
        class: SchedulerClass::Ddpm,
        schedule: ScheduleConfig {
            kind: ScheduleKind::ScaledLinear,
            steps: 200,
            beta_start: 0.001,
            beta_end: 0.03,
            zero_terminal_snr: true,
            ..Default::default()
        },
        prediction: Prediction::V,
        variance: VarianceKind::Large,
        clip: false,
        clip_range: 2.5,
        spacing: Spacing::Trailing,
        steps_offset: 1,
        to_first: false,
        steps: None,
    };
    assert_eq!(settings, expected);
    let old = read(json!({"predict_epsilon": false})).unwrap();
    assert_eq!(old.prediction, Prediction::X0);
}

#[test]
fn a_value_without_meaning_names_its_key() {
    let cases = [
        ("beta_schedule", json!("laplace")),
        ("variance_type", json!("learned_range")),
        ("prediction_type", json!("flow")),
        ("timestep_spacing", json!(3)),
        ("num_train_timesteps", json!(-5)),
        ("beta_end", json!("0.02")),
        ("clip_sample", json!(1)),
        ("trained_betas", json!([0.1, "x"])),
        ("steps_offset", json!(0.5)),
        ("thresholding", json!(true)),
        ("set_alpha_to_one", json!("no")),
        ("use_flow_sigmas", json!(true)),
        ("timestep_type", json!("continuous")),
        ("clip_sample_range", json!(0.0)),
        ("_class_name", json!(["DDPMScheduler"])),
    ];
    for (key, value) in cases {
        let error = read(json!({ key: value })).unwrap_err();
        assert!(
            matches!(&error, StoreError::Unsupported { key: k, .. } if k == key),
            "{error}"
        );
        assert!(error.to_string().contains("scheduler_config.json"));
    }
    let differing = read(json!({"num_train_timesteps": 3, "trained_betas": [0.1, 0.2]}));
    assert!(matches!(
        differing,
        Err(StoreError::Unsupported { key, .. }) if key == "num_train_timesteps"
    ));
    for impossible in [
        json!({"beta_start": 2.0}),
        json!({"num_train_timesteps": 0}),
    ] {
        assert!(matches!(read(impossible), Err(StoreError::Format { .. })));
    }
}

#[test]
fn every_schedule_survives_the_way_there_and_back() {
    let kinds = [
        ScheduleKind::Linear,
        ScheduleKind::ScaledLinear,
        ScheduleKind::Cosine,
        ScheduleKind::SigmoidBeta,
        ScheduleKind::SigmoidAlphaBar,
    ];
    let path = Path::new("scheduler_config.json");
    for kind in kinds {
        for (scale_ends, zero_terminal_snr) in [(false, false), (true, false), (false, true)] {
            let schedule = ScheduleConfig {
                kind,
                steps: 100,
                scale_ends,
                zero_terminal_snr,
                ..Default::default()
            };
            // ε cannot end without signal.
            let settings = SchedulerSettings {
                schedule,
                prediction: Prediction::V,
                ..Default::default()
            };
            let json = settings.to_json(path).unwrap();
            let text = serde_json::to_string(&json).unwrap();
            let back = read(serde_json::from_str(&text).unwrap()).unwrap();
            let (a, b) = (
                settings.schedule.build().unwrap(),
                back.schedule.build().unwrap(),
            );
            assert_eq!(a, b, "{kind:?} {scale_ends} {zero_terminal_snr}");
            let listed = kind == ScheduleKind::SigmoidAlphaBar;
            assert_eq!(json["trained_betas"].is_array(), listed);
        }
    }
    let betas = vec![0.1, 0.25, 0.5];
    let schedule = ScheduleConfig {
        kind: ScheduleKind::Custom,
        steps: 3,
        betas: Some(betas),
        ..Default::default()
    };
    let settings = SchedulerSettings {
        schedule,
        ..Default::default()
    };
    assert_eq!(
        read(Value::Object(settings.to_json(path).unwrap())).unwrap(),
        settings
    );
}

/// What a key's value does beside the class alone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// The settings differ.
    Changes,
    /// Nothing, in diffusers neither.
    Nothing,
    /// An error that names the key.
    Refused,
}
use Does::{Changes, Nothing, Refused};

#[test]
fn every_key_of_every_class_is_heeded_or_refused() {
    let (ddpm, ddim) = ("DDPMScheduler", "DDIMScheduler");
    let euler = "EulerDiscreteScheduler";
    let shared = [
        ("num_train_timesteps", json!(500), Changes),
        ("beta_start", json!(0.001), Changes),
        ("beta_end", json!(0.03), Changes),
        ("beta_schedule", json!("scaled_linear"), Changes),
        ("beta_schedule", json!("squaredcos_cap_v2"), Changes),
        ("beta_schedule", json!("sigmoid"), Changes),
        ("beta_schedule", json!("laplace"), Refused),
        ("trained_betas", json!([0.1, 0.2]), Changes),
        ("clip_sample", json!(false), Changes),
        ("clip_sample_range", json!(2.0), Changes),
        ("clip_sample_range", json!(-1.0), Refused),
        ("prediction_type", json!("sample"), Changes),
        ("prediction_type", json!("v_prediction"), Changes),
        ("prediction_type", json!("flow_prediction"), Refused),
        ("thresholding", json!(true), Refused),
        ("thresholding", json!(false), Nothing),
        ("dynamic_thresholding_ratio", json!(0.5), Nothing),
        ("sample_max_value", json!(2.0), Nothing),
        ("timestep_spacing", json!("trailing"), Changes),
        ("timestep_spacing", json!("karras"), Refused),
        ("steps_offset", json!(1), Changes),
        ("set_alpha_to_one", json!(false), Changes),
        ("variance_type", json!("fixed_large"), Changes),
        ("variance_type", json!("fixed_small_log"), Nothing),
        ("variance_type", json!("fixed_large_log"), Refused),
        ("variance_type", json!("learned"), Refused),
        ("variance_type", json!("learned_range"), Refused),
        ("skip_prk_steps", json!(true), Nothing),
        ("use_flow_sigmas", json!(true), Refused),
        ("timestep_type", json!("continuous"), Refused),
        // Other schedulers' keys, which DDPM and DDIM pass over in diffusers too.
        ("use_karras_sigmas", json!(true), Nothing),
        ("solver_order", json!(3), Nothing),
    ];
    let cases = [ddpm, ddim, euler].into_iter().flat_map(|class| {
        let row = move |(key, value, does): &(&'static str, Value, Does)| {
            (class, *key, value.clone(), *does)
        };
        shared.iter().map(row).collect::<Vec<_>>()
    });
    for (class, key, value, does) in cases {
        let alone = read(json!({"_class_name": class})).unwrap();
        let found = read(json!({"_class_name": class, key: value}));
        let did = match &found {
            Ok(settings) if *settings == alone => Nothing,
            Ok(_) => Changes,
            Err(StoreError::Unsupported { key: k, .. }) if k == key => Refused,
            Err(other) => panic!("{class} {key}: {other}"),
        };
        assert_eq!(did, does, "{class} {key} {value}");
    }
    // Two keys that need each other.
    let zero = |prediction| {
        let keys = json!({"rescale_betas_zero_snr": true, "prediction_type": prediction});
        read(keys)
    };
    assert!(zero("v_prediction").unwrap().schedule.zero_terminal_snr);
    let message = zero("epsilon").unwrap_err().to_string();
    assert!(message.contains("`prediction_type`"), "{message}");
}

#[test]
fn classes_decide_about_the_sampler() {
    let class = |name: &str| read(json!({"_class_name": name})).map(|settings| settings.class);
    for (name, expected) in [
        ("DDPMScheduler", SchedulerClass::Ddpm),
        ("DDPMParallelScheduler", SchedulerClass::Ddpm),
        ("DDIMScheduler", SchedulerClass::Ddim),
        ("DDIMParallelScheduler", SchedulerClass::Ddim),
    ] {
        assert_eq!(class(name).unwrap(), expected);
    }
    for name in [
        "PNDMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "DPMSolverSDEScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "KDPM2DiscreteScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "SASolverScheduler",
    ] {
        assert_eq!(class(name).unwrap(), SchedulerClass::Other(name.to_owned()));
    }
    // Other processes, other networks, or no simple sampling.
    for name in [
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "FlowMatchLCMScheduler",
        "EDMEulerScheduler",
        "EDMDPMSolverMultistepScheduler",
        "ScoreSdeVeScheduler",
        "ScoreSdeVpScheduler",
        "KarrasVeScheduler",
        "CMStochasticIterativeScheduler",
        "ConsistencyDecoderScheduler",
        "CosineDPMSolverMultistepScheduler",
        "LCMScheduler",
        "TCDScheduler",
        "IPNDMScheduler",
        "VQDiffusionScheduler",
        "RePaintScheduler",
        "UnCLIPScheduler",
        "DDPMWuerstchenScheduler",
        "DDIMInverseScheduler",
        "CogVideoXDDIMScheduler",
        "SCMScheduler",
        "AmusedScheduler",
        "OfSomebodyElse",
    ] {
        let error = class(name).unwrap_err();
        assert!(
            matches!(&error, StoreError::Unsupported { key, .. } if key == "_class_name"),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn missing_keys_mean_what_their_class_says() {
    let heun = read(json!({"_class_name": "HeunDiscreteScheduler"})).unwrap();
    assert_eq!(
        (
            heun.schedule.beta_start,
            heun.schedule.beta_end,
            heun.spacing
        ),
        (0.000_85, 0.012, Spacing::Linspace)
    );
    let pndm = read(json!({"_class_name": "PNDMScheduler"})).unwrap();
    assert_eq!(
        (
            pndm.schedule.beta_start,
            pndm.schedule.beta_end,
            pndm.spacing
        ),
        (1e-4, 0.02, Spacing::Leading)
    );
}

#[test]
fn ddim_comes_back() {
    let settings = SchedulerSettings {
        class: SchedulerClass::Ddim,
        to_first: true,
        steps_offset: 3,
        ..Default::default()
    };
    let json = settings.to_json(Path::new("s.json")).unwrap();
    assert_eq!(json["set_alpha_to_one"], false);
    assert_eq!(read(Value::Object(json)).unwrap(), settings);
}
