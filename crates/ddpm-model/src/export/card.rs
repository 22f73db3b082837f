//! Model cards: what a hub shows of a model, with the front matter by which it finds it.

use ddpm_schedule::ProcessConfig;
use ddpm_unet::Conditioning;
use serde_json::{Map, Value, json};

use super::{GRID, Pipeline, python};
use crate::open::OpenedModel;

/// What nobody but the author knows.
#[derive(Debug, Clone, Copy)]
pub struct Card<'a> {
    /// The model's name, or `OWNER/NAME` as a hub has it: one line.
    pub name: &'a str,
    /// The licence of the weights by a hub's identifier, such as `mit`.
    pub license: Option<&'a str>,
    /// Data sets by a hub's names, such as `uoft-cs/cifar10`.
    pub datasets: &'a [String],
    /// Whether there is a picture of samples.
    pub grid: bool,
}

/// The word of hubs for a licence that nobody has said.
const UNKNOWN: &str = "unknown";
/// Keys of a configuration that say where things lie on the machine of the training; a section without its place says
/// nothing.
const PLACES: [&str; 3] = ["data.path", "data.labels", "init"];

impl Card<'_> {
    /// The card in Markdown, with front matter in YAML.
    #[must_use]
    pub fn text(&self, opened: &OpenedModel, pipeline: &Pipeline) -> String {
        let mut text = self.front_matter(pipeline.conditioning);
        text += &format!("\n# {}\n\n", escaped(self.name));
        text += &about(opened, pipeline);
        if self.grid {
            text += &format!("\n![Samples]({GRID})\n");
        }
        text += &format!(
            "\n## Use\n\nWith Python's diffusers:\n\n```python\n{}```\n",
            python::program(pipeline, self.name)
        );
        if let Some(difference) = &pipeline.difference {
            text += &format!(
                "\nThis draws with {}, not as the model was drawn from in training: {difference}.\n",
                pipeline.scheduler.class()
            );
        }
        let class = match pipeline.conditioning {
            Conditioning::None => "",
            _ => " --class 0",
        };
        text += &format!(
            "\nWith `ddpm`, from a copy of this directory in `model`:\n\n```sh\nddpm sample --model model -n 16{class} --grid grid.png\n```\n"
        );
        if let Some(settings) = opened.trained.as_ref().and_then(Value::as_object) {
            text += &format!(
                "\n## Settings\n\nThe configuration of the training, as `ddpm train` reads it; the place of the images is left out.\n\n```toml\n{}```\n",
                toml(settings)
            );
        }
        text
    }

    fn front_matter(&self, conditioning: Conditioning) -> String {
        let license = self.license.unwrap_or(UNKNOWN);
        let mut text = format!("---\nlicense: {license}\nlibrary_name: diffusers\ntags:\n");
        for tag in ["ddpm", "diffusion", "unconditional-image-generation"] {
            text += &format!("- {tag}\n");
        }
        if conditioning != Conditioning::None {
            text += "- class-conditional\n";
        }
        if !self.datasets.is_empty() {
            text += "datasets:\n";
            for name in self.datasets {
                text += &format!("- {name}\n");
            }
        }
        text + "pipeline_tag: unconditional-image-generation\n---\n"
    }
}

/// What it is, what it was trained on, and for how long.
fn about(opened: &OpenedModel, pipeline: &Pipeline) -> String {
    let (channels, size) = pipeline.image;
    let colours = match channels {
        1 => "grey ",
        2 => "grey and transparent ",
        4 => "transparent ",
        _ => "",
    };
    let size = size.map_or(String::new(), |[height, width]| {
        format!(" of {height}x{width} pixels")
    });
    let classes = match pipeline.conditioning {
        Conditioning::Classes { count, .. } => format!(", told one of {count} classes"),
        Conditioning::Number | Conditioning::Embedding => ", told of a class".to_owned(),
        Conditioning::None => String::new(),
    };
    let mut text =
        format!("A denoising diffusion model that draws {colours}images{size}{classes}.\n\n");
    let word = |value: Value| value.as_str().unwrap_or_default().to_owned();
    let prediction = word(json!(opened.meaning.prediction));
    text += &match opened.process {
        ProcessConfig::Discrete {} => format!(
            "- Process: {} steps of the table {}; the network predicts {prediction}\n",
            opened.schedule.steps,
            word(json!(opened.schedule.kind)),
        ),
        process => format!(
            "- Process: {}; the network predicts {prediction}\n",
            word(json!(process)["kind"].take()),
        ),
    };
    let Some(trained) = &opened.trained else {
        return text;
    };
    text += &format!("- Data: {}\n", data(trained));
    let step = opened.step.unwrap_or_default();
    let batch = trained["train"]["batch"].as_u64();
    text += &match batch {
        Some(batch) => format!(
            "- Training: {step} steps of {batch} images, {} in all\n",
            step.saturating_mul(batch)
        ),
        None => format!("- Training: {step} steps\n"),
    };
    if let Some(name) = last_name(&trained["init"]["model"]) {
        text += &format!("- Began with the weights of {}\n", escaped(name));
    }
    let weights = match opened.averaged {
        Some(false) => "those of the last step, without a moving average",
        _ => "their exponential moving average (EMA)",
    };
    text + &format!("- Weights: {weights}\n")
}

/// The images by their kind and the last name of their path, which alone is no secret of a machine.
fn data(trained: &Value) -> String {
    let data = &trained["data"];
    let kind = data["kind"].as_str().unwrap_or("images");
    let images = match (kind, last_name(&data["path"])) {
        ("digits", _) => "the handwritten digits of 8x8 pixels that come with `ddpm`".to_owned(),
        (kind, None) => kind.to_owned(),
        (kind, Some(name)) => format!("{} ({kind})", escaped(name)),
    };
    let split = match data["split"].as_str() {
        Some(split) => format!(", the part {split}"),
        None => String::new(),
    };
    let flip = match data["flip"].as_bool() {
        Some(true) => ", mirrored at random",
        _ => "",
    };
    images + &split + flip
}

/// The last name of a path.
fn last_name(path: &Value) -> Option<&str> {
    path.as_str()?
        .rsplit(['/', '\\'])
        .find(|part| !part.is_empty())
}

/// A configuration as lines of TOML, a dotted key each: numbers, texts and lists of JSON are written alike.
fn toml(settings: &Map<String, Value>) -> String {
    let mut lines = Vec::new();
    leaves("", settings, &mut lines);
    lines.concat()
}

fn leaves(above: &str, table: &Map<String, Value>, lines: &mut Vec<String>) {
    for (key, value) in table {
        let key = format!("{above}{key}");
        match value {
            _ if PLACES.contains(&key.as_str()) => {}
            Value::Object(below) => leaves(&format!("{key}."), below, lines),
            Value::Null => {}
            value => lines.push(format!("{key} = {value}\n")),
        }
    }
}

/// Text in which Markdown sees no mark-up.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if "\\`*[]<>#|".contains(letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}
