use ddpm_diffusion::{Meaning, SampleConfig, VarianceOutput};
use ddpm_schedule::{Edm, Flow, Prediction, ProcessConfig, ScheduleConfig, ScheduleKind, Vp};
use serde_json::{Value, json};

use super::*;

const FILE: &str = "m/scheduler_config.json";

fn network(process: ProcessConfig, prediction: Prediction) -> NetworkSettings {
    NetworkSettings {
        process,
        schedule: ScheduleConfig::default(),
        meaning: prediction.into(),
    }
}

fn table() -> NetworkSettings {
    network(ProcessConfig::Discrete {}, Prediction::Eps)
}

fn edm() -> NetworkSettings {
    network(ProcessConfig::Edm(Edm::default()), Prediction::Edm)
}

fn flow(shift: f64) -> NetworkSettings {
    let flow = Flow {
        shift,
        ..Flow::default()
    };
    network(ProcessConfig::Flow(flow), Prediction::Velocity)
}

fn sample(json: Value) -> SampleConfig {
    serde_json::from_value(json).unwrap()
}

/// What is written for a network, and a plan of what it samples.
fn written(network: &NetworkSettings, json: Value) -> (Written, Plan) {
    let sample = sample(json);
    let process = network.process.build(&network.schedule).unwrap();
    let plan = sample.plan(&process, network.meaning).unwrap();
    (
        Written::of(Path::new(FILE), network, &sample).unwrap(),
        plan,
    )
}

/// The class that samples alike once it has been through a file, and what its call is told; else the difference.
fn class(network: &NetworkSettings, json: Value) -> Result<(String, Value), String> {
    let (written, plan) = written(network, json);
    let text = serde_json::to_string(&written.scheduler.to_json()).unwrap();
    let back = Scheduler::from_json(Path::new(FILE), serde_json::from_str(&text).unwrap()).unwrap();
    let read = back.network().unwrap();
    assert!(alike::same_process(&read, network), "{text}");
    match written.difference {
        Some(difference) => Err(difference),
        None => {
            assert!(alike::alike(&back, &plan), "{text}");
            let call = json!([back.call.set_timesteps, back.call.step]);
            Ok((back.class().to_owned(), call))
        }
    }
}

#[test]
fn every_sampler_that_diffusers_has_comes_back() {
    let none = json!([{}, {}]);
    let free = |mut sample: Value| {
        sample["clip"] = json!(false);
        sample
    };
    for (network, sample, expected, call) in [
        (table(), json!({}), "DDPMScheduler", none.clone()),
        (
            table(),
            json!({"steps": 50, "spacing": "trailing"}),
            "DDPMScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": {"kind": "ddpm", "variance": "large"}}),
            "DDPMScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"spacing": {"kind": "times", "times": [900.0, 400.0, 0.0]}}),
            "DDPMScheduler",
            json!([{"timesteps": [900, 400, 0]}, {}]),
        ),
        (
            table(),
            json!({"sampler": {"kind": "ddim", "eta": 0.5}}),
            "DDIMScheduler",
            json!([{}, {"eta": 0.5, "use_clipped_model_output": true}]),
        ),
        (
            table(),
            json!({"sampler": {"kind": "ddim", "keep_eps": true}, "clip_range": 2.0, "grid": {"to_first": true}}),
            "DDIMScheduler",
            none.clone(),
        ),
        (
            table(),
            free(json!({"sampler": "pndm", "grid": {"to_first": true}})),
            "PNDMScheduler",
            none.clone(),
        ),
        (
            table(),
            free(json!({"sampler": {"kind": "pndm", "runge_kutta": true}})),
            "PNDMScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": {"kind": "deis", "order": 3}, "grid": {"to_first": true}}),
            "DEISMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": "dpm_solver"}),
            "DPMSolverMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": {"kind": "dpm_solver", "order": 3, "estimates": "eps"}, "spacing": "linspace",
                   "grid": {"open_end": true, "to_first": true}}),
            "DPMSolverMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": {"kind": "dpm_solver", "eta": 1.0, "solver": "heun"}, "spacing": "karras",
                   "grid": {"told": "nearest"}}),
            "DPMSolverMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": "dpm_solver", "spacing": "exponential", "threshold": {"ratio": 0.9, "most": 2.0},
                   "grid": {"told": "nearest"}}),
            "DPMSolverMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": "dpm_singlestep", "spacing": "linspace", "grid": {"open_end": true}}),
            "DPMSolverSinglestepScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": {"kind": "dpm_singlestep", "order": 3}, "steps": 4}),
            "DPMSolverSinglestepScheduler",
            json!([{"timesteps": [999, 749, 499, 249]}, {}]),
        ),
        (
            table(),
            json!({"sampler": "unipc"}),
            "UniPCMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            free(
                json!({"sampler": {"kind": "unipc", "variant": "bh1", "estimates": "eps", "disable_corrector": [0]},
                        "spacing": "linspace", "grid": {"open_end": true, "to_first": true}}),
            ),
            "UniPCMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            free(
                json!({"sampler": {"kind": "unipc", "order": 3}, "grid": {"told": "below"},
                        "spacing": {"kind": "exponential", "sigma_min": 0.1, "sigma_max": 50.0}}),
            ),
            "UniPCMultistepScheduler",
            none.clone(),
        ),
        (
            table(),
            free(json!({"sampler": "euler"})),
            "EulerDiscreteScheduler",
            none.clone(),
        ),
        (
            table(),
            free(
                json!({"sampler": {"kind": "euler", "s_churn": 10.0, "churn_late": true}, "steps": 20,
                        "spacing": {"kind": "karras", "sigma_min": 0.1, "sigma_max": 20.0}}),
            ),
            "EulerDiscreteScheduler",
            json!([{}, {"s_churn": 10.0, "s_tmin": 0.0, "s_tmax": f64::MAX, "s_noise": 1.0}]),
        ),
        (
            table(),
            free(
                json!({"sampler": "euler", "spacing": {"kind": "sigmas", "sigmas": [9.0, 3.0, 1.0]}}),
            ),
            "EulerDiscreteScheduler",
            json!([{"sigmas": [9.0, 3.0, 1.0, 0.0]}, {}]),
        ),
        (
            table(),
            free(json!({"sampler": "euler_ancestral"})),
            "EulerAncestralDiscreteScheduler",
            none.clone(),
        ),
        (
            table(),
            json!({"sampler": "heun", "spacing": "karras"}),
            "HeunDiscreteScheduler",
            none.clone(),
        ),
        (
            table(),
            free(json!({"sampler": {"kind": "lms", "order": 3}, "spacing": "exponential"})),
            "LMSDiscreteScheduler",
            json!([{}, {"order": 3}]),
        ),
        (
            table(),
            free(json!({"sampler": "dpm2", "spacing": "linspace", "grid": {"fractional": true}})),
            "KDPM2DiscreteScheduler",
            none.clone(),
        ),
        (
            table(),
            free(json!({"sampler": "dpm2_ancestral"})),
            "KDPM2AncestralDiscreteScheduler",
            none.clone(),
        ),
        (
            edm(),
            free(json!({"sampler": "euler"})),
            "EDMEulerScheduler",
            none.clone(),
        ),
        (
            edm(),
            json!({"sampler": {"kind": "dpm_solver", "order": 3}, "steps": 10,
                   "spacing": {"kind": "exponential", "sigma_max": 10.0}, "grid": {"to_first": true}}),
            "EDMDPMSolverMultistepScheduler",
            none.clone(),
        ),
        (
            flow(1.0),
            free(json!({"sampler": "euler", "spacing": "linspace"})),
            "FlowMatchEulerDiscreteScheduler",
            none.clone(),
        ),
        (
            flow(3.0),
            free(json!({"sampler": {"kind": "euler", "renoise": true}, "steps": 2})),
            "FlowMatchEulerDiscreteScheduler",
            json!([{"sigmas": [1.0, 0.5]}, {}]),
        ),
        (
            flow(1.0),
            free(json!({"sampler": "heun", "spacing": "linspace"})),
            "FlowMatchHeunDiscreteScheduler",
            none.clone(),
        ),
    ] {
        let found = class(&network, sample.clone());
        assert_eq!(found, Ok((expected.to_owned(), call)), "{sample}");
    }
}

#[test]
fn what_diffusers_does_not_do_alike_says_the_process_alone() {
    for (network, sample, words) in [
        // Every third of its strides is longer.
        (
            table(),
            json!({"sampler": "ddim", "steps": 30, "spacing": "trailing"}),
            "DDIMScheduler",
        ),
        // Only some classes clip.
        (
            table(),
            json!({"sampler": "euler"}),
            "EulerDiscreteScheduler has no limits for x0, and samples alike with sample.clip = false",
        ),
        (
            table(),
            json!({"sampler": "deis"}),
            "DEISMultistepScheduler",
        ),
        (
            table(),
            json!({"sampler": {"kind": "dpm_solver", "eta": 1.0, "order": 3}}),
            "DPMSolverMultistepScheduler",
        ),
        (
            table(),
            json!({"sampler": "dpmpp_sde"}),
            "no scheduler for the sampler dpmpp_sde",
        ),
        (
            edm(),
            json!({"sampler": "heun"}),
            "the sampler heun of the process edm",
        ),
        // Its last step leads nowhere, which diffusers divides by.
        (
            edm(),
            json!({"sampler": "dpm_solver", "steps": 20, "grid": {"to_first": true}}),
            "EDMDPMSolverMultistepScheduler",
        ),
        (
            flow(3.0),
            json!({"sampler": "heun", "clip": false}),
            "FlowMatchHeunDiscreteScheduler",
        ),
        (
            flow(1.0),
            json!({"sampler": "dpm_solver"}),
            "the sampler dpm_solver of the process flow",
        ),
    ] {
        let difference = class(&network, sample.clone()).unwrap_err();
        assert!(difference.contains(words), "{sample}: {difference}");
    }
    let (written, _) = written(&edm(), json!({"sampler": "heun"}));
    assert_eq!(written.scheduler.class(), "EDMEulerScheduler");
}

#[test]
fn every_table_comes_back() {
    for kind in [
        ScheduleKind::Linear,
        ScheduleKind::ScaledLinear,
        ScheduleKind::Cosine,
        ScheduleKind::SigmoidBeta,
        ScheduleKind::SigmoidAlphaBar,
    ] {
        for (scale_ends, zero_terminal_snr) in [(false, false), (true, false), (false, true)] {
            for (sampler, listed) in [
                ("ddpm", kind == ScheduleKind::SigmoidAlphaBar),
                ("unipc", true),
            ] {
                let named = [
                    ScheduleKind::Linear,
                    ScheduleKind::ScaledLinear,
                    ScheduleKind::Cosine,
                ];
                let schedule = ScheduleConfig {
                    kind,
                    steps: 100,
                    scale_ends,
                    zero_terminal_snr,
                    ..Default::default()
                };
                let network = NetworkSettings {
                    schedule,
                    // ε cannot end without signal.
                    ..super::tests::network(ProcessConfig::Discrete {}, Prediction::V)
                };
                let found = class(&network, json!({"sampler": sampler}));
                assert!(
                    found.is_ok(),
                    "{kind:?} {scale_ends} {zero_terminal_snr}: {found:?}"
                );
                let (written, _) = written(&network, json!({"sampler": sampler}));
                let json = written.scheduler.to_json();
                let listed = listed && !named.contains(&kind);
                assert_eq!(
                    json.contains_key("trained_betas"),
                    listed,
                    "{kind:?} {sampler}"
                );
            }
        }
    }
}

#[test]
fn learned_variances_come_back_where_diffusers_has_them() {
    let meaning = Meaning {
        variance: VarianceOutput::Range,
        ..Prediction::Eps.into()
    };
    let network = NetworkSettings { meaning, ..table() };
    for (sampler, alike) in [
        ("ddpm", true),
        ("dpm_solver", true),
        ("ddim", false),
        ("unipc", false),
    ] {
        assert_eq!(
            class(&network, json!({ "sampler": sampler })).is_ok(),
            alike,
            "{sampler}"
        );
    }
}

#[test]
fn networks_that_no_scheduler_drives_are_refused() {
    let vp = network(ProcessConfig::Vp(Vp::default()), Prediction::Eps);
    let with = |meaning| NetworkSettings { meaning, ..table() };
    let conditioned = with(Meaning {
        self_condition: true,
        ..Prediction::Eps.into()
    });
    let log = with(Meaning {
        variance: VarianceOutput::Log,
        ..Prediction::Eps.into()
    });
    let edm_of_x0 = network(ProcessConfig::Edm(Edm::default()), Prediction::X0);
    for (network, key) in [
        (vp, "process.kind"),
        (conditioned, "objective.self_condition"),
        (log, "objective.variance"),
        (edm_of_x0, "objective.prediction"),
    ] {
        let refused = Written::of(Path::new(FILE), &network, &SampleConfig::default());
        let refused = refused.or_else(|_| {
            let sample = sample(json!({"sampler": "euler"}));
            Written::of(Path::new(FILE), &network, &sample)
        });
        let error = refused.unwrap_err();
        assert!(
            matches!(&error, StoreError::Unsupported { key: k, .. } if k == key),
            "{error}"
        );
    }
}
