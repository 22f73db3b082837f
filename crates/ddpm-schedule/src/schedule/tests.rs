use proptest::prelude::*;
use serde_json::Value;

use super::*;

const ALL: [ScheduleKind; 5] = [
    ScheduleKind::Linear,
    ScheduleKind::ScaledLinear,
    ScheduleKind::Cosine,
    ScheduleKind::SigmoidBeta,
    ScheduleKind::SigmoidAlphaBar,
];

fn config(kind: ScheduleKind, steps: usize) -> ScheduleConfig {
    ScheduleConfig {
        kind,
        steps,
        ..Default::default()
    }
}

/// diffusers computes in float32, which holds a number near 1 to ε = 2⁻²⁴ ≈ 6·10⁻⁸.
///
/// ᾱ is a running product: its relative error grows like √T·ε, some 10⁻⁵ at T = 10,000, so
/// 10⁻⁴ relative holds for all of it, down to 10⁻²². So it does for a β that was given.
/// Rescaling makes β anew as 1 - ᾱ/ᾱ_prev, the difference of numbers near 1: a β of 10⁻⁴
/// carries a few ε of absolute error, which is 10⁻³ of itself.
fn close(ours: f64, theirs: f64, absolute: f64) -> bool {
    (ours - theirs).abs() <= 1e-4 * theirs.abs() + absolute
}

#[test]
fn equal_to_diffusers() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../../tests/golden/data/schedules.json")).unwrap();
    let cases = golden["schedules"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let kind = match case["kind"].as_str().unwrap() {
            "linear" => ScheduleKind::Linear,
            "scaled_linear" => ScheduleKind::ScaledLinear,
            "squaredcos_cap_v2" => ScheduleKind::Cosine,
            "sigmoid" => ScheduleKind::SigmoidBeta,
            other => panic!("unknown kind {other}"),
        };
        let zero_terminal_snr = case["zero_terminal_snr"].as_bool().unwrap();
        let steps = case["T"].as_u64().unwrap() as usize;
        let schedule = ScheduleConfig {
            zero_terminal_snr,
            ..config(kind, steps)
        }
        .build()
        .unwrap();
        let beta_floor = if zero_terminal_snr { 5e-7 } else { 0.0 };
        let index: Vec<usize> = serde_json::from_value(case["index"].clone()).unwrap();
        for (i, &t) in index.iter().enumerate() {
            let beta = case["beta"][i].as_f64().unwrap();
            let alpha_bar = case["alpha_bar"][i].as_f64().unwrap();
            let at = format!("{kind:?} T {steps} zero {zero_terminal_snr} t {t}");
            assert!(
                close(schedule.beta(t), beta, beta_floor),
                "{at}: β {} {beta}",
                schedule.beta(t)
            );
            assert!(
                close(schedule.alpha_bar(t), alpha_bar, 0.0),
                "{at}: ᾱ {} {alpha_bar}",
                schedule.alpha_bar(t)
            );
        }
    }
}

fn check_invariants(schedule: &Schedule, steps: usize) {
    assert_eq!(schedule.len(), steps);
    let mut previous = 1.0;
    for t in 0..steps {
        let (beta, alpha_bar) = (schedule.beta(t), schedule.alpha_bar(t));
        if t + 1 == steps && schedule.is_zero_terminal_snr() {
            assert_eq!((beta, alpha_bar), (1.0, 0.0));
            assert_eq!(
                (schedule.snr(t), schedule.log_snr(t)),
                (0.0, f64::NEG_INFINITY)
            );
            continue;
        }
        assert!(beta > 0.0 && beta < 1.0, "β[{t}] = {beta}");
        assert!(
            alpha_bar > 0.0 && alpha_bar < previous,
            "ᾱ[{t}] = {alpha_bar}"
        );
        assert!((alpha_bar / (previous * schedule.alpha(t)) - 1.0).abs() < 1e-9);
        assert!((schedule.log_snr(t) - schedule.snr(t).ln()).abs() < 1e-9);
        let unit =
            schedule.sqrt_alpha_bar(t).powi(2) + schedule.sqrt_one_minus_alpha_bar(t).powi(2);
        assert!((unit - 1.0).abs() < 1e-12);
        previous = alpha_bar;
    }
}

#[test]
fn every_kind_at_the_smallest_and_largest_sizes() {
    for kind in ALL {
        for steps in [1, 2, 3, 4000, MAX_STEPS] {
            for zero_terminal_snr in [false, true] {
                let config = ScheduleConfig {
                    zero_terminal_snr,
                    ..config(kind, steps)
                };
                let schedule = config.build().unwrap_or_else(|e| panic!("{config:?}: {e}"));
                assert_eq!(schedule.is_zero_terminal_snr(), zero_terminal_snr);
                check_invariants(&schedule, steps);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// ᾱ falls strictly in (0, 1] and β stays in (0, 1); the last step of zero terminal SNR is 0 and 1.
    #[test]
    fn invariants(
        kind in proptest::sample::select(ALL.to_vec()),
        steps in 1usize..=2000,
        beta_start in 1e-6f64..0.01,
        factor in 1.0f64..30.0,
        zero_terminal_snr: bool,
    ) {
        let config = ScheduleConfig { beta_start, beta_end: beta_start * factor, zero_terminal_snr, ..config(kind, steps) };
        check_invariants(&config.build().unwrap(), steps);
    }
}

#[test]
fn zero_terminal_snr_keeps_the_first_step_and_is_idempotent() {
    for kind in ALL {
        let plain = config(kind, 100).build().unwrap();
        let zero = plain.with_zero_terminal_snr().unwrap();
        assert!((zero.alpha_bar(0) - plain.alpha_bar(0)).abs() < 1e-15);
        assert!((1..100).all(|t| zero.alpha_bar(t) < plain.alpha_bar(t)));
        assert_eq!(zero.with_zero_terminal_snr().unwrap(), zero);
    }
}

#[test]
fn cosine_and_sigmoid_follow_their_papers() {
    let f = |s: f64| {
        ((s + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2)
            .cos()
            .powi(2)
    };
    let cosine = config(ScheduleKind::Cosine, 1000).build().unwrap();
    let sigmoid = config(ScheduleKind::SigmoidAlphaBar, 1000).build().unwrap();
    let s = |x: f64| 1.0 / (1.0 + (-x).exp());
    for t in [0, 1, 250, 500, 900, 998] {
        let at = (t + 1) as f64 / 1000.0;
        assert!((cosine.alpha_bar(t) / (f(at) / f(0.0)) - 1.0).abs() < 1e-9);
        // Jabri et al. 2022, algorithm 1: sigmoid(start..end), flipped and stretched to 1..0.
        let jabri = (s(3.0) - s(at * 6.0 - 3.0)) / (s(3.0) - s(-3.0));
        assert!((sigmoid.alpha_bar(t) / jabri - 1.0).abs() < 1e-9);
    }
    assert_eq!(cosine.beta(999), 0.999);
    assert_eq!(sigmoid.beta(999), 0.999);
    assert!((sigmoid.alpha_bar(499) - 0.5).abs() < 1e-12);
}

#[test]
fn scaled_ends_destroy_as_much_signal() {
    let full = config(ScheduleKind::Linear, 1000).build().unwrap();
    let short = ScheduleConfig {
        scale_ends: true,
        ..config(ScheduleKind::Linear, 250)
    }
    .build()
    .unwrap();
    assert!((short.beta(0) - 4e-4).abs() < 1e-15 && (short.beta(249) - 0.08).abs() < 1e-15);
    let ratio = short.log_snr(249) / full.log_snr(999);
    assert!((ratio - 1.0).abs() < 0.05, "{ratio}");
}

#[test]
fn listed_betas() {
    let custom = |betas: Vec<f64>| ScheduleConfig {
        betas: Some(betas.clone()),
        ..config(ScheduleKind::Custom, betas.len())
    };
    let schedule = custom(vec![0.1, 0.2, 1.0]).build().unwrap();
    assert_eq!(schedule.betas(), [0.1, 0.2, 1.0]);
    assert!((schedule.alpha_bar(1) - 0.72).abs() < 1e-15);
    assert!(schedule.is_zero_terminal_snr());
    assert!(custom(vec![0.1, 1.0, 0.2]).build().is_err());
}

#[test]
fn mistakes_are_named() {
    let base = ScheduleConfig::default;
    for (config, words) in [
        (
            ScheduleConfig { steps: 0, ..base() },
            vec!["schedule.steps is 0", "from 1 to 10000"],
        ),
        (
            ScheduleConfig {
                steps: 10_001,
                ..base()
            },
            vec!["10001"],
        ),
        (
            ScheduleConfig {
                beta_start: 0.0,
                ..base()
            },
            vec!["beta_start 0", "0 < beta_start"],
        ),
        (
            ScheduleConfig {
                beta_start: 0.5,
                ..base()
            },
            vec!["beta_start 0.5"],
        ),
        (
            ScheduleConfig {
                beta_end: 1.0,
                ..base()
            },
            vec!["beta_end 1"],
        ),
        (
            ScheduleConfig {
                beta_end: f64::NAN,
                ..base()
            },
            vec!["NaN"],
        ),
        (
            ScheduleConfig {
                steps: 10,
                scale_ends: true,
                ..base()
            },
            vec!["scale_ends", "1000/10"],
        ),
        (
            ScheduleConfig {
                beta_end: 0.9,
                steps: 10_000,
                ..base()
            },
            vec!["alpha_bar[", "fewer steps"],
        ),
        (
            ScheduleConfig {
                beta_start: 1e-20,
                ..base()
            },
            vec!["alpha_bar[0]"],
        ),
        (
            ScheduleConfig {
                kind: ScheduleKind::Custom,
                ..base()
            },
            vec!["needs schedule.betas"],
        ),
        (
            ScheduleConfig {
                kind: ScheduleKind::Custom,
                betas: Some(vec![0.1; 4]),
                ..base()
            },
            vec!["set schedule.steps = 4"],
        ),
        (
            ScheduleConfig {
                kind: ScheduleKind::Custom,
                steps: 2,
                betas: Some(vec![0.1, -0.1]),
                ..base()
            },
            vec!["beta[1] is -0.1"],
        ),
        (
            ScheduleConfig {
                betas: Some(vec![0.1; 4]),
                ..base()
            },
            vec!["custom"],
        ),
        (
            ScheduleConfig {
                kind: ScheduleKind::SigmoidAlphaBar,
                sigmoid_tau: 0.0,
                ..base()
            },
            vec!["sigmoid_tau"],
        ),
        (
            ScheduleConfig {
                kind: ScheduleKind::SigmoidAlphaBar,
                sigmoid_end: -4.0,
                ..base()
            },
            vec!["sigmoid_end is -4"],
        ),
        (
            ScheduleConfig {
                kind: ScheduleKind::SigmoidAlphaBar,
                sigmoid_start: f64::INFINITY,
                ..base()
            },
            vec!["sigmoid_start"],
        ),
    ] {
        let message = config
            .build()
            .expect_err(&format!("{config:?}"))
            .to_string();
        for word in words {
            assert!(message.contains(word), "{message:?} lacks {word:?}");
        }
    }
}

#[test]
fn configuration_files() {
    let parsed: ScheduleConfig =
        toml::from_str("kind = \"sigmoid_alpha_bar\"\nsteps = 50").unwrap();
    assert_eq!(parsed, config(ScheduleKind::SigmoidAlphaBar, 50));
    let written = toml::to_string(&parsed).unwrap();
    assert_eq!(toml::from_str::<ScheduleConfig>(&written).unwrap(), parsed);
    assert_eq!(
        toml::from_str::<ScheduleConfig>("").unwrap(),
        ScheduleConfig::default()
    );
    let message = toml::from_str::<ScheduleConfig>("beta_strat = 1.0")
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("beta_strat") && message.contains("beta_start"),
        "{message}"
    );
}

#[test]
fn a_network_is_told_steps_or_their_share_of_another_number() {
    let config = ScheduleConfig {
        steps: 4000,
        ..ScheduleConfig::default()
    };
    assert_eq!(config.build().unwrap().network_time(3999.0), 3999.0);
    let told = |network_steps| ScheduleConfig {
        network_steps: Some(network_steps),
        zero_terminal_snr: true,
        ..config.clone()
    };
    let table = told(1000).build().unwrap();
    assert_eq!(table.network_time(3999.0), 999.75);
    assert_eq!(crate::Process::Discrete(table).network_time(2.0), 0.5);
    for network_steps in [0, 10_001] {
        let message = told(network_steps).build().unwrap_err().to_string();
        assert!(message.contains("schedule.network_steps"), "{message}");
    }
}
