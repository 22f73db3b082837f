//! `--devices`: the devices that share the work of one run.

use std::mem::discriminant;

use crate::{Choice, ChoiceError};

/// The most shares of the CPU that `cpu:N` may ask for.
const MOST_SHARES: usize = 64;

/// Reads `cuda:0,cuda:1`: devices of one kind, each named once, in the order given.
///
/// `cpu:4` is the CPU four times over, for trying out what several devices do where there are none.
///
/// # Errors
/// [`ChoiceError`] for what is no device, for `auto`, and for a device that is named twice or is of another kind than
/// the first.
pub fn parse_list(text: &str) -> Result<Vec<Choice>, ChoiceError> {
    if let Some(shares) = text.trim().strip_prefix("cpu:") {
        return cpu_device(text, shares);
    }
    let mut choices = Vec::new();
    for name in text.split(',') {
        let choice = name.trim().parse()?;
        check(&choices, choice)?;
        choices.push(choice);
    }
    Ok(choices)
}

/// The CPU `shares` times.
fn cpu_device(text: &str, shares: &str) -> Result<Vec<Choice>, ChoiceError> {
    match shares.parse() {
        Ok(shares @ 1..=MOST_SHARES) => Ok(vec![Choice::Cpu; shares]),
        _ => Err(ChoiceError::Shares {
            text: text.to_owned(),
            most: MOST_SHARES,
        }),
    }
}

/// Whether `next` may follow the devices before it.
fn check(before: &[Choice], next: Choice) -> Result<(), ChoiceError> {
    if matches!(next, Choice::Auto | Choice::Own(_)) {
        return Err(ChoiceError::Auto);
    }
    if before.contains(&next) {
        return Err(ChoiceError::Twice {
            device: next.to_string(),
        });
    }
    match before.first() {
        Some(first) if !same_kind(*first, next) => Err(ChoiceError::Mixed {
            first: first.to_string(),
            other: next.to_string(),
        }),
        _ => Ok(()),
    }
}

fn same_kind(one: Choice, other: Choice) -> bool {
    match (one, other) {
        (Choice::Gpu(one, _), Choice::Gpu(other, _)) => one == other,
        _ => discriminant(&one) == discriminant(&other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gpu, Unit};

    #[test]
    fn lists_are_read() {
        let gpu_at = |gpu, index| Choice::Gpu(gpu, Unit::Index(index));
        let cases = [
            ("cpu", vec![Choice::Cpu]),
            ("cpu:1", vec![Choice::Cpu]),
            ("cpu:4", vec![Choice::Cpu; 4]),
            ("cuda", vec![gpu_at(Gpu::Cuda, 0)]),
            (
                "cuda:1, cuda:0",
                vec![gpu_at(Gpu::Cuda, 1), gpu_at(Gpu::Cuda, 0)],
            ),
            (
                "vulkan:0,vulkan:cpu",
                vec![
                    gpu_at(Gpu::Vulkan, 0),
                    Choice::Gpu(Gpu::Vulkan, Unit::Software),
                ],
            ),
        ];
        for (text, choices) in cases {
            assert_eq!(parse_list(text), Ok(choices), "{text}");
        }
    }

    #[test]
    fn other_lists_are_refused() {
        for (text, words) in [
            ("", "`` is no device"),
            ("cuda:0,", "`` is no device"),
            ("cuda:0,tpu:1", "`tpu:1` is no device"),
            ("auto", "`auto` cannot be one of several devices"),
            ("cuda:0,auto", "`auto` cannot be one of several devices"),
            ("cuda,cuda:0", "`cuda:0` is named twice"),
            ("cpu,cpu", "`cpu` is named twice"),
            (
                "cuda:0,vulkan:0",
                "cuda:0 and vulkan:0 are of different kinds",
            ),
            ("cpu,cuda:0", "cpu and cuda:0 are of different kinds"),
            ("cpu:0", "`cpu:0` is no number of shares"),
            ("cpu:65", "write cpu:1 to cpu:64"),
            ("cpu:2,cpu:2", "`cpu:2,cpu:2` is no number of shares"),
            ("cpu:", "`cpu:` is no number of shares"),
        ] {
            let error = parse_list(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
