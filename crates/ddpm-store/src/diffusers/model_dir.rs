//! A network and its noise schedule as a directory that diffusers writes and reads.

use std::path::{Path, PathBuf};

use ddpm_diffusion::VarianceOutput;
use serde_json::{Map, Value, json};

use super::index::Index;
use super::keys::unsupported;
use super::scheduler::Scheduler;
use super::{hub, names, weights};
use crate::checkpoint::Weights;
use crate::error::{Result, StoreError};
use crate::json;
use crate::tensors::{self, TensorFile};

const CONFIG: &str = "config.json";
const UNET: &str = "unet";
/// Where diffusers' training script keeps the moving average, beside `unet` in its checkpoints.
const UNET_EMA: &str = "unet_ema";
const SCHEDULER_CONFIG: &str = "scheduler_config.json";

/// What a model directory holds.
#[derive(Debug)]
pub struct DiffusersModel {
    /// The network's `config.json` as it is.
    pub config: Map<String, Value>,
    /// Its weights, under diffusers' present names.
    pub tensors: TensorFile,
    /// The noise schedule, where one is there and understood.
    pub scheduler: Option<Scheduler>,
    /// Why no images can be sampled with it, where that is so: the network itself may still be evaluated.
    pub refusal: Option<StoreError>,
    /// The scheduler's file, where one is there.
    pub scheduler_path: Option<PathBuf>,
    /// Where `config.json` and the weights lie.
    pub unet_dir: PathBuf,
}

impl DiffusersModel {
    /// Reads a pipeline (`unet/`, `scheduler/`, `model_index.json`), a flat directory (`config.json`, weights and perhaps
    /// `scheduler_config.json` side by side), a checkpoint of diffusers' training script (`unet/`, `unet_ema/`) or a
    /// repository in the Hugging Face cache.
    ///
    /// # Errors   [`StoreError::Missing`] for a directory that is neither, [`StoreError::Format`] and
    /// [`StoreError::Tensor`] for broken files (pickles and weights that are not finite among them), [`StoreError::Io`]
    pub fn read(directory: &Path) -> Result<Self> {
        Self::read_weights(directory, None)
    }

    /// As [`DiffusersModel::read`]; of `unet/` and `unet_ema/` the one that is asked for, or `unet/` like diffusers.
    ///
    /// # Errors   as [`DiffusersModel::read`]
    pub fn read_weights(directory: &Path, which: Option<Weights>) -> Result<Self> {
        let directory = hub::snapshot(directory)?;
        let unet_dir = locate(&directory, which)?;
        let config: Map<String, Value> = json::read(&unet_dir.join(CONFIG))?;
        let mut tensors = weights::read(&unet_dir)?;
        tensors.tensors = tensors.tensors.into_iter().map(names::modernise).collect();
        // An old and a new name of one parameter would meet here.
        tensors::check(&unet_dir, &tensors.tensors)?;
        let places = [
            directory.join("scheduler").join(SCHEDULER_CONFIG),
            directory.join(SCHEDULER_CONFIG),
        ];
        let scheduler_path = places.into_iter().find(|path| path.is_file());
        let read = read_scheduler(&directory, scheduler_path.as_deref()).and_then(|scheduler| {
            check_channels(&unet_dir, &config, scheduler.as_ref())?;
            Ok(scheduler)
        });
        let (scheduler, refusal) = match read {
            Ok(scheduler) => (scheduler, None),
            Err(error @ StoreError::Unsupported { .. }) => (None, Some(error)),
            Err(broken) => return Err(broken),
        };
        Ok(Self {
            config,
            tensors,
            scheduler,
            refusal,
            scheduler_path,
            unet_dir,
        })
    }
}

fn read_scheduler(directory: &Path, path: Option<&Path>) -> Result<Option<Scheduler>> {
    let index = Index::read(directory)?;
    path.map(|path| index.scheduler(path)).transpose()
}

/// Sampling takes the output for an image, and as much again for a learned variance.
fn check_channels(
    unet_dir: &Path,
    config: &Map<String, Value>,
    scheduler: Option<&Scheduler>,
) -> Result<()> {
    let channels = |key| config.get(key).map_or(Some(3), Value::as_u64);
    // What is not a number is for the network to refuse.
    let (Some(taken), Some(given)) = (channels("in_channels"), channels("out_channels")) else {
        return Ok(());
    };
    let learned = match scheduler {
        Some(scheduler) => scheduler.network()?.meaning.variance != VarianceOutput::None,
        None => false,
    };
    let supported = match learned {
        true if Some(given) == taken.checked_mul(2) => return Ok(()),
        true => {
            "twice as many as in_channels: those of the scheduler's learned variance among them"
        }
        false if given == taken => return Ok(()),
        false if Some(given) == taken.checked_mul(2) => {
            "as many as in_channels: twice as many are those of a learned variance, of which the scheduler does not tell; \
             set its variance_type to learned_range"
        }
        false => "as many as in_channels",
    };
    let path = unet_dir.join(CONFIG);
    Err(unsupported(&path, "out_channels", &json!(given), supported))
}

fn locate(directory: &Path, which: Option<Weights>) -> Result<PathBuf> {
    let [unet, ema] = [UNET, UNET_EMA].map(|name| directory.join(name));
    let is_network = |place: &Path| place.join(CONFIG).is_file();
    if is_network(&ema) {
        if which == Some(Weights::Ema) {
            return Ok(ema);
        }
        let has_weights = is_network(&unet) && weights::find(&unet)?.is_some();
        if which.is_none() && !has_weights && !is_network(directory) {
            tracing::warn!(
                "{}: reading the moving average of unet_ema, since unet holds no weights",
                directory.display()
            );
            return Ok(ema);
        }
    }
    let found = [unet, directory.to_owned()]
        .into_iter()
        .find(|place| is_network(place))
        .ok_or_else(|| StoreError::Missing {
            path: directory.to_owned(),
            what: "unet/config.json or config.json".to_owned(),
            hint: "give a directory that diffusers' save_pretrained wrote".to_owned(),
        })?;
    if which == Some(Weights::Ema) {
        tracing::warn!(
            "{}: there is no unet_ema, so these are the only weights",
            found.display()
        );
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ddpm_diffusion::SampleConfig;
    use ddpm_schedule::{Prediction, ProcessConfig, ScheduleConfig, ScheduleKind};
    use std::fs;

    use crate::diffusers::weights::WEIGHTS;
    use crate::diffusers::{NetworkSettings, Written, write_pipeline};
    use crate::tensors::NamedTensor;

    fn weights(names: &[&str]) -> Vec<NamedTensor> {
        let tensor = |(index, name): (usize, &&str)| NamedTensor {
            name: (*name).to_owned(),
            shape: vec![2, 2],
            data: (0..4).map(|k| (index * 4 + k) as f32 / 3.0).collect(),
        };
        names.iter().enumerate().map(tensor).collect()
    }

    fn config() -> Map<String, Value> {
        let config =
            json!({"block_out_channels": [16, 32], "sample_size": 8, "mid_block_type": null});
        config.as_object().unwrap().clone()
    }

    #[test]
    fn a_pipeline_comes_back() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("model");
        let weights = weights(&["conv_in.weight", "mid_block.attentions.0.to_q.weight"]);
        let schedule = ScheduleConfig {
            kind: ScheduleKind::Cosine,
            steps: 50,
            ..Default::default()
        };
        let network = NetworkSettings {
            process: ProcessConfig::default(),
            schedule,
            meaning: Prediction::Eps.into(),
        };
        let path = directory.join("scheduler").join(SCHEDULER_CONFIG);
        let written = Written::of(&path, &network, &SampleConfig::default()).unwrap();
        assert_eq!(written.difference, None);
        write_pipeline(&directory, &config(), &weights, &written.scheduler).unwrap();

        let model = DiffusersModel::read(&directory).unwrap();
        assert_eq!(model.tensors.tensors, weights);
        assert_eq!(model.scheduler.as_ref(), Some(&written.scheduler));
        assert_eq!(model.unet_dir, directory.join("unet"));
        assert_eq!(model.config["_class_name"], "UNet2DModel");
        for (key, value) in config() {
            assert_eq!(model.config[&key], value);
        }
        let index: Value = json::read(&directory.join("model_index.json")).unwrap();
        assert_eq!(index["scheduler"], json!(["diffusers", "DDPMScheduler"]));
        assert_eq!(index["_class_name"], "DDPMPipeline");

        // The same files side by side, as older repositories have them.
        let flat = root.path().join("flat");
        fs::create_dir(&flat).unwrap();
        for file in [
            "unet/config.json",
            "scheduler/scheduler_config.json",
            &format!("unet/{WEIGHTS}"),
        ] {
            fs::copy(
                directory.join(file),
                flat.join(Path::new(file).file_name().unwrap()),
            )
            .unwrap();
        }
        let flat_model = DiffusersModel::read(&flat).unwrap();
        assert_eq!(flat_model.unet_dir, flat);
        assert_eq!(
            (&flat_model.config, &flat_model.tensors),
            (&model.config, &model.tensors)
        );
        let choice =
            |model: &DiffusersModel| model.scheduler.as_ref().unwrap().choice(None).unwrap();
        assert_eq!(choice(&flat_model), choice(&model));
        fs::remove_file(flat.join(SCHEDULER_CONFIG)).unwrap();
        assert_eq!(DiffusersModel::read(&flat).unwrap().scheduler, None);
    }

    #[test]
    fn old_names_are_read_and_must_not_meet_new_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(WEIGHTS);
        json::write_pretty(&directory.path().join(CONFIG), &config()).unwrap();
        let old = ["mid_block.attentions.0.proj_attn.weight"];
        TensorFile::new(weights(&old)).write(&path).unwrap();
        let model = DiffusersModel::read(directory.path()).unwrap();
        assert!(
            model
                .tensors
                .get("mid_block.attentions.0.to_out.0.weight")
                .is_some()
        );

        let both = [old[0], "mid_block.attentions.0.to_out.0.weight"];
        TensorFile::new(weights(&both)).write(&path).unwrap();
        let refused = DiffusersModel::read(directory.path()).unwrap_err();
        assert!(matches!(refused, StoreError::Tensor { .. }), "{refused}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let message = |expected: &str| {
            let message = DiffusersModel::read(directory.path())
                .unwrap_err()
                .to_string();
            assert!(message.contains(expected), "{message}");
        };
        message("config.json");
        json::write_pretty(&directory.path().join(CONFIG), &config()).unwrap();
        message("the weights not found");
        fs::write(directory.path().join("diffusion_pytorch_model.bin"), "x").unwrap();
        message("pickle");
        fs::write(directory.path().join(CONFIG), "[1, 2").unwrap();
        message("not valid JSON");
    }

    /// A network whose only weight is called `name`.
    fn network(folder: &Path, name: &str) {
        json::write_pretty(&folder.join(CONFIG), &config()).unwrap();
        TensorFile::new(weights(&[name]))
            .write(&folder.join(WEIGHTS))
            .unwrap();
    }

    #[test]
    fn the_moving_average_is_read_where_asked_for_or_alone() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let read = |which| {
            let model = DiffusersModel::read_weights(root, which).unwrap();
            model.tensors.tensors[0].name.clone()
        };
        network(&root.join(UNET), "trained");
        assert_eq!(read(Some(Weights::Ema)), "trained");
        network(&root.join(UNET_EMA), "ema");
        for (which, expected) in [
            (None, "trained"),
            (Some(Weights::Raw), "trained"),
            (Some(Weights::Ema), "ema"),
        ] {
            assert_eq!(read(which), expected);
        }
        fs::remove_file(root.join(UNET).join(WEIGHTS)).unwrap();
        assert_eq!(read(None), "ema");
        let refused = DiffusersModel::read_weights(root, Some(Weights::Raw)).unwrap_err();
        assert!(matches!(refused, StoreError::Missing { .. }), "{refused}");
        fs::remove_dir_all(root.join(UNET)).unwrap();
        assert_eq!(read(None), "ema");
    }

    #[cfg(unix)]
    #[test]
    fn a_repository_in_the_cache_is_read_through_its_links() {
        let root = tempfile::tempdir().unwrap();
        let cache = root.path().join("models--google--ddpm");
        let snapshot = cache.join("snapshots/abc");
        fs::create_dir_all(&snapshot).unwrap();
        network(&cache.join("blobs"), "a");
        for name in [CONFIG, WEIGHTS] {
            let blob = Path::new("../../blobs").join(name);
            std::os::unix::fs::symlink(blob, snapshot.join(name)).unwrap();
        }
        json::write_pretty(&cache.join("refs/other"), &json!(1)).unwrap();
        fs::write(cache.join("refs/main"), "abc").unwrap();
        let model = DiffusersModel::read(&cache).unwrap();
        assert_eq!(model.unet_dir, snapshot);
        assert_eq!(model.tensors.tensors[0].name, "a");
    }

    #[test]
    fn what_cannot_be_sampled_is_read_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let refusal = || {
            let model = DiffusersModel::read(folder).unwrap();
            model.refusal.map(|error| error.to_string())
        };
        network(folder, "a");
        assert_eq!(refusal(), None);
        let index = json!({"_class_name": "LDMPipeline", "vqvae": ["diffusers", "VQModel"]});
        json::write_pretty(&folder.join("model_index.json"), &index).unwrap();
        assert!(refusal().unwrap().contains("model_index.json: `vqvae` is"));
        fs::remove_file(folder.join("model_index.json")).unwrap();
        let scheduler = json!({"_class_name": "KarrasVeScheduler"});
        json::write_pretty(&folder.join(SCHEDULER_CONFIG), &scheduler).unwrap();
        assert!(refusal().unwrap().contains("KarrasVeScheduler"));
        let scheduler = json!({"variance_type": "learned_range"});
        json::write_pretty(&folder.join(SCHEDULER_CONFIG), &scheduler).unwrap();
        assert!(refusal().unwrap().contains("twice as many as in_channels"));
        json::write_pretty(
            &folder.join(CONFIG),
            &json!({"in_channels": 3, "out_channels": 6}),
        )
        .unwrap();
        assert_eq!(refusal(), None);
        fs::remove_file(folder.join(SCHEDULER_CONFIG)).unwrap();
        for (taken, given, word) in [(3, 6, "learned variance"), (6, 3, "as many as in_channels")] {
            let channels = json!({"in_channels": taken, "out_channels": given});
            json::write_pretty(&folder.join(CONFIG), &channels).unwrap();
            let message = refusal().unwrap();
            assert!(
                message.contains("`out_channels`") && message.contains(word),
                "{message}"
            );
        }
    }

    #[test]
    fn shards_are_put_together() {
        let directory = tempfile::tempdir().unwrap();
        json::write_pretty(&directory.path().join(CONFIG), &config()).unwrap();
        let all = weights(&["a", "b", "c"]);
        let file = |k: usize| format!("diffusion_pytorch_model-0000{k}-of-00002.safetensors");
        let write = |k: usize, part: &[NamedTensor]| {
            TensorFile::new(part.to_vec())
                .write(&directory.path().join(file(k)))
                .unwrap();
        };
        write(1, &all[..2]);
        write(2, &all[2..]);
        let index = directory
            .path()
            .join("diffusion_pytorch_model.safetensors.index.json");
        let map = |third: &str| json!({"weight_map": {"a": file(1), "b": file(1), "c": third}});
        json::write_pretty(&index, &map(&file(2))).unwrap();
        assert_eq!(
            DiffusersModel::read(directory.path())
                .unwrap()
                .tensors
                .tensors,
            all
        );

        json::write_pretty(&index, &map(&file(1))).unwrap();
        let message = DiffusersModel::read(directory.path())
            .unwrap_err()
            .to_string();
        assert!(message.contains("`c`"), "{message}");
        json::write_pretty(&index, &map("../secret.safetensors")).unwrap();
        let message = DiffusersModel::read(directory.path())
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("not the name of a file beside it"),
            "{message}"
        );
    }
}
