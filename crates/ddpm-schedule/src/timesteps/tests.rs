use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::{Schedule, ScheduleConfig};

const ALL: [Spacing; 3] = [Spacing::Leading, Spacing::Linspace, Spacing::Trailing];

#[test]
fn equal_to_diffusers() {
    let golden: Value =
        serde_json::from_str(include_str!("../../tests/fixtures/schedules.json")).unwrap();
    let cases = golden["spacing"].as_array().unwrap();
    assert!(!cases.is_empty());
    for case in cases {
        let spacing: Spacing = serde_json::from_value(case["spacing"].clone()).unwrap();
        let total = case["T"].as_u64().unwrap() as usize;
        let steps = case["steps"].as_u64().unwrap() as usize;
        let expected: Vec<usize> = serde_json::from_value(case["timesteps"].clone()).unwrap();
        assert_eq!(
            timesteps(total, steps, spacing, 0).unwrap(),
            expected,
            "{spacing} {total} {steps}"
        );
    }
}

#[test]
fn ties_round_to_even() {
    // 9/2 = 4.5 -> 4, and 10 - 2.5 = 7.5 -> 8, 2.5 -> 2.
    assert_eq!(timesteps(10, 3, Spacing::Linspace, 0).unwrap(), [9, 4, 0]);
    assert_eq!(
        timesteps(10, 4, Spacing::Trailing, 0).unwrap(),
        [9, 7, 4, 1]
    );
}

#[test]
fn every_count_gives_that_many_falling_steps() {
    for total in (1..120).chain([1000]) {
        for steps in 1..=total {
            for spacing in ALL {
                let list = timesteps(total, steps, spacing, 0).unwrap();
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
        timesteps(1000, 4, Spacing::Leading, 1).unwrap(),
        [751, 501, 251, 1]
    );
    assert_eq!(
        timesteps(1000, 4, Spacing::Trailing, 1).unwrap(),
        [999, 749, 499, 249]
    );
    let message = timesteps(1000, 1000, Spacing::Leading, 3)
        .unwrap_err()
        .to_string();
    assert!(message.contains("at most 0"), "{message}");
    assert!(timesteps(10, 2, Spacing::Leading, usize::MAX).is_err());
}

#[test]
fn impossible_choices_are_refused_in_words() {
    for steps in [0, 11] {
        let message = timesteps(10, steps, Spacing::Leading, 0)
            .unwrap_err()
            .to_string();
        assert!(message.contains("must be ≤ 10"), "{message}");
    }
    let schedule = ScheduleConfig {
        steps: 10,
        ..Default::default()
    }
    .build()
    .unwrap();
    for (list, word) in [
        (vec![], "at least one"),
        (vec![10, 3], "beyond"),
        (vec![5, 5, 0], "must be ≤ 10"),
        (vec![1, 2], "strictly falling"),
    ] {
        let message = Respaced::new(&schedule, list).unwrap_err().to_string();
        assert!(message.contains(word), "{message}");
    }
}

fn subset(total: usize) -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::btree_set(0..total, 1..total)
        .prop_map(|set| set.into_iter().rev().collect())
}

proptest! {
    #[test]
    fn strides_multiply_to_the_whole(list in subset(50)) {
        let schedule = ScheduleConfig { steps: 50, ..Default::default() }.build().unwrap();
        let respaced = Respaced::new(&schedule, list.clone()).unwrap();
        prop_assert_eq!(respaced.len(), list.len());
        prop_assert_eq!(respaced.posteriors().len(), list.len());
        let mut alpha_bar = 1.0;
        for (step, &t) in respaced.steps().iter().zip(&list).rev() {
            prop_assert_eq!(step.t, t);
            prop_assert_eq!(step.alpha_bar_prev, if t == list[list.len() - 1] { 1.0 } else { alpha_bar });
            prop_assert!(step.beta > 0.0 && step.beta < 1.0);
            alpha_bar = step.alpha_bar;
            prop_assert_eq!(alpha_bar, schedule.alpha_bar(t));
        }
        let product: f64 = respaced.steps().iter().map(|step| 1.0 - step.beta).product();
        prop_assert!((product / schedule.alpha_bar(list[0]) - 1.0).abs() < 1e-12);
    }
}

#[test]
fn all_steps_give_the_schedule_back() {
    let schedule = Schedule::from_betas(vec![0.1, 0.2, 0.5, 1.0]).unwrap();
    let respaced = Respaced::new(&schedule, vec![3, 2, 1, 0]).unwrap();
    for step in respaced.steps() {
        assert!((step.beta - schedule.beta(step.t)).abs() < 1e-15);
    }
    let mut table = respaced.posteriors();
    table.reverse();
    assert_eq!(table, schedule.posteriors());
}

#[test]
fn strides_are_those_of_diffusers_ddim() {
    let schedule = ScheduleConfig {
        steps: 10,
        ..Default::default()
    }
    .build()
    .unwrap();
    let prev = |list: Vec<usize>, stride, end| -> Vec<f64> {
        let respaced = Respaced::strided(&schedule, list, stride, end).unwrap();
        respaced.steps().iter().map(|s| s.alpha_bar_prev).collect()
    };
    let at = |t: usize| schedule.alpha_bar(t);
    // linspace: 9, 4, 0 (4.5 rounds to even) with 10/3 = 3 in between.
    let list = timesteps(10, 3, Spacing::Linspace, 0).unwrap();
    assert_eq!(prev(list, 3, 1.0), [at(6), at(1), 1.0]);
    // An offset of a stride or more ends above the image.
    let list = timesteps(10, 4, Spacing::Leading, 3).unwrap();
    assert_eq!(list, [9, 7, 5, 3]);
    assert_eq!(prev(list, 2, 1.0), [at(7), at(5), at(3), at(1)]);
    let list = timesteps(10, 5, Spacing::Leading, 0).unwrap();
    assert_eq!(prev(list.clone(), 2, at(0))[4], at(0));
    let plain = Respaced::new(&schedule, list.clone()).unwrap();
    assert_eq!(Respaced::strided(&schedule, list, 2, 1.0).unwrap(), plain);
    assert!(Respaced::strided(&schedule, vec![3, 1], 0, 1.0).is_err());
}
