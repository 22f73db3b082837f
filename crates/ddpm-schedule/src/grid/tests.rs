use serde_json::Value;

use super::whole::timesteps;
use super::*;
use crate::{Edm, Flow, ScheduleConfig, Vp};

const ALL: [Spacing; 3] = [
    Spacing::Leading {},
    Spacing::Linspace {},
    Spacing::Trailing {},
];

#[test]
fn equal_to_diffusers() {
    let golden: Value =
        serde_json::from_str(include_str!("../../../../tests/golden/data/schedules.json")).unwrap();
    let cases = golden["spacing"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let spacing: Spacing = crate::named::deserialize(case["spacing"].clone()).unwrap();
        let total = case["T"].as_u64().unwrap() as usize;
        let steps = case["steps"].as_u64().unwrap() as usize;
        let expected: Vec<usize> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        assert_eq!(
            timesteps(total, steps, &spacing, 0).unwrap(),
            expected,
            "{spacing} {total} {steps}"
        );
    }
}

#[test]
fn ties_round_to_even() {
    // 9/2 = 4.5 -> 4, and 10 - 2.5 = 7.5 -> 8, 2.5 -> 2.
    assert_eq!(
        timesteps(10, 3, &Spacing::Linspace {}, 0).unwrap(),
        [9, 4, 0]
    );
    assert_eq!(
        timesteps(10, 4, &Spacing::Trailing {}, 0).unwrap(),
        [9, 7, 4, 1]
    );
}

#[test]
fn every_count_gives_that_many_falling_steps() {
    for total in (1..120).chain([1000]) {
        for steps in 1..=total {
            for spacing in ALL {
                let list = timesteps(total, steps, &spacing, 0).unwrap();
                assert_eq!(list.len(), steps);
                assert!(list[0] < total);
                assert!(
                    list.windows(2).all(|w| w[0] > w[1]),
                    "{spacing} {total} {steps}: {list:?}"
                );
                if steps == total {
                    assert_eq!(list, (0..total).rev().collect::<Vec<_>>());
                }
            }
        }
    }
}

#[test]
fn offset_moves_leading_steps() {
    assert_eq!(
        timesteps(1000, 4, &Spacing::Leading {}, 1).unwrap(),
        [751, 501, 251, 1]
    );
    assert_eq!(
        timesteps(1000, 4, &Spacing::Trailing {}, 1).unwrap(),
        [999, 749, 499, 249]
    );
    let message = timesteps(1000, 1000, &Spacing::Leading {}, 3)
        .unwrap_err()
        .to_string();
    assert!(message.contains("at most 0"), "{message}");
    assert!(timesteps(10, 2, &Spacing::Leading {}, usize::MAX).is_err());
}

#[test]
fn impossible_choices_are_refused_in_words() {
    for steps in [0, 11] {
        let message = timesteps(10, steps, &Spacing::Leading {}, 0)
            .unwrap_err()
            .to_string();
        assert!(message.contains("must be ≤ 10"), "{message}");
    }
}

fn table(steps: usize) -> Process {
    let config = ScheduleConfig {
        steps,
        ..Default::default()
    };
    Process::Discrete(config.build().unwrap())
}

fn config(spacing: Spacing, steps: usize) -> GridConfig {
    GridConfig {
        spacing,
        steps,
        offset: 0,
        rules: GridRules::default(),
    }
}

fn karras() -> Spacing {
    toml::from_str("kind = \"karras\"").unwrap()
}

#[test]
fn lists_are_checked() {
    for (times, word) in [
        (vec![], "at least one"),
        (vec![10.0, 3.0], "beyond the schedule, whose last step is 9"),
        (vec![5.0, 5.0, 0.0], "the same level, time 5"),
        (vec![f64::NAN], "beyond"),
        (vec![-1.0], "beyond"),
    ] {
        let grid = config(Spacing::Times { times }, 0).build(&table(10));
        let message = grid.unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
    let up = Spacing::Times {
        times: vec![9.0, 4.5, 7.0, 0.0],
    };
    let grid = config(up, 0).build(&table(10)).unwrap();
    assert_eq!(grid.legs().len(), 4);
    assert!(grid.legs()[1].to.level.noise > grid.legs()[1].from.level.noise);
}

#[test]
fn grids_end_at_the_image_and_start_in_noise() {
    for process in [
        table(1000),
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
    ] {
        for spacing in ALL
            .into_iter()
            .chain([karras(), toml::from_str("kind = \"exponential\"").unwrap()])
        {
            for steps in [1, 2, 7, 50] {
                let grid = match config(spacing.clone(), steps).build(&process) {
                    Ok(grid) => grid,
                    Err(error) => {
                        let known = matches!(
                            (&process, &spacing),
                            (Process::Edm(_), Spacing::Linspace {} | Spacing::Trailing {})
                                | (
                                    Process::Edm(_) | Process::Vp(_) | Process::Flow(_),
                                    Spacing::Leading {}
                                )
                        );
                        assert!(known, "{error}");
                        continue;
                    }
                };
                assert_eq!(grid.legs().len(), steps);
                assert!(grid.legs()[steps - 1].to.level.is_clean());
                for leg in grid.legs() {
                    assert!(leg.from.level.sigma() > leg.to.level.sigma());
                    let back = process.time(leg.from.level);
                    assert!((back - leg.from.time).abs() <= 1e-9 * back.abs());
                }
                let first = grid.legs()[0].from.level.sigma();
                let whole = matches!(spacing, Spacing::Leading {})
                    || (steps == 1 && matches!(process, Process::Discrete(_)));
                assert!(
                    whole || first >= 0.99 * process.noisiest().with_signal().sigma(),
                    "{spacing} {steps}"
                );
            }
        }
    }
}

#[test]
fn zero_terminal_snr_starts_at_its_last_step() {
    let zero = ScheduleConfig {
        zero_terminal_snr: true,
        ..Default::default()
    };
    let process = Process::Discrete(zero.build().unwrap());
    for spacing in ALL {
        for steps in [1, 2, 50, 999, 1000] {
            let starts_at_last = match spacing {
                Spacing::Leading {} => steps == 1000,
                Spacing::Linspace {} => steps > 1,
                _ => true,
            };
            let grid = config(spacing.clone(), steps).build(&process);
            assert_eq!(grid.is_ok(), starts_at_last, "{spacing} {steps}");
        }
    }
    let refused = config(Spacing::Leading {}, 50).build(&process);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "zero terminal SNR needs sampling to start at the last step, 999, but leading spacing starts at 980; \
         set spacing to \"trailing\" or \"linspace\""
    );
    let grid = config(karras(), 10).build(&process).unwrap();
    // σ = 4096 lies between steps of the rescaled table.
    assert!(grid.legs()[0].from.time > 990.0);
    assert!(grid.legs()[0].from.level.signal > 0.0);
    let plain = config(Spacing::Trailing {}, 10).build(&process).unwrap();
    assert_eq!(plain.legs()[0].from.level.signal, 0.0);
    assert!(plain.with_signal().legs()[0].from.level.signal > 0.0);
}

#[test]
fn spacings_in_files() {
    for (text, expected) in [
        ("kind = \"trailing\"", Ok("trailing")),
        ("kind = \"log_snr\"", Ok("exponential")),
        ("kind = \"karras\"\nrho = 5.0", Ok("karras")),
        ("kind = \"karras\"\nrh = 5.0", Err("rh")),
        ("kind = \"trailing\"\nrho = 5.0", Err("rho")),
        ("kind = \"karas\"", Err("karras")),
    ] {
        let parsed: Result<Spacing, _> = toml::from_str(text);
        match (parsed, expected) {
            (Ok(spacing), Ok(name)) => assert_eq!(spacing.name(), name),
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (parsed, _) => panic!("{text}: {parsed:?}"),
        }
    }
    let low = Spacing::Karras {
        rho: 7.0,
        sigma_min: Some(3.0),
        sigma_max: Some(2.0),
    };
    let message = config(low, 5).build(&table(100)).unwrap_err().to_string();
    assert!(message.contains("sigma_min < sigma_max"), "{message}");
}

fn prev(process: &Process, list: GridConfig, stride: bool, to_first: bool) -> Vec<f64> {
    let list = GridConfig {
        rules: GridRules {
            fixed_stride: stride,
            to_first,
            ..GridRules::default()
        },
        ..list
    };
    let grid = list.build(process).unwrap();
    grid.legs()
        .iter()
        .map(|leg| leg.to.level.signal.powi(2))
        .collect()
}

#[test]
fn strides_are_those_of_diffusers_ddim() {
    let process = table(10);
    let at = |t: usize| process.level(t as f64).signal.powi(2);
    // linspace: 9, 4, 0 (4.5 rounds to even) with 10/3 = 3 in between.
    let list = config(Spacing::Linspace {}, 3);
    assert_eq!(prev(&process, list, true, false), [at(6), at(1), 1.0]);
    // An offset of a stride or more ends above the image.
    let list = GridConfig {
        offset: 3,
        ..config(Spacing::Leading {}, 4)
    };
    assert_eq!(
        prev(&process, list, true, false),
        [at(7), at(5), at(3), at(1)]
    );
    let list = config(Spacing::Leading {}, 5);
    assert_eq!(prev(&process, list.clone(), true, true)[4], at(0));
    assert_eq!(
        prev(&process, list.clone(), true, false),
        prev(&process, list, false, false)
    );
    let strided = GridConfig {
        rules: GridRules {
            fixed_stride: true,
            ..GridRules::default()
        },
        ..config(karras(), 5)
    };
    assert!(strided.build(&process).is_err());
}
