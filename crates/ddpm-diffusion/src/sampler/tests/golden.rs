//! Every step of DDPM and DDIM against diffusers.

use burn::tensor::TensorData;
use safetensors::SafeTensors;
use serde_json::Value;

use super::*;

const BYTES: &[u8] = include_bytes!("../../../tests/fixtures/trajectories.safetensors");
const CASES: &str = include_str!("../../../tests/fixtures/trajectories.json");
const SHAPE: [usize; 4] = [2, 3, 4, 4];
const ELEMENTS: usize = 96;

/// diffusers computes its tables in float32.
const TOLERANCE: f64 = 1e-4;

fn read(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = tensors.tensor(name).unwrap().data();
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn images(data: &[f32]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(data.to_vec(), SHAPE), &Device::flex())
}

fn plan(case: &Value) -> Plan {
    let config = &case["full_config"];
    let number = |key: &str| config[key].as_f64().unwrap();
    let name = |key: &str| config[key].as_str().unwrap();
    assert_eq!(name("beta_schedule"), "linear");
    let schedule = ScheduleConfig {
        steps: number("num_train_timesteps") as usize,
        beta_start: number("beta_start"),
        beta_end: number("beta_end"),
        ..Default::default()
    }
    .build()
    .unwrap();
    let spacing: Spacing = serde_json::from_value(config["timestep_spacing"].clone()).unwrap();
    let steps = case["steps"].as_u64().unwrap() as usize;
    let offset = number("steps_offset") as usize;
    let visited = timesteps(schedule.len(), steps, spacing, offset).unwrap();
    let expected: Vec<f64> = serde_json::from_value(case["timesteps"].clone()).unwrap();
    assert_eq!(
        visited.iter().map(|&t| t as f64).collect::<Vec<_>>(),
        expected
    );
    let prediction = match name("prediction_type") {
        "epsilon" => Prediction::Eps,
        "sample" => Prediction::X0,
        "v_prediction" => Prediction::V,
        other => panic!("unknown prediction {other}"),
    };
    let sampler = match case["scheduler"].as_str().unwrap() {
        "DDIMScheduler" => Sampler::Ddim {
            eta: case["step_args"]["eta"].as_f64().unwrap(),
        },
        "DDPMScheduler" => Sampler::Ddpm {
            variance: match name("variance_type") {
                "fixed_small" => VarianceKind::Small,
                "fixed_large" => VarianceKind::Large,
                other => panic!("unknown variance {other}"),
            },
        },
        other => panic!("unknown scheduler {other}"),
    };
    let clip = config["clip_sample"]
        .as_bool()
        .unwrap()
        .then(|| number("clip_sample_range"));
    Plan::new(
        Respaced::new(&schedule, visited).unwrap(),
        prediction,
        sampler,
        clip,
    )
    .unwrap()
}

#[test]
fn trajectories_equal_diffusers() {
    let tensors = SafeTensors::deserialize(BYTES).unwrap();
    let noise = read(&tensors, "noise");
    let start = read(&tensors, "x_T");
    let golden: Value = serde_json::from_str(CASES).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 14);
    let denoiser = |xt: Tensor<4>, t: Tensor<1>, _: Option<Tensor<1, Int>>| {
        let t = values(t)[0];
        Ok::<_, Infallible>(xt * (t / (t + 1.0)))
    };
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let expected = read(&tensors, name);
        let mut draw = |k: usize| images(&noise[k * ELEMENTS..(k + 1) * ELEMENTS]);
        let mut steps = 0;
        let mut observer = |progress: Progress<'_>| {
            let theirs = &expected[(progress.step - 1) * ELEMENTS..progress.step * ELEMENTS];
            let ours = values(progress.xt.clone());
            let square = |x: f32| f64::from(x).powi(2);
            let difference: f64 = ours.iter().zip(theirs).map(|(a, b)| square(a - b)).sum();
            let size: f64 = theirs.iter().copied().map(square).sum();
            // A product, because predicting x0 = 0 at t = 0 ends at exactly 0.
            assert!(
                difference.sqrt() <= TOLERANCE * size.sqrt(),
                "{name}, step {}: {difference:e} of {size:e}",
                progress.step
            );
            steps = progress.step;
            ControlFlow::Continue(())
        };
        sample_from(
            &denoiser,
            &plan(case),
            images(&start),
            None,
            &mut draw,
            &mut observer,
        )
        .unwrap();
        assert_eq!(steps * ELEMENTS, expected.len(), "{name}");
    }
}
