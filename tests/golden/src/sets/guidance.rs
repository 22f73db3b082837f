//! Guidance over closed-form networks that know classes.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context, ensure};
use burn::tensor::{DType, Device, Int, Tensor};
use ddpm_diffusion::sampler::heun::Heun;
use ddpm_diffusion::{
    Condition, Denoiser, DiffusionError, Estimate, GuidanceConfig, Guide, Guided, Hold, Interval,
    NoiseAt, Plan, Sampler,
};
use ddpm_schedule::{Edm, GridConfig, GridRules, Level, Prediction, Process, Spacing, Stop};
use ddpm_store::diffusers::Scheduler;
use serde_json::{Map, Value, json};

use super::Kind;
use crate::Case;
use crate::compare::{difference, larger};
use crate::keys::{Keys, needed, unsupported};
use crate::models::{ClassPixel, at_each_of_class, class_network};
use crate::source::{Source, values};
use crate::trace::{Noise, in_order, trace};

pub(super) const KIND: Kind = Kind {
    name: "guidance",
    cases,
};

/// diffusers computes its tables in float32.
const LIMIT: f64 = 1e-4;
/// The class that stands for none.
const NULL: i64 = -1;

fn cases(path: &Path) -> anyhow::Result<Vec<Case>> {
    let source = Source::open(path)?;
    let mut cases = source.unknown(&["cases"]);
    let check = |name: &str, case: &mut Keys| match case.peek("scheduler") {
        Some(_) => with_scheduler(&source, name, case),
        None => with_edm(&source, name, case),
    };
    cases.extend(source.cases("cases", &[], limit, check));
    Ok(cases)
}

/// Guidance adds up (1 - s) and s parts of two outputs, so that it magnifies what float32 has rounded in them 2s - 1 times.
/// Ours are of float64 here, which shows that the rest is theirs.
fn limit(case: &Map<String, Value>) -> f64 {
    let args = case.get("args").and_then(Value::as_object);
    let number = |key: &str| args.and_then(|args| args.get(key)?.as_f64());
    let scale = ["guidance_scale", "cond_scale"]
        .iter()
        .find_map(|key| number(key));
    LIMIT * (2.0 * scale.unwrap_or(1.0) - 1.0).max(1.0)
}

fn labels(source: &Source) -> anyhow::Result<Condition> {
    let labels = source.tensor("labels")?.values.iter();
    let labels: Vec<i64> = labels.map(|&label| label as i64).collect();
    let labels = Tensor::<1, Int>::from_data(labels.as_slice(), &Device::flex());
    Ok(Condition::of_labels(Some(labels)))
}

fn no_classes(condition: &Condition) -> Condition {
    let labels = condition.labels.clone();
    Condition::of_labels(labels.map(|labels| labels.full_like(NULL)))
}

/// DDIM by a scheduler of diffusers.
fn with_scheduler(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    case.drop(&["timesteps"]);
    let described = needed(case.text("scheduler"), "scheduler")?;
    let class = described.split(' ').next().unwrap_or_default();
    let mut config = case.object("config")?.unwrap_or_default().into_map();
    config.insert("_class_name".to_owned(), json!(class));
    config.insert(
        "_call".to_owned(),
        json!({
            "steps": needed(case.count("steps"), "steps")?,
            "step": {"eta": 0.0, "use_clipped_model_output": true},
            "set_timesteps": Map::new(),
        }),
    );
    let choice = Scheduler::from_json(Path::new("config"), config)?.choice(None)?;
    let kind = needed(case.text("kind"), "kind")?;
    let mut args = needed(case.object("args"), "args")?;
    let (config, weak) = guidance(&kind, &mut args)?;
    args.finish()?;
    let plan = choice.sample.plan(&choice.process, choice.meaning)?;
    let plan = plan.guided(Some(config))?;
    let of = |pixel: ClassPixel| {
        move |x: Tensor<4>, time: Tensor<1>, told: &Condition| {
            let time = time.into_data().iter::<f64>().next();
            at_each_of_class(&x, time.context("no images")?, told, NULL, pixel)
        }
    };
    let (strong, of_weak) = (
        of(class_network("eps_cond")?),
        of(class_network("eps_weak")?),
    );
    let condition = labels(source)?;
    let guide = match weak {
        true => Guide {
            null: None,
            network: Some(&of_weak),
        },
        false => Guide {
            null: Some(no_classes(&condition)),
            network: None,
        },
    };
    let outputs = Outputs {
        inner: plan.denoiser(&strong, guide)?,
        seen: RefCell::default(),
    };
    let start = source.tensor("x_T")?.images(DType::F64)?;
    let unused = source.tensor("x_T")?;
    let noise = Noise {
        series: unused,
        index: &in_order,
    };
    let done = trace(&outputs, &plan, start, condition, noise)?;
    ensure!(done.draws == 0, "drew noise, and theirs is deterministic");
    let expected = source.tensor(&format!("{name}_eps"))?;
    let mut worst =
        done.difference(plan.grid().legs(), source.tensor(name)?, |leg| leg, |_| 1.0)?;
    for (step, output) in outputs.seen.into_inner().iter().enumerate() {
        worst = larger(worst, difference(output, expected.at(step)?));
    }
    Ok(worst)
}

/// What guidance a case asks for, and whether it leads away from the worse network.
fn guidance(kind: &str, args: &mut Keys) -> anyhow::Result<(GuidanceConfig, bool)> {
    let mut config = GuidanceConfig::default();
    let scale = match kind {
        "lucidrains" => args.number("cond_scale")?,
        _ => args.number("guidance_scale")?,
    };
    config.scale = scale.context("the scale is missing")?;
    if args.boolean("use_original_formulation")? == Some(true) {
        config.scale += 1.0;
    }
    config.rescale = match kind {
        "lucidrains" => args.number("rescaled_phi")?,
        _ => args.number("guidance_rescale")?,
    }
    .unwrap_or(0.0);
    config.orthogonal = args.boolean("remove_parallel_component")?.unwrap_or(false);
    if let (Some(low), Some(high)) = (args.number("sigma_lo")?, args.number("sigma_hi")?) {
        config.interval.sigma = Some([low, high]);
    }
    let (start, stop) = (args.number("start")?, args.number("stop")?);
    if start.is_some() || stop.is_some() {
        config.interval.steps = Some([start.unwrap_or(0.0), stop.unwrap_or(1.0)]);
    }
    match kind {
        "cfg" | "sigma_interval" | "lucidrains" => Ok((config, false)),
        "auto" => Ok((config, true)),
        other => Err(unsupported(
            "kind",
            &json!(other),
            "cfg, sigma_interval, lucidrains or auto",
        )),
    }
}

/// EDM's sampler over denoisers.
fn with_edm(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let kind = needed(case.text("kind"), "kind")?;
    let mut args = needed(case.object("args"), "args")?;
    let steps = needed(args.count("num_steps"), "num_steps")?;
    let scale = match args.number("guidance")? {
        Some(scale) => scale,
        None => needed(args.number("G"), "G")?,
    };
    let interval = match args.counts("guidance_interval")?.as_deref() {
        None => Interval::default(),
        Some(&[first, last]) => Interval {
            // Both ends are steps with guidance. Half a step further, so that rounding does not matter.
            steps: Some(
                [first, last + 1].map(|step| (step as f64 + 0.5).min(steps as f64) / steps as f64),
            ),
            sigma: None,
        },
        Some(_) => anyhow::bail!("guidance_interval: expected two indices"),
    };
    let reference = needed(args.text("ref"), "ref")?;
    args.finish()?;
    ensure!(
        kind.ends_with("denoiser D = lerp(D_ref, D_cond, guidance)"),
        "kind is {kind}"
    );
    let (weak, told_less) = match reference.as_str() {
        "weak" => (Some(OfClass(class_network("D_weak")?)), false),
        "uncond" => (None, true),
        other => return Err(unsupported("ref", &json!(other), "weak or uncond")),
    };
    let condition = labels(source)?;
    let config = GuidanceConfig {
        scale,
        interval,
        ..GuidanceConfig::default()
    };
    let null = told_less.then(|| no_classes(&condition));
    let guided = Guided::new(OfClass(class_network("D_cond")?), weak, null, config);
    let process = Process::Edm(Edm::default());
    let grid = GridConfig {
        spacing: Spacing::Karras {
            rho: 7.0,
            sigma_min: None,
            sigma_max: None,
        },
        steps,
        offset: 0,
        rules: GridRules::default(),
    };
    let grid = grid.build(&process)?;
    let sampler = Sampler::Heun(Heun::default());
    let plan = Plan::new(process, Prediction::Edm.into(), grid, sampler, Hold::Free)?;
    let start = source.tensor("x_T")?;
    let noise = Noise {
        series: start,
        index: &|_, NoiseAt { step, .. }| step,
    };
    let legs = plan.grid().legs();
    let start = start.images(DType::F64)? * legs[0].from.level.noise;
    let done = trace(&guided, &plan, start, condition, noise)?;
    done.difference(legs, source.tensor(name)?, |leg| leg, |_| 1.0)
}

/// A closed form's x̂0 of a class.
struct OfClass(ClassPixel);

impl Denoiser for OfClass {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        told: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let x0 = at_each_of_class(x, at.level.sigma(), told, NULL, self.0);
        let x0 = x0.map_err(|error| DiffusionError::Network {
            t: at.time,
            source: error.into(),
        })?;
        Ok(Estimate {
            x0,
            variance: None,
            output: None,
        })
    }
}

/// Keeps what a network says, guided.
struct Outputs<'a> {
    inner: Box<dyn Denoiser + 'a>,
    seen: RefCell<Vec<Vec<f64>>>,
}

impl Denoiser for Outputs<'_> {
    fn denoise(
        &self,
        x: &Tensor<4>,
        at: Stop,
        told: &Condition,
    ) -> Result<Estimate, DiffusionError> {
        let estimate = self.inner.denoise(x, at, told)?;
        let output = estimate.output.as_ref().map(|output| values(&output.value));
        let output = output.and_then(Result::ok).unwrap_or_default();
        self.seen.borrow_mut().push(output);
        Ok(estimate)
    }

    fn begin_step(&self, step: usize, of: usize, from: Level) {
        self.inner.begin_step(step, of, from);
    }
}
