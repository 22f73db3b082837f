//! Measured orders of convergence, on Gaussian data whose probability flow is known in closed form.

use std::ops::ControlFlow;

use burn::tensor::{Device, FloatDType, Tensor};
use ddpm_schedule::{
    Edm, Flow, GridConfig, GridRules, Level, Process, ScheduleConfig, Spacing, Vp, named,
};

use super::{DEVIATION, MEAN, gaussian};
use crate::{Condition, Hold, Plan, Sampler, walk};

fn processes() -> Vec<Process> {
    vec![
        Process::Discrete(ScheduleConfig::default().build().unwrap()),
        Process::Vp(Vp::default()),
        Process::Edm(Edm::default()),
        Process::Flow(Flow::default()),
    ]
}

/// x at the end of the flow that leads from `x` at one level to another: the flow keeps (x/signal - m)/√(s² + σ²).
fn flow(x: f64, from: Level, to: Level) -> f64 {
    let width = |level: Level| DEVIATION.hypot(level.sigma());
    to.signal * (MEAN + (x / from.signal - MEAN) * width(to) / width(from))
}

/// The largest error of `steps` steps between σ = 30 and σ = 0.1.
fn error(process: &Process, sampler: &Sampler, steps: usize) -> f64 {
    let grid = GridConfig {
        spacing: Spacing::Karras {
            rho: 7.0,
            sigma_min: Some(0.1),
            sigma_max: Some(30.0),
        },
        steps,
        offset: 0,
        rules: GridRules {
            open_end: true,
            ..GridRules::default()
        },
    };
    let grid = grid.build(process).unwrap();
    let (from, to) = (grid.legs()[0].from.level, grid.legs()[steps - 1].to.level);
    let prediction = process.usual_prediction();
    let plan = Plan::new(
        process.clone(),
        prediction.into(),
        grid,
        sampler.clone(),
        Hold::Free,
    )
    .unwrap();
    let start = [[[[1.5, -0.7, 0.2, 3.0]]]].map(|c: [[[f64; 4]; 1]; 1]| c);
    let device = Device::flex();
    // In f64, so that rounding does not hide the third order.
    let x = Tensor::<4>::from_data(start, &device).cast(FloatDType::F64) * from.noise;
    let mut no_noise = |_| unreachable!("the sampler is deterministic");
    let watch = &mut |_: crate::Progress<'_>| ControlFlow::Continue(());
    let end = walk(
        &gaussian,
        &plan,
        x,
        Condition::default(),
        &mut no_noise,
        watch,
    )
    .unwrap();
    let end: Vec<f64> = end.into_data().try_to_vec().unwrap();
    let pairs = end.iter().zip([1.5f32, -0.7, 0.2, 3.0]);
    pairs
        .map(|(x, z)| (x - flow(f64::from(z) * from.noise, from, to)).abs())
        .fold(0.0, f64::max)
}

fn sampler(text: &str) -> Sampler {
    let value: toml::Value =
        toml::from_str::<toml::Table>(&format!("s = {text}")).unwrap()["s"].clone();
    named::deserialize(value).unwrap()
}

#[test]
fn samplers_converge_as_theory_says() {
    let mut failed = Vec::new();
    for (text, order) in [
        ("\"ddim\"", 1.0),
        ("\"euler\"", 1.0),
        ("{ kind = \"euler_ancestral\", eta = 0.0 }", 1.0),
        ("\"heun\"", 2.0),
        ("{ kind = \"heun\", alpha = 0.5 }", 2.0),
        ("{ kind = \"heun\", alpha = 0.6666666666666666 }", 2.0),
        ("\"dpm2\"", 2.0),
        ("{ kind = \"dpm2_ancestral\", eta = 0.0 }", 2.0),
        ("{ kind = \"lms\", order = 1 }", 1.0),
        ("{ kind = \"lms\", order = 2 }", 2.0),
        ("{ kind = \"lms\", order = 3 }", 3.0),
        ("{ kind = \"deis\", order = 1 }", 1.0),
        ("{ kind = \"deis\", order = 2 }", 2.0),
        ("{ kind = \"deis\", order = 3 }", 3.0),
        ("{ kind = \"dpm_solver\", order = 1 }", 1.0),
        ("{ kind = \"dpm_solver\", order = 2 }", 2.0),
        (
            "{ kind = \"dpm_solver\", order = 2, solver = \"heun\" }",
            2.0,
        ),
        ("{ kind = \"dpm_solver\", order = 3 }", 2.0),
        // Less than 3, because its first two steps are of orders 1 and 2.
        ("{ kind = \"dpm_solver\", order = 3, newton = true }", 2.7),
        (
            "{ kind = \"dpm_solver\", order = 2, estimates = \"eps\" }",
            2.0,
        ),
        (
            "{ kind = \"dpm_solver\", order = 3, estimates = \"eps\" }",
            2.0,
        ),
        (
            "{ kind = \"dpm_solver\", order = 3, estimates = \"eps\", newton = true }",
            3.0,
        ),
        ("{ kind = \"dpm_singlestep\", order = 1 }", 1.0),
        (
            "{ kind = \"dpm_singlestep\", order = 2, lower_order_final = false }",
            2.0,
        ),
        (
            "{ kind = \"dpm_singlestep\", order = 2, lower_order_final = false, solver = \"heun\" }",
            2.0,
        ),
        ("{ kind = \"dpmpp2s_ancestral\", eta = 0.0 }", 2.0),
        ("{ kind = \"dpmpp_sde\", eta = 0.0 }", 2.0),
        // A corrector of the predictor's order adds one.
        (
            "{ kind = \"unipc\", order = 1, lower_order_final = false }",
            2.0,
        ),
        (
            "{ kind = \"unipc\", order = 2, lower_order_final = false }",
            3.0,
        ),
        (
            "{ kind = \"unipc\", order = 2, variant = \"bh1\", lower_order_final = false }",
            3.0,
        ),
    ] {
        let sampler = sampler(text);
        for process in processes() {
            let [coarse, fine] = [128, 256].map(|steps| error(&process, &sampler, steps));
            let measured = (coarse / fine).log2();
            if measured < order - 0.3 {
                failed.push(format!(
                    "{text} on {}: order {measured:.2}, errors {coarse:e} {fine:e}",
                    process.name()
                ));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn the_adaptive_one_keeps_to_its_tolerance() {
    for process in processes() {
        let loose = error(
            &process,
            &sampler("{ kind = \"dpm_adaptive\", rtol = 0.05, atol = 0.01 }"),
            2,
        );
        let tight = error(
            &process,
            &sampler("{ kind = \"dpm_adaptive\", rtol = 0.0005, atol = 0.0001 }"),
            2,
        );
        assert!(
            tight < 1e-3 && tight < 0.2 * loose,
            "{}: {loose} {tight}",
            process.name()
        );
    }
}

#[test]
fn euler_is_ddim_whatever_the_axis() {
    for process in processes() {
        let [a, b] = ["\"ddim\"", "\"euler\""].map(|text| error(&process, &sampler(text), 20));
        assert!((a - b).abs() < 1e-9 * a, "{}: {a} {b}", process.name());
    }
}
