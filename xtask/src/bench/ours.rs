//! Our side: `ddpm-bench` for the network, `ddpm` for whole processes.

use std::ffi::OsString;

use super::places::Places;
use super::process::Invocation;
use super::work::{Task, Work};

/// Our side.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// Threads of the kernels.
    pub threads: usize,
}

impl Ours {
    /// What does a piece of work.
    pub fn command(self, work: &Work, places: &Places) -> Invocation {
        match work.task {
            Task::Network {
                config,
                batch,
                steps,
                warmup,
            } => {
                let mut arguments: Vec<OsString> = vec!["network".into(), "--config".into()];
                arguments.push(places.config(config).into());
                let options = [
                    ("--batch", batch.to_string()),
                    ("--steps", steps.to_string()),
                    ("--warmup", warmup.to_string()),
                    ("--only", work.only().to_owned()),
                    ("--threads", self.threads.to_string()),
                ];
                for (name, value) in options {
                    arguments.extend([name.into(), value.into()]);
                }
                Invocation {
                    program: places.program("ddpm-bench"),
                    arguments,
                    environment: Vec::new(),
                }
            }
            Task::Sampling {
                config,
                images,
                steps,
            } => {
                let mut arguments: Vec<OsString> = vec!["sample".into(), "--model".into()];
                arguments.push(places.model(config).into());
                let options = [
                    ("--sampler", "ddim".to_owned()),
                    ("--steps", steps.to_string()),
                    ("--n", images.to_string()),
                    ("--device", "cpu".to_owned()),
                ];
                for (name, value) in options {
                    arguments.extend([name.into(), value.into()]);
                }
                arguments.extend(["--grid".into(), places.picture("ours").into()]);
                arguments.extend(["--json".into(), "--quiet".into()]);
                Invocation {
                    program: places.program("ddpm"),
                    arguments,
                    // `ddpm` has no option for it.
                    environment: vec![("RAYON_NUM_THREADS", self.threads.to_string().into())],
                }
            }
        }
    }

    /// What writes a network with initial weights, where there is no PyTorch to do it.
    pub fn make_model(self, config: &str, places: &Places) -> Invocation {
        Invocation {
            program: places.program("ddpm-bench"),
            arguments: vec![
                "make-model".into(),
                "--config".into(),
                places.config(config).into(),
                "--to".into(),
                places.model(config).into(),
            ],
            environment: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::work::{all, select};

    #[test]
    fn commands_say_what_is_asked() {
        let places = Places::new(&crate::root().unwrap(), None).unwrap();
        let command = |filter: &str| {
            let work = select(all(false), Some(filter)).remove(0);
            Ours { threads: 3 }.command(&work, &places).typed()
        };
        let network = command("small-32, batch 8: forward");
        for words in [
            "ddpm-bench",
            " network --config ",
            "small-32.json --batch 8 --steps 7 --warmup 3 --only forward --threads 3",
        ] {
            assert!(network.contains(words), "{network}");
        }
        let sampling = command("16 images");
        assert!(sampling.starts_with("RAYON_NUM_THREADS=3 "), "{sampling}");
        for words in [
            " sample --model ",
            "small-32 --sampler ddim --steps 50 --n 16 --device cpu --grid ",
        ] {
            assert!(sampling.contains(words), "{sampling}");
        }
        let model = Ours { threads: 3 }.make_model("digits", &places).typed();
        assert!(model.contains("digits.json --to "), "{model}");
    }
}
