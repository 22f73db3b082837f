use proptest::prelude::*;

use super::*;
use crate::ScheduleConfig;

fn all() -> Vec<Process> {
    let zero = ScheduleConfig {
        zero_terminal_snr: true,
        ..Default::default()
    };
    let logit = TimeLaw::LogitNormal {
        mean: -0.3,
        std: 0.8,
    };
    vec![
        Process::Discrete(ScheduleConfig::default().build().unwrap()),
        Process::Discrete(zero.build().unwrap()),
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
        Process::Flow(Flow {
            shift: 3.0,
            times: logit,
            ..Flow::default()
        }),
        Process::Flow(Flow {
            times: TimeLaw::Mode { scale: 1.29 },
            ..Flow::default()
        }),
    ]
}

proptest! {
    #[test]
    fn levels_and_times_are_inverse(bits: u64) {
        for process in all() {
            let time = process.draw(bits);
            let level = process.level(time);
            prop_assert!(level.signal >= 0.0 && level.noise > 0.0, "{process:?} {time}");
            let back = process.time(level);
            prop_assert!((back - time).abs() <= 1e-9 * time.abs().max(1e-3), "{} {time} {back}", process.name());
            prop_assert!(process.quarter(time) < 4);
            let same = process.at_sigma(level.sigma());
            prop_assert!((same.signal - level.signal).abs() < 1e-9 && (same.noise / level.noise - 1.0).abs() < 1e-9);
            let u = process.axis().at(level);
            let again = process.on_axis(u);
            prop_assert!((again.signal - level.signal).abs() < 1e-9 || level.signal == 0.0);
        }
    }

    /// Between two steps of a table ln σ is a line.
    #[test]
    fn tables_are_interpolated(step in 0usize..999, share in 0.0f64..1.0) {
        let process = &all()[0];
        let schedule = process.schedule().unwrap();
        let ln = |t: usize| schedule.level(t).sigma().ln();
        let level = process.level(step as f64 + share);
        let line = ln(step) + share * (ln(step + 1) - ln(step));
        prop_assert!((level.sigma().ln() - line).abs() < 1e-9);
        prop_assert!((process.time(level) - step as f64 - share).abs() < 1e-6);
    }
}

#[test]
fn whole_steps_are_exactly_those_of_the_table() {
    for process in &all()[..2] {
        let schedule = process.schedule().unwrap();
        for t in 0..schedule.len() {
            let level = process.level(t as f64);
            assert_eq!(level, schedule.level(t));
            assert_eq!(process.time(level), t as f64);
        }
    }
}

#[test]
fn tables_draw_what_they_always_drew() {
    use crate::noise::{Stream, below, bits};
    let process = &all()[0];
    for row in 0..500 {
        let [a, b, _, _] = bits(7, Stream::TrainTime, 3, row);
        let word = u64::from(a) | (u64::from(b) << 32);
        let old = below(7, Stream::TrainTime, 3, row, 1000);
        assert_eq!(process.draw(word), old as f64);
    }
}

#[test]
fn laws_have_their_quarters() {
    let n = 4000u64;
    let count = |process: &Process| {
        let mut found = [0usize; 4];
        for i in 0..n {
            found[process.quarter(process.draw((2 * i + 1) * (u64::MAX / (2 * n))))] += 1;
        }
        found
    };
    let processes = all();
    for uniform in [0, 2, 3, 4] {
        for quarter in count(&processes[uniform]) {
            assert!(quarter.abs_diff(1000) <= 2, "{}", processes[uniform].name());
        }
    }
    // More noise by the shift, less at the ends by the mode.
    let shifted = count(&processes[5]);
    assert!(shifted[2] + shifted[3] > shifted[0] + shifted[1]);
    let mode = count(&processes[6]);
    assert!(mode[1] + mode[2] > mode[0] + mode[3]);
}

#[test]
fn vp_is_near_to_its_table() {
    let [table, vp] = [0, 2].map(|i| all()[i].clone());
    for t in [10.0, 250.0, 999.0] {
        let [a, b] = [table.level(t), vp.level((t + 1.0) / 1000.0)];
        assert!(
            (a.sigma() / b.sigma() - 1.0).abs() < 0.06,
            "{t}: {a:?} {b:?}"
        );
    }
    let Process::Vp(vp) = vp else { unreachable!() };
    for t in [0.01, 0.5, 1.0] {
        let h = 1e-6;
        let slope = (vp.level(t + h).sigma() - vp.level(t - h).sigma()) / (2.0 * h);
        assert!((vp.sigma_rate(t) / slope - 1.0).abs() < 1e-6);
    }
}

#[test]
fn mistakes_are_named() {
    let parse = |text: &str| -> Result<Process, String> {
        let config: ProcessConfig = toml::from_str(text).map_err(|e| e.to_string())?;
        let built = config.build(&ScheduleConfig::default());
        built.map_err(|e| e.to_string())
    };
    for (text, words) in [
        ("kind = \"edm\"\nsigma_min = 0.0", "process.sigma_min is 0"),
        (
            "kind = \"edm\"\nsigma_max = 0.001",
            "above process.sigma_min",
        ),
        ("kind = \"edm\"\nsigma_mx = 3", "sigma_mx"),
        ("kind = \"vp\"\nbeta_max = 0.05", "process.beta_max"),
        ("kind = \"flow\"\nshift = -1.0", "process.shift is -1"),
        ("kind = \"flow\"\ntimes = \"nrmal\"", "logit_normal"),
        (
            "kind = \"flow\"\ntimes = { kind = \"mode\", scale = 3.0 }",
            "process.times.scale is 3",
        ),
        ("kind = \"discrete\"\nsteps = 3", "steps"),
        ("kind = \"ve\"", "edm"),
    ] {
        let message = parse(text).unwrap_err();
        assert!(message.contains(words), "{text}: {message}");
    }
    assert!(parse("kind = \"flow\"\ntimes = \"logit_normal\"").is_ok());
    let schedule = ScheduleConfig {
        steps: 100,
        ..Default::default()
    };
    let edm = ProcessConfig::Edm(Edm::default());
    let message = edm.build(&schedule).unwrap_err().to_string();
    assert!(message.contains("[schedule]"), "{message}");
}
