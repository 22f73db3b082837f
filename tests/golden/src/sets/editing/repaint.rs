//! RePaint: what it does in which order, with which noise, and the sample after every operation.

use std::cell::RefCell;
use std::ops::ControlFlow;

use anyhow::{Context, ensure};
use burn::tensor::DType;
use ddpm_diffusion::editing::{Jumps, Kept, Operation, RePaint};
use ddpm_diffusion::sampler::ddim::Ddim;
use ddpm_diffusion::{Condition, NoiseAt, Progress, Sampler};
use serde_json::{Value, json};

use super::{choice, network};
use crate::compare::{difference, larger};
use crate::keys::{Keys, needed, unsupported};
use crate::source::{Source, images, values};

pub(super) fn repaint(source: &Source, name: &str, case: &mut Keys) -> anyhow::Result<f64> {
    let program = needed(case.text("program"), "program")?;
    if program != "RePaintScheduler" {
        return Err(unsupported("program", &program.into(), "RePaintScheduler"));
    }
    let jumps = Jumps {
        length: needed(case.count("jump_length"), "jump_length")?,
        samples: needed(case.count("jump_n_sample"), "jump_n_sample")?,
    };
    let listed = case.take("operations").context("`operations` is missing")?;
    let eta = needed(case.number("eta"), "eta")?;
    // It has the table, the levels and the clipping of this class.
    let mut choice = choice("DDIMScheduler", case)?;
    choice.sample.sampler = Sampler::Ddim(Ddim {
        eta,
        keep_eps: true,
    });
    let network = network(&choice, case)?;
    let plan = choice.sample.plan(&choice.process, choice.meaning)?;
    let denoiser = plan.denoiser(&network, Default::default())?;

    let mask = source.tensor(&format!("{name}_mask"))?.images(DType::F32)?;
    let image = source.tensor("x0")?.images(DType::F32)?.narrow(0, 0, 1);
    let start = source.tensor("noise")?.images(DType::F32)?.narrow(0, 0, 1);
    let kept = Kept::new(image, mask)?;
    let pool = source.tensor("pool")?;
    let shape = start.dims();
    // How often each operation draws.
    let draws = RefCell::new(Vec::<usize>::new());
    let mut missing = None;
    let mut noise = |at: NoiseAt| {
        let mut draws = draws.borrow_mut();
        let number: usize = draws.iter().sum();
        if draws.len() <= at.step {
            draws.resize(at.step + 1, 0);
        }
        draws[at.step] += 1;
        let values = pool
            .at(number)
            .map(<[f64]>::to_vec)
            .unwrap_or_else(|error| {
                missing = Some(error);
                vec![0.0; shape.iter().product()]
            });
        images(&values, shape, DType::F32)
    };
    let theirs = source.tensor(name)?;
    let (mut worst, mut failed) = (0.0, None);
    let mut compare = |progress: Progress<'_>| {
        match (values(progress.xt), theirs.at(progress.step - 1)) {
            (Ok(ours), Ok(theirs)) => worst = larger(worst, difference(&ours, theirs)),
            (Err(error), _) | (_, Err(error)) => failed = Some(error),
        }
        ControlFlow::Continue(())
    };
    let repaint = RePaint::new(&plan, jumps)?;
    repaint.run(
        &*denoiser,
        &kept,
        start,
        Condition::default(),
        &mut noise,
        &mut compare,
    )?;
    if let Some(error) = failed.or(missing) {
        return Err(error);
    }
    let operations = repaint.operations();
    ensure!(
        operations.len() == theirs.len(),
        "{} tensors of {} operations",
        theirs.len(),
        operations.len()
    );
    let ours = operations
        .iter()
        .zip(draws.into_inner())
        .map(|(operation, draws)| {
            let (what, leg) = match operation {
                Operation::Step(leg) => ("step", leg),
                Operation::Undo(leg) => ("undo", leg),
            };
            json!([what, plan.legs()[*leg].from.time as usize, draws])
        });
    let ours = Value::Array(ours.collect());
    ensure!(
        ours == listed,
        "the operations are {ours}, and {listed} with them"
    );
    Ok(worst)
}
