use ddpm_diffusion::{Sampler, VarianceOutput};
use ddpm_schedule::{ScheduleKind, VarianceKind};

use super::*;

const PATH: &str = "m/scheduler_config.json";

fn read(value: Value) -> Result<Scheduler> {
    let keys = value.as_object().unwrap().clone();
    Scheduler::from_json(Path::new(PATH), keys)
}

fn choose(value: Value) -> Result<Choice> {
    read(value)?.choice(None)
}

#[test]
fn nothing_means_ddpm_as_diffusers_has_it() {
    let plain = choose(json!({})).unwrap();
    assert_eq!(plain.sample.sampler.name(), "ddpm");
    assert_eq!(plain.sample.steps, Some(1000));
    assert_eq!(plain.sample.spacing, Some(Spacing::Leading {}));
    assert!(plain.sample.clip);
    let network = read(json!({})).unwrap().network().unwrap();
    assert_eq!(network.schedule, ScheduleConfig::default());
    let nulls = json!({"trained_betas": null, "variance_type": null, "skip_prk_steps": true});
    assert_eq!(choose(nulls).unwrap(), plain);
    let old = read(json!({"predict_epsilon": false})).unwrap();
    assert_eq!(old.network().unwrap().meaning.prediction, Prediction::X0);
}

#[test]
fn every_class_is_sampled_from_as_its_defaults_say() {
    for (class, sampler, process, steps) in [
        ("DDPMScheduler", "ddpm", "discrete", 1000),
        ("DDPMParallelScheduler", "ddpm", "discrete", 1000),
        ("DDIMScheduler", "ddim", "discrete", 50),
        ("DDIMParallelScheduler", "ddim", "discrete", 50),
        ("PNDMScheduler", "pndm", "discrete", 50),
        ("DEISMultistepScheduler", "deis", "discrete", 50),
        ("DPMSolverMultistepScheduler", "dpm_solver", "discrete", 50),
        (
            "DPMSolverSinglestepScheduler",
            "dpm_singlestep",
            "discrete",
            50,
        ),
        ("UniPCMultistepScheduler", "unipc", "discrete", 50),
        ("EulerDiscreteScheduler", "euler", "discrete", 50),
        (
            "EulerAncestralDiscreteScheduler",
            "euler_ancestral",
            "discrete",
            50,
        ),
        ("HeunDiscreteScheduler", "heun", "discrete", 50),
        ("LMSDiscreteScheduler", "lms", "discrete", 50),
        ("KDPM2DiscreteScheduler", "dpm2", "discrete", 50),
        (
            "KDPM2AncestralDiscreteScheduler",
            "dpm2_ancestral",
            "discrete",
            50,
        ),
        ("EDMEulerScheduler", "euler", "edm", 50),
        ("EDMDPMSolverMultistepScheduler", "dpm_solver", "edm", 50),
        ("FlowMatchEulerDiscreteScheduler", "euler", "flow", 50),
        ("FlowMatchHeunDiscreteScheduler", "heun", "flow", 50),
    ] {
        let scheduler = read(json!({"_class_name": class})).unwrap();
        let choice = scheduler.choice(None).unwrap();
        let found = (choice.sample.sampler.name(), choice.process.name());
        assert_eq!(found, (sampler, process), "{class}");
        assert_eq!(choice.sample.steps, Some(steps), "{class}");
        choice.sample.plan(&choice.process, choice.meaning).unwrap();
        // Whatever the class has is asked for.
        let mut keys = scheduler.keys();
        let mut asked = Asked {
            steps,
            set_timesteps: scheduler.nothing(),
            step: scheduler.nothing(),
        };
        classes::choice(scheduler.class(), &mut keys, &mut asked).unwrap();
        assert_eq!(keys.keys, Map::new(), "{class}");
        assert_eq!(scheduler.choice(Some(7)).unwrap().sample.steps, Some(7));
        let again = read(Value::Object(scheduler.to_json())).unwrap();
        assert_eq!(again, scheduler);
    }
}

impl Scheduler {
    fn nothing(&self) -> Keys<'_> {
        Keys {
            path: &self.path,
            keys: Map::new(),
        }
    }
}

#[test]
fn networks_of_samplers_that_are_not_here_are_known() {
    for class in ["DPMSolverSDEScheduler", "SASolverScheduler"] {
        let keys = json!({"_class_name": class, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction"});
        let scheduler = read(keys).unwrap();
        let network = scheduler.network().unwrap();
        assert_eq!(network.schedule.kind, ScheduleKind::ScaledLinear);
        assert_eq!(network.meaning.prediction, Prediction::V);
        let message = scheduler.choice(None).unwrap_err().to_string();
        assert!(
            message.contains("`_class_name`") && message.contains(class),
            "{message}"
        );
        assert!(scheduler.for_any_sampler().unwrap().clip);
    }
    // A class that is known, with a setting that is not.
    let sde = read(
        json!({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "sde-dpmsolver"}),
    );
    let sde = sde.unwrap();
    assert_eq!(sde.network().unwrap().schedule.steps, 1000);
    let message = sde.choice(None).unwrap_err().to_string();
    assert!(message.contains("`algorithm_type`"), "{message}");
}

#[test]
fn other_networks_are_refused_by_their_class() {
    for name in [
        "FlowMatchLCMScheduler",
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
        let error = read(json!({"_class_name": name})).unwrap_err();
        assert!(
            matches!(&error, StoreError::Unsupported { key, .. } if key == "_class_name"),
            "{error}"
        );
        assert!(error.to_string().contains(name), "{error}");
    }
}

/// What a key's value does beside the class alone.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Does {
    /// The choice differs.
    Changes,
    /// Nothing, in diffusers neither.
    Nothing,
    /// An error that names the key.
    Refused,
}
use Does::{Changes, Nothing, Refused};

/// A key, a value, and what it does.
type Row = (&'static str, Value, Does);

#[test]
fn every_key_of_every_class_is_heeded_or_refused() {
    let of_tables = [
        ("num_train_timesteps", json!(500), Changes),
        ("num_train_timesteps", json!(-5), Refused),
        ("beta_start", json!(0.001), Changes),
        ("beta_end", json!(0.03), Changes),
        ("beta_end", json!("0.02"), Refused),
        ("beta_schedule", json!("scaled_linear"), Changes),
        ("beta_schedule", json!("squaredcos_cap_v2"), Changes),
        ("beta_schedule", json!("sigmoid"), Changes),
        ("beta_schedule", json!("laplace"), Changes),
        ("beta_schedule", json!("cubic"), Refused),
        ("trained_betas", json!([0.1, "x"]), Refused),
        ("prediction_type", json!("v_prediction"), Changes),
        ("prediction_type", json!("flow_prediction"), Refused),
        ("algorithm", json!("of nobody"), Nothing),
    ];
    let spaced = [
        ("timestep_spacing", json!("trailing"), Changes),
        ("timestep_spacing", json!("karras"), Refused),
        ("timestep_spacing", json!(3), Refused),
        ("steps_offset", json!(1), Changes),
        ("steps_offset", json!(0.5), Refused),
    ];
    let held = [
        ("clip_sample", json!(false), Changes),
        ("clip_sample", json!(1), Refused),
        ("clip_sample_range", json!(2.0), Changes),
        ("clip_sample_range", json!(-1.0), Refused),
        ("thresholding", json!(true), Changes),
        ("thresholding", json!(false), Nothing),
        ("prediction_type", json!("sample"), Changes),
    ];
    let tables: [(&str, &[Row]); 13] = [
        (
            "DDPMScheduler",
            &[
                ("variance_type", json!("fixed_large"), Changes),
                ("variance_type", json!("learned_range"), Changes),
                ("variance_type", json!("fixed_small_log"), Nothing),
                ("variance_type", json!("fixed_large_log"), Refused),
                ("variance_type", json!("learned"), Refused),
                ("use_karras_sigmas", json!(true), Nothing),
                ("set_alpha_to_one", json!(false), Nothing),
            ],
        ),
        (
            "DDIMScheduler",
            &[
                ("set_alpha_to_one", json!(false), Changes),
                ("set_alpha_to_one", json!("no"), Refused),
                ("variance_type", json!("fixed_large"), Nothing),
                ("skip_prk_steps", json!(true), Nothing),
            ],
        ),
        (
            "PNDMScheduler",
            &[
                ("skip_prk_steps", json!(true), Changes),
                ("set_alpha_to_one", json!(true), Changes),
                ("prediction_type", json!("sample"), Refused),
                ("clip_sample", json!(true), Nothing),
            ],
        ),
        (
            "DEISMultistepScheduler",
            &[
                ("solver_order", json!(3), Changes),
                ("lower_order_final", json!(false), Changes),
                ("algorithm_type", json!("dpmsolver"), Nothing),
                ("algorithm_type", json!("other"), Refused),
                ("use_karras_sigmas", json!(true), Changes),
                ("use_flow_sigmas", json!(true), Changes),
                ("flow_shift", json!(3.0), Nothing),
                ("final_sigmas_type", json!("sigma_min"), Nothing),
            ],
        ),
        (
            "DPMSolverMultistepScheduler",
            &[
                ("algorithm_type", json!("sde-dpmsolver++"), Changes),
                ("algorithm_type", json!("sde-dpmsolver"), Refused),
                ("solver_type", json!("heun"), Changes),
                ("euler_at_final", json!(true), Changes),
                ("use_lu_lambdas", json!(true), Changes),
                ("use_beta_sigmas", json!(true), Changes),
                ("final_sigmas_type", json!("sigma_min"), Changes),
                ("lambda_min_clipped", json!(-3.0), Changes),
                ("lambda_min_clipped", json!("-Infinity"), Nothing),
                ("variance_type", json!("learned_range"), Changes),
                ("sigma_min", json!(0.1), Nothing),
            ],
        ),
        (
            "DPMSolverSinglestepScheduler",
            &[
                ("solver_order", json!(3), Changes),
                ("algorithm_type", json!("sde-dpmsolver++"), Refused),
                ("timestep_spacing", json!("trailing"), Nothing),
            ],
        ),
        (
            "UniPCMultistepScheduler",
            &[
                ("predict_x0", json!(false), Changes),
                ("disable_corrector", json!([0]), Changes),
                ("solver_p", json!({"_class_name": "DDIMScheduler"}), Refused),
                ("use_exponential_sigmas", json!(true), Changes),
            ],
        ),
        (
            "EulerDiscreteScheduler",
            &[
                ("interpolation_type", json!("log_linear"), Changes),
                ("interpolation_type", json!("cubic"), Refused),
                ("timestep_type", json!("continuous"), Nothing),
                ("timestep_type", json!("other"), Refused),
                ("final_sigmas_type", json!("sigma_min"), Changes),
                ("final_sigmas_type", json!("other"), Refused),
                ("use_karras_sigmas", json!(true), Changes),
                ("clip_sample", json!(true), Nothing),
                ("solver_order", json!(3), Nothing),
            ],
        ),
        (
            "EulerAncestralDiscreteScheduler",
            &[
                ("prediction_type", json!("sample"), Refused),
                ("use_karras_sigmas", json!(true), Nothing),
            ],
        ),
        (
            "HeunDiscreteScheduler",
            &[
                ("clip_sample", json!(true), Changes),
                ("use_beta_sigmas", json!(true), Changes),
            ],
        ),
        (
            "LMSDiscreteScheduler",
            &[("use_exponential_sigmas", json!(true), Changes)],
        ),
        (
            "KDPM2DiscreteScheduler",
            &[("use_karras_sigmas", json!(true), Changes)],
        ),
        (
            "KDPM2AncestralDiscreteScheduler",
            &[("prediction_type", json!("sample"), Refused)],
        ),
    ];
    let others: [(&str, &[Row]); 4] = [
        (
            "EDMEulerScheduler",
            &[
                ("sigma_min", json!(0.01), Changes),
                ("sigma_max", json!(10.0), Changes),
                ("sigma_data", json!(1.0), Changes),
                ("sigma_schedule", json!("exponential"), Changes),
                ("sigma_schedule", json!("linear"), Refused),
                ("rho", json!(3.0), Changes),
                ("prediction_type", json!("v_prediction"), Changes),
                ("prediction_type", json!("sample"), Refused),
                ("final_sigmas_type", json!("sigma_min"), Changes),
                ("num_train_timesteps", json!(500), Nothing),
                ("beta_start", json!(0.1), Nothing),
            ],
        ),
        (
            "EDMDPMSolverMultistepScheduler",
            &[
                ("solver_order", json!(3), Changes),
                ("thresholding", json!(true), Changes),
            ],
        ),
        (
            "FlowMatchEulerDiscreteScheduler",
            &[
                ("shift", json!(3.0), Changes),
                ("shift_terminal", json!(0.1), Changes),
                ("stochastic_sampling", json!(true), Changes),
                ("use_karras_sigmas", json!(true), Changes),
                ("num_train_timesteps", json!(500), Changes),
                ("invert_sigmas", json!(true), Refused),
                ("use_dynamic_shifting", json!(true), Refused),
                ("base_shift", json!(0.1), Nothing),
            ],
        ),
        (
            "FlowMatchHeunDiscreteScheduler",
            &[
                ("shift", json!(3.0), Changes),
                ("shift_terminal", json!(0.1), Nothing),
            ],
        ),
    ];
    let mut rows: Vec<(&str, &Row)> = Vec::new();
    for (class, own) in tables.iter().chain(&others) {
        let has = |key: &str| classes::known(class).unwrap().1.contains_key(key);
        let shared = of_tables.iter().filter(|_| has("beta_schedule"));
        let shared = shared.chain(spaced.iter().filter(|_| has("timestep_spacing")));
        let shared = shared.chain(
            held.iter()
                .filter(|_| has("set_alpha_to_one") && has("clip_sample")),
        );
        rows.extend(shared.chain(*own).map(|row| (*class, row)));
    }
    for (class, (key, value, does)) in rows {
        // A spacing that heeds the offset.
        let mut keys = json!({"_class_name": class});
        if *key == "steps_offset" {
            keys["timestep_spacing"] = json!("leading");
        }
        let alone = choose(keys.clone()).unwrap();
        keys[*key] = value.clone();
        let did = match choose(keys) {
            Ok(choice) if choice == alone => Nothing,
            Ok(_) => Changes,
            Err(StoreError::Unsupported { key: k, path, .. }) if k == *key => {
                assert_eq!(path, Path::new(PATH));
                Refused
            }
            Err(other) => panic!("{class} {key}: {other}"),
        };
        assert_eq!(did, *does, "{class} {key} {value}");
    }
}

#[test]
fn keys_that_need_each_other_are_looked_at_together() {
    for (keys, key) in [
        (
            json!({"num_train_timesteps": 3, "trained_betas": [0.1, 0.2]}),
            "num_train_timesteps",
        ),
        (json!({"rescale_betas_zero_snr": true}), "prediction_type"),
        (
            json!({"_class_name": "LMSDiscreteScheduler", "use_karras_sigmas": true, "use_beta_sigmas": true}),
            "use_beta_sigmas",
        ),
        (json!({"_class_name": ["DDPMScheduler"]}), "_class_name"),
        (
            json!({"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver"}),
            "final_sigmas_type",
        ),
        (
            json!({"_class_name": "UniPCMultistepScheduler", "solver_type": "bh1"}),
            "final_sigmas_type",
        ),
        (
            json!({"_class_name": "EDMDPMSolverMultistepScheduler", "algorithm_type": "dpmsolver",
                   "final_sigmas_type": "sigma_min"}),
            "algorithm_type",
        ),
    ] {
        let refused = choose(keys).unwrap_err();
        assert!(
            matches!(&refused, StoreError::Unsupported { key: k, .. } if k == key),
            "{refused}"
        );
    }
    for impossible in [
        json!({"beta_start": 2.0}),
        json!({"num_train_timesteps": 0}),
    ] {
        assert!(matches!(read(impossible), Err(StoreError::Format { .. })));
    }
    let zero = json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"});
    assert!(
        read(zero)
            .unwrap()
            .network()
            .unwrap()
            .schedule
            .zero_terminal_snr
    );
    let continuous = json!({
        "_class_name": "EulerDiscreteScheduler", "timestep_type": "continuous", "prediction_type": "v_prediction"
    });
    assert_eq!(choose(continuous).unwrap().process.name(), "edm");
    let learned = choose(json!({"variance_type": "learned_range"})).unwrap();
    assert_eq!(learned.meaning.variance, VarianceOutput::Range);
    let Sampler::Ddpm(ddpm) = learned.sample.sampler else {
        panic!("it is DDPM")
    };
    assert_eq!(ddpm.variance, Some(VarianceKind::Learned));
}

#[test]
fn a_call_is_heeded_or_refused() {
    let called = |class: &str, call: Value| choose(json!({"_class_name": class, "_call": call}));
    let ddim = called("DDIMScheduler", json!({"steps": 20, "step": {"eta": 0.5}})).unwrap();
    assert_eq!(
        (ddim.sample.steps, ddim.sample.ddim().unwrap().eta),
        (Some(20), 0.5)
    );
    let steps = json!({"steps": 3, "set_timesteps": {"timesteps": [900, 500, 100]}});
    let listed = json!({"_call": steps});
    let scheduler = read(listed).unwrap();
    let times = Some(Spacing::Times {
        times: vec![900.0, 500.0, 100.0],
    });
    assert_eq!(scheduler.choice(None).unwrap().sample.spacing, times);
    // A list is of its own number of steps.
    let other = scheduler.choice(Some(10)).unwrap();
    assert_eq!(other.sample.spacing, Some(Spacing::Leading {}));
    let again = read(Value::Object(scheduler.to_json())).unwrap();
    assert_eq!(again, scheduler);
    for (call, named) in [
        (json!({"step": {"s_churn": 1.0}}), "s_churn"),
        (json!({"steps": 1_000_000_000_000_u64}), "steps"),
    ] {
        let refused = called("DDIMScheduler", call).unwrap_err();
        assert!(
            matches!(&refused, StoreError::Unsupported { key, .. } if key == named),
            "{refused}"
        );
    }
}

#[test]
fn files_of_python_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scheduler_config.json");
    let text =
        "{\"_class_name\": \"DPMSolverMultistepScheduler\", \"lambda_min_clipped\": -Infinity}";
    std::fs::write(&path, text).unwrap();
    let found = Scheduler::read(&path).unwrap().choice(None).unwrap();
    let plain = json!({"_class_name": "DPMSolverMultistepScheduler"});
    assert_eq!(found, choose(plain).unwrap());
}
