//! The `Unet` of denoising-diffusion-pytorch 2 (lucidrains): its configuration, read off the shapes of its `state_dict`, and
//! its parameters.

use std::collections::BTreeSet;

use super::{Named, Tensors, wrong};
use crate::error::UnetError;
use crate::lucidrains::LucidrainsConfig;

/// The configuration and the parameters of the network whose `state_dict` this is.
///
/// # Errors   [`UnetError::Foreign`] naming the tensor that is no part of such a network, [`UnetError::Config`] for shapes
/// that no network can have; whether all are there is checked when they are loaded
pub fn network(
    tensors: impl IntoIterator<Item = Named>,
) -> Result<(LucidrainsConfig, Vec<Named>), UnetError> {
    let all = Tensors::new(tensors)?;
    let config = config(&all)?;
    let mut taken = BTreeSet::new();
    let mut found = Vec::new();
    for (name, (mut shape, data)) in all.0 {
        let ours = renamed(&name);
        if !taken.insert(ours.clone()) {
            return Err(wrong(&name, "is there under two names".into()));
        }
        // [1, channels, 1, 1] -> [channels]
        if ours.ends_with(".g") {
            shape = vec![data.len()];
        }
        found.push((ours, shape, data));
    }
    Ok((config, found))
}

fn config(all: &Tensors) -> Result<LucidrainsConfig, UnetError> {
    if all.has("downs.0.0.block1.norm.weight") {
        return Err(wrong(
            "downs.0.0.block1.norm.weight",
            "is of a group normalisation, as blocks of denoising-diffusion-pytorch 1 have; networks of version 2 are read"
                .into(),
        ));
    }
    let [init_dim, in_channels, _, _] = all.sides("init_conv.weight")?;
    let [out_channels, _, _, _] = all.sides("final_conv.weight")?;
    let [time_channels, _] = all.sides("time_mlp.3.weight")?;
    let mut config = LucidrainsConfig {
        in_channels,
        out_channels,
        init_dim,
        dim: time_channels / 4,
        learned_sinusoidal_dim: match all.has("time_mlp.0.weights") {
            true => all.sides::<1>("time_mlp.0.weights")?[0].saturating_mul(2),
            false => 0,
        },
        dim_mults: Vec::new(),
        full_attn: Vec::new(),
        attn_heads: Vec::new(),
        attn_dim_head: Vec::new(),
        ..LucidrainsConfig::default()
    };
    for level in 0.. {
        let name = |part: &str| format!("downs.{level}.{part}");
        if !all.has(&name("0.block1.proj.weight")) {
            break;
        }
        let resample = [name("3.1.weight"), name("3.weight")];
        let resample = &resample[usize::from(!all.has(&resample[0]))];
        let [output, _, _, _] = all.sides(resample)?;
        match output.checked_div(config.dim) {
            Some(multiple) if multiple * config.dim == output => config.dim_mults.push(multiple),
            _ => {
                let problem = format!(
                    "leaves {output} channels, which are no multiple of {}, a quarter of those of `time_mlp.3.weight`",
                    config.dim
                );
                return Err(wrong(resample, problem));
            }
        }
        let memory = name("2.mem_kv");
        let [_, heads, a, b] = all.sides(&memory)?;
        let full = !all.has(&name("2.to_out.1.g"));
        config.full_attn.push(full);
        config.attn_heads.push(heads);
        config.attn_dim_head.push(if full { b } else { a });
    }
    config.validate()?;
    Ok(config)
}

/// The name of a parameter here; that of anything else is no parameter's here either.
fn renamed(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let ours: Vec<&str> = match parts.as_slice() {
        ["time_mlp", "0", "weights"] => vec!["sinusoids"],
        ["time_mlp", "1", rest] => vec!["time_linear_1", rest],
        ["time_mlp", "3", rest] => vec!["time_linear_2", rest],
        [way @ ("downs" | "ups"), level, "0", rest @ ..] => joined(&[*way, *level, "first"], rest),
        [way @ ("downs" | "ups"), level, "1", rest @ ..] => joined(&[*way, *level, "second"], rest),
        [way @ ("downs" | "ups"), level, "2", rest @ ..] => joined(&[*way, *level, "attn"], rest),
        [way @ ("downs" | "ups"), level, "3", "1", rest]
        | [way @ ("downs" | "ups"), level, "3", rest] => vec![*way, *level, "resample", rest],
        whole => joined(&[], whole),
    };
    ours.join(".")
}

/// A module's path here, and the rest of a parameter's name inside it.
fn joined<'a>(path: &[&'a str], rest: &[&'a str]) -> Vec<&'a str> {
    let (inside, last): (&[&str], &[&str]) = match rest {
        [inside @ .., "mlp", "1", last] => (inside, &["mlp", last]),
        [inside @ .., "to_qkv", "weight"] => (inside, &["to_qkv"]),
        [inside @ .., "to_out", "0", last] => (inside, &["to_out", last]),
        [inside @ .., "to_out", "1", "g"] => (inside, &["to_out_norm", "g"]),
        whole => (whole, &[]),
    };
    [path, inside, last].concat()
}
