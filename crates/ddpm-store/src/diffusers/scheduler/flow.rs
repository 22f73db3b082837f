//! Rectified flow: the flow-matching schedulers, and `use_flow_sigmas` of those of tables.

use ddpm_diffusion::sampler::{euler::Euler, heun::Heun};
use ddpm_diffusion::{Meaning, SampleConfig, Sampler};
use ddpm_schedule::{Flow, GridRules, Prediction, Process, Schedule, Spacing};
use serde_json::json;

use super::curves::curve;
use super::samplers::NOWHERE;
use super::{Asked, Choice, spread};
use crate::diffusers::keys::Keys;
use crate::error::Result;

/// Our networks are told this many times t.
pub const NETWORK_STEPS: usize = 1000;

pub(super) fn euler(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    // What pipelines compute mu from.
    keys.drop(&[
        "base_shift",
        "max_shift",
        "base_image_seq_len",
        "max_image_seq_len",
    ]);
    if keys.boolean("invert_sigmas")?.unwrap_or(false) {
        return Err(keys.refusal("invert_sigmas", &json!(true), "false"));
    }
    // Arguments that `step` has and does not heed.
    call.step.drop(&["s_churn", "s_tmin", "s_tmax", "s_noise"]);
    let sampler = Sampler::Euler(Euler {
        renoise: keys.boolean("stochastic_sampling")?.unwrap_or(false),
        ..Euler::default()
    });
    let mut made = choice(keys, call, sampler)?;
    let given = call.set_timesteps.numbers("sigmas")?;
    let terminal = keys.number("shift_terminal")?.filter(|end| *end != 0.0);
    let named = spread::by_sigma(keys)?;
    if let (Process::Flow(flow), true) = (
        &made.process,
        given.is_some() || terminal.is_some() || named.is_some(),
    ) {
        let line = |i: usize| {
            let share = i as f64 / (call.steps.max(2) - 1) as f64;
            1.0 + share * (flow.t_min - 1.0)
        };
        let times = given.unwrap_or_else(|| (0..call.steps).map(line).collect());
        let mut times = shifted(flow, times, terminal);
        if let Some(named) = named {
            let [low, high] = [times.last(), times.first()].map(|end| end.copied().unwrap_or(1.0));
            times = curve(named, times.len(), low, high);
        }
        made.sample.spacing = Some(Spacing::Times { times });
    }
    Ok(made)
}

pub(super) fn heun(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Choice> {
    if let Some(churn) = call.step.number("s_churn")?.filter(|churn| *churn > 0.0) {
        // It adds noise without taking signal away, which leads off the flow.
        let expected = "0 of FlowMatchHeunDiscreteScheduler";
        return Err(call.step.refusal("s_churn", &json!(churn), expected));
    }
    call.step.drop(&["s_tmin", "s_tmax", "s_noise"]);
    choice(keys, call, Sampler::Heun(Heun::default()))
}

fn choice(keys: &mut Keys<'_>, call: &mut Asked<'_>, sampler: Sampler) -> Result<Choice> {
    let flow_steps = keys.count("num_train_timesteps")?.unwrap_or(NETWORK_STEPS);
    let shift = Shift::read(keys, call, "shift")?;
    let flow = shift.flow();
    // The least time of training is shifted once with the table of times that is made first, and again in sampling, but
    // where the shift depends on the image.
    let least = 1.0 / flow_steps.max(1) as f64;
    let t_min = match shift.dynamic {
        true => least,
        false => flow.shifted(least),
    };
    Ok(Choice {
        process: Process::Flow(Flow { t_min, ..flow }),
        meaning: Meaning::from(Prediction::Velocity),
        sample: SampleConfig {
            sampler,
            steps: Some(call.steps),
            spacing: Some(Spacing::Linspace {}),
            clip: false,
            ..SampleConfig::default()
        },
        negated: false,
        flow_steps,
        told_whole: false,
    })
}

/// How times are shifted.
struct Shift {
    factor: f64,
    dynamic: bool,
}

impl Shift {
    /// `shift` or `flow_shift`, or what `mu` makes of it.
    fn read(keys: &mut Keys<'_>, call: &mut Asked<'_>, key: &str) -> Result<Self> {
        let factor = keys.number(key)?.unwrap_or(1.0);
        let dynamic = keys.boolean("use_dynamic_shifting")?.unwrap_or(false);
        let kind = keys.text("time_shift_type")?;
        if !dynamic {
            call.set_timesteps.drop(&["mu"]);
            return Ok(Self { factor, dynamic });
        }
        let Some(mu) = call.set_timesteps.number("mu")? else {
            let expected =
                "false: how far the shift goes is the pipeline's to say, for every size of image";
            return Err(keys.refusal("use_dynamic_shifting", &json!(true), expected));
        };
        let factor = match kind.as_deref() {
            None | Some("exponential") => mu.exp(),
            Some("linear") => mu,
            Some(other) => {
                let expected = "exponential or linear";
                return Err(keys.refusal("time_shift_type", &json!(other), expected));
            }
        };
        Ok(Self { factor, dynamic })
    }

    fn flow(&self) -> Flow {
        Flow {
            shift: self.factor,
            ..Flow::default()
        }
    }
}

/// Times after the shift, stretched so that the last one is `terminal`.
fn shifted(flow: &Flow, times: Vec<f64>, terminal: Option<f64>) -> Vec<f64> {
    let times = times.into_iter().map(|t| flow.shifted(t));
    let mut times: Vec<f64> = times.collect();
    if let (Some(terminal), Some(last)) = (terminal, times.last()) {
        let scale = (1.0 - last) / (1.0 - terminal);
        times.iter_mut().for_each(|t| *t = 1.0 - (1.0 - *t) / scale);
    }
    times
}

/// `use_flow_sigmas` of a scheduler of a table.
pub(super) struct OfTable {
    shift: Shift,
    /// UniPC's times, which begin at noise instead of beside it.
    unipc: bool,
    terminal: Option<f64>,
    given: Option<Vec<f64>>,
}

/// `use_flow_sigmas` and the keys that only say more of it.
pub(super) fn of_table(keys: &mut Keys<'_>, call: &mut Asked<'_>) -> Result<Option<OfTable>> {
    if !keys.boolean("use_flow_sigmas")?.unwrap_or(false) {
        keys.drop(&[
            "flow_shift",
            "use_dynamic_shifting",
            "time_shift_type",
            "shift_terminal",
        ]);
        call.set_timesteps.drop(&["mu"]);
        return Ok(None);
    }
    Ok(Some(OfTable {
        shift: Shift::read(keys, call, "flow_shift")?,
        // Only UniPC has this key.
        unipc: keys.has("shift_terminal"),
        terminal: keys.number("shift_terminal")?.filter(|end| *end != 0.0),
        given: call.set_timesteps.numbers("sigmas")?,
    }))
}

impl OfTable {
    /// A choice of the same sampler over rectified flow instead of the table.
    pub(super) fn over(self, keys: &Keys<'_>, made: Choice, steps: usize) -> Result<Choice> {
        if !matches!(
            made.sample.spacing,
            Some(Spacing::Linspace {} | Spacing::Leading {} | Spacing::Trailing {})
        ) {
            let expected = "false beside another spacing of sigmas or timesteps";
            return Err(keys.refusal("use_flow_sigmas", &json!(true), expected));
        }
        let flow_steps = made.process.schedule().map_or(NETWORK_STEPS, Schedule::len);
        let flow = self.shift.flow();
        let least = 1.0 / flow_steps as f64;
        // In numpy's order of operations: the network is told whole steps, which many of these are but for rounding.
        let stride = (least - 1.0) / steps as f64;
        let line = |i: usize| match self.unipc {
            true => i as f64 * stride + 1.0,
            false if i == 0 => 1.0 - least,
            false => 1.0 - ((steps - i) as f64 * stride + 1.0),
        };
        let times = self.given.unwrap_or_else(|| (0..steps).map(line).collect());
        let mut times = shifted(&flow, times, self.terminal);
        if self.unipc && (times[0] - 1.0).abs() < 1e-6 {
            times[0] -= 1e-6;
        }
        let t_min = match made.sample.sampler {
            // The last σ again: a step that leads nowhere.
            Sampler::Deis(_) => times[times.len() - 1],
            Sampler::Unipc(_) => times[times.len() - 1] * NOWHERE,
            // The table's, taken for a time.
            _ => made.process.least_noisy().sigma(),
        };
        Ok(Choice {
            process: Process::Flow(Flow { t_min, ..flow }),
            sample: SampleConfig {
                spacing: Some(Spacing::Times { times }),
                grid: GridRules {
                    to_first: made.sample.grid.to_first,
                    ..GridRules::default()
                },
                ..made.sample
            },
            flow_steps,
            told_whole: true,
            ..made
        })
    }
}
