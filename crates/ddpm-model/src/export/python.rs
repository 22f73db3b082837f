//! How Python draws with a pipeline.

use ddpm_unet::Conditioning;
use serde_json::{Map, Value};

use super::Pipeline;

/// Schedulers that `DDPMPipeline` drives as they are meant; others scale what a network sees, or take no generator.
const DRIVEN: [&str; 2] = ["DDPMScheduler", "DPMSolverMultistepScheduler"];
const DDIM: &str = "DDIMScheduler";
/// Images that the example draws.
const IMAGES: usize = 4;

/// A program that draws a few images with the model of that name.
pub(super) fn program(pipeline: &Pipeline, name: &str) -> String {
    let class = pipeline.scheduler.class();
    let call = Call::of(pipeline);
    let plain = pipeline.conditioning == Conditioning::None && pipeline.image.1.is_some();
    let by_steps = call.set_timesteps.keys().eq(["num_inference_steps"]);
    let driven = match class {
        DDIM => true,
        class => DRIVEN.contains(&class) && call.step.is_empty(),
    };
    match plain && by_steps && driven {
        true => {
            let kind = match class {
                DDIM => "DDIMPipeline",
                _ => "DDPMPipeline",
            };
            let mut arguments = call.set_timesteps;
            arguments.extend(call.step);
            format!(
                "from diffusers import {kind}\n\n\
                 pipeline = {kind}.from_pretrained({name})\n\
                 images = pipeline(batch_size={IMAGES}, {}).images\n\
                 images[0].save(\"image.png\")\n",
                arguments_of(&arguments),
                name = text(name),
            )
        }
        false => by_hand(pipeline, &call, name),
    }
}

/// The loop of a pipeline, with what `DDPMPipeline` leaves out.
fn by_hand(pipeline: &Pipeline, call: &Call, name: &str) -> String {
    let class = pipeline.scheduler.class();
    let (channels, size) = pipeline.image;
    let [height, width] = size.map_or(["64".to_owned(), "64".to_owned()], |size| {
        size.map(|side| side.to_string())
    });
    // Schedulers of flow matching have neither.
    let scales = !class.starts_with("FlowMatch");
    let (scale, input) = match scales {
        true => (
            " * scheduler.init_noise_sigma",
            "scheduler.scale_model_input(x, t)",
        ),
        false => ("", "x"),
    };
    let kind = match class {
        DDIM => "DDIMPipeline",
        _ => "DDPMPipeline",
    };
    let (labels, told) = match pipeline.conditioning {
        Conditioning::None => (String::new(), ""),
        conditioning => (labels(conditioning), ", class_labels=class_labels"),
    };
    let step = match call.step.is_empty() {
        true => String::new(),
        false => format!(", {}", arguments_of(&call.step)),
    };
    format!(
        "import torch\n\
         from diffusers import {kind}\n\n\
         pipeline = {kind}.from_pretrained({name})\n\
         unet, scheduler = pipeline.unet, pipeline.scheduler\n\
         scheduler.set_timesteps({timesteps})\n\
         {labels}\
         x = torch.randn({IMAGES}, {channels}, {height}, {width}){scale}\n\
         with torch.no_grad():\n    \
             for t in scheduler.timesteps:\n        \
                 output = unet({input}, t{told}).sample\n        \
                 x = scheduler.step(output, t, x{step}).prev_sample\n\
         x = (x / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)\n\
         images = pipeline.numpy_to_pil(x.numpy())\n\
         images[0].save(\"image.png\")\n",
        name = text(name),
        timesteps = arguments_of(&call.set_timesteps),
    )
}

fn labels(conditioning: Conditioning) -> String {
    let each =
        |values: Vec<String>| format!("class_labels = torch.tensor([{}])", values.join(", "));
    let (line, comment) = match conditioning {
        Conditioning::Classes { count, null } => {
            let classes = (0..IMAGES).map(|image| (image % count.max(1)).to_string());
            let range = format!("0 to {}", count.saturating_sub(1));
            let comment = match null {
                Some(null) => format!("{range}; {null} for no class"),
                None => range,
            };
            (each(classes.collect()), comment)
        }
        Conditioning::Embedding => (
            format!(
                "class_labels = torch.zeros({IMAGES}, unet.time_embedding.linear_2.out_features)"
            ),
            "an embedding an image".to_owned(),
        ),
        Conditioning::None | Conditioning::Number => {
            let numbers = vec!["0.0".to_owned(); IMAGES];
            (each(numbers), "a number an image".to_owned())
        }
    };
    format!("{line}  # {comment}\n")
}

/// What is handed to `set_timesteps` and to `step`.
struct Call {
    set_timesteps: Map<String, Value>,
    step: Map<String, Value>,
}

impl Call {
    fn of(pipeline: &Pipeline) -> Self {
        let json = pipeline.scheduler.to_json();
        let part = |name: &str| {
            let part = json
                .get("_call")
                .and_then(|call| call.get(name)?.as_object());
            part.cloned().unwrap_or_default()
        };
        let mut set_timesteps = part("set_timesteps");
        if set_timesteps.values().all(Value::is_null) {
            let steps = pipeline.steps.unwrap_or(50);
            set_timesteps.insert("num_inference_steps".to_owned(), steps.into());
        }
        Self {
            set_timesteps,
            step: part("step"),
        }
    }
}

/// `a=1, b=True`.
fn arguments_of(arguments: &Map<String, Value>) -> String {
    // An infinity, which JSON has not, is the default where there is one.
    let set = arguments.iter().filter(|(_, value)| !value.is_null());
    let each: Vec<String> = set
        .map(|(key, value)| format!("{key}={}", python(value)))
        .collect();
    each.join(", ")
}

fn python(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

/// A string of Python: JSON's are.
fn text(text: &str) -> String {
    Value::from(text).to_string()
}
