use ddpm_schedule::{Prediction, Process, ScheduleConfig, Spacing, VarianceKind};

use crate::sampler::{ddim::Ddim, ddpm::Ddpm};
use crate::{SampleConfig, Sampler};

fn process(steps: usize, zero_terminal_snr: bool) -> Process {
    let config = ScheduleConfig {
        steps,
        zero_terminal_snr,
        ..Default::default()
    };
    Process::Discrete(config.build().unwrap())
}

fn ddim(eta: f64) -> Sampler {
    Sampler::Ddim(Ddim {
        eta,
        keep_eps: false,
    })
}

fn visited(config: &SampleConfig, process: &Process) -> Vec<usize> {
    let plan = config.plan(process, Prediction::V).unwrap();
    plan.grid()
        .legs()
        .iter()
        .map(|leg| leg.from.time as usize)
        .collect()
}

#[test]
fn defaults_depend_on_sampler_and_process() {
    let ddpm = SampleConfig::default();
    let ddim = SampleConfig {
        sampler: ddim(0.0),
        ..Default::default()
    };
    assert_eq!(visited(&ddpm, &process(1000, false)).len(), 1000);
    assert_eq!(visited(&ddim, &process(1000, false))[..2], [980, 960]);
    assert_eq!(visited(&ddim, &process(1000, true))[..2], [999, 979]);
    assert_eq!(visited(&ddim, &process(20, false)).len(), 20);
    assert_eq!(visited(&ddpm, &process(1, false)), [0]);
    let moved = SampleConfig { offset: 7, ..ddim };
    assert_eq!(visited(&moved, &process(1000, false))[..2], [987, 967]);
    // Both start at the last step, as zero terminal SNR needs.
    for (spacing, steps) in [
        (Spacing::Linspace {}, Some(10)),
        (Spacing::Leading {}, None),
    ] {
        let config = SampleConfig {
            spacing: Some(spacing),
            steps,
            ..Default::default()
        };
        assert_eq!(visited(&config, &process(100, true))[0], 99);
    }
    for sampler in Sampler::all() {
        let config = SampleConfig {
            sampler,
            ..Default::default()
        };
        let plan = config.plan(&process(1000, false), Prediction::Eps).unwrap();
        assert!(plan.grid().legs()[0].from.time >= 980.0);
    }
}

#[test]
fn large_variance_gives_way_when_steps_are_skipped() {
    let process = process(100, false);
    for (steps, allow_large_respaced, expected) in [
        (None, false, VarianceKind::Large),
        (Some(100), false, VarianceKind::Large),
        (Some(99), false, VarianceKind::Small),
        (Some(99), true, VarianceKind::Large),
    ] {
        let ddpm = Ddpm {
            variance: Some(VarianceKind::Large),
            allow_large_respaced,
        };
        let config = SampleConfig {
            sampler: Sampler::Ddpm(ddpm),
            steps,
            ..Default::default()
        };
        let plan = config.plan(&process, Prediction::Eps).unwrap();
        assert_eq!(
            ddpm.variance_used(&process, plan.grid()),
            Some(expected),
            "{steps:?}"
        );
    }
}

#[test]
fn mistakes_are_named() {
    let parse =
        |text: &str| toml::from_str::<SampleConfig>(text).map_err(|error| error.to_string());
    for (text, zero, prediction, words) in [
        ("count = 0", false, Prediction::V, "sample.count is 0"),
        (
            "clip_range = 0.0",
            false,
            Prediction::V,
            "sample.clip_range is 0",
        ),
        (
            "clip_range = nan",
            false,
            Prediction::V,
            "sample.clip_range is NaN",
        ),
        (
            "sampler = { kind = \"ddim\", eta = 1.5 }",
            false,
            Prediction::V,
            "sample.sampler.eta is 1.5",
        ),
        (
            "threshold = { ratio = 2.0 }",
            false,
            Prediction::V,
            "sample.threshold.ratio is 2",
        ),
        (
            "threshold = { most = 0.5 }",
            false,
            Prediction::V,
            "sample.threshold.most is 0.5",
        ),
        ("steps = 0", false, Prediction::V, "0 sampling steps"),
        (
            "sampler = \"ddim\"\nsteps = 101",
            false,
            Prediction::V,
            "must be ≤ 100",
        ),
        ("", true, Prediction::Eps, "zero terminal SNR"),
        (
            "spacing = \"leading\"\nsteps = 50",
            true,
            Prediction::V,
            "trailing",
        ),
        ("offset = 2", false, Prediction::V, "use fewer steps"),
        (
            "sampler = { kind = \"pndm\", runge_kutta = true }\nsteps = 3",
            false,
            Prediction::V,
            "needs 4 steps",
        ),
        (
            "sampler = { kind = \"heun\", alpha = 0.0 }",
            false,
            Prediction::V,
            "sample.sampler.alpha",
        ),
        (
            "sampler = { kind = \"heun\", s_churn = -1.0 }",
            false,
            Prediction::V,
            "sample.sampler.s_churn",
        ),
        (
            "sampler = { kind = \"heun\", variable = \"time\" }",
            false,
            Prediction::V,
            "on the process vp alone",
        ),
        (
            "sampler = { kind = \"lms\", order = 5 }",
            false,
            Prediction::V,
            "sample.sampler.order is 5",
        ),
        (
            "sampler = { kind = \"dpm_solver\", eta = 1.0, estimates = \"eps\" }",
            false,
            Prediction::V,
            "sample.sampler.eta",
        ),
        (
            "sampler = { kind = \"ddpm\", variance = \"learned\" }",
            false,
            Prediction::V,
            "has learned none",
        ),
        (
            "spacing = \"karras\"\ngrid = { fixed_stride = true }",
            false,
            Prediction::V,
            "fixed_stride",
        ),
    ] {
        let config = parse(text).unwrap();
        let plan = config.plan(&process(100, zero), prediction);
        let message = plan.unwrap_err().to_string();
        assert!(message.contains(words), "{text}: {message}");
    }
    for (text, words) in [
        ("sampler = \"dpm\"", "dpm_solver"),
        ("sampler = { kind = \"heun\", s_chrn = 1.0 }", "s_chrn"),
        (
            "sampler = \"heun\"\neta = 0.5",
            "options of a sampler stand in its table",
        ),
        ("sampler = 5", "a name, or a table"),
    ] {
        let message = parse(text).unwrap_err();
        assert!(message.contains(words), "{text}: {message}");
    }
}

#[test]
fn files_of_before_are_read() {
    let old = r#"{"sampler": "ddim", "steps": 7, "eta": 0.25, "variance": "small", "allow_large_respaced": false,
        "clip": true, "clip_range": 1.0, "spacing": "trailing", "ddim": {"fixed_stride": true, "keep_eps": true},
        "count": 9}"#;
    let parsed: SampleConfig = serde_json::from_str(old).unwrap();
    let sampler = Sampler::Ddim(Ddim {
        eta: 0.25,
        keep_eps: true,
    });
    assert_eq!(parsed.sampler, sampler);
    assert!(parsed.grid.fixed_stride);
    assert_eq!((parsed.steps, parsed.count), (Some(7), 9));
    let old =
        r#"{"sampler": "ddpm", "eta": 0.0, "variance": "large", "allow_large_respaced": true}"#;
    let parsed: SampleConfig = serde_json::from_str(old).unwrap();
    let ddpm = Ddpm {
        variance: Some(VarianceKind::Large),
        allow_large_respaced: true,
    };
    assert_eq!(parsed.sampler, Sampler::Ddpm(ddpm));
}

#[test]
fn files() {
    let parsed: SampleConfig =
        toml::from_str("sampler = \"ddim\"\nspacing = \"trailing\"\nsteps = 7").unwrap();
    let expected = SampleConfig {
        sampler: ddim(0.0),
        spacing: Some(Spacing::Trailing {}),
        steps: Some(7),
        ..Default::default()
    };
    assert_eq!(parsed, expected);
    for sampler in Sampler::all() {
        let config = SampleConfig {
            sampler,
            ..expected.clone()
        };
        let written = toml::to_string(&config).unwrap();
        assert_eq!(
            toml::from_str::<SampleConfig>(&written).unwrap(),
            config,
            "{written}"
        );
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<SampleConfig>(&json).unwrap(), config);
        assert!(!json.contains("null"), "{json}");
    }
}
