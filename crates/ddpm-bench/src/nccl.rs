//! `ddpm-bench nccl`.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use burn::tensor::{Device, Tensor};
use clap::Args;
use ddpm_device::{Choice, resolve};
use ddpm_kernels::{NcclError, nccl_gpu, nccl_id, nccl_join};
use serde_json::{Map, Value, json};

/// `ddpm-bench nccl`.
#[derive(Debug, Args)]
pub struct NcclArgs {
    /// cuda:0 or another NVIDIA GPU
    #[arg(long, value_name = "DEVICE", default_value = "cuda:0")]
    device: Choice,
    /// Values that are sent at a time
    #[arg(long, default_value_t = 36_000_000)]
    values: usize,
}

/// How long a call may take.
const TIMEOUT: Duration = Duration::from_secs(60);

type Call<'a> = &'a dyn Fn(Tensor<1>) -> Result<Tensor<1>, NcclError>;

/// One GPU alone as NCCL's group: whether what it sends itself comes back as it was, and how long that takes.
///
/// # Errors   if there is no NVIDIA GPU or no NCCL, and if what comes back is something else
pub fn run(args: &NcclArgs) -> anyhow::Result<Value> {
    let device = resolve(args.device)?.device;
    nccl_gpu(&device).with_context(|| args.device.to_string())?;
    let group = nccl_join(&device, &nccl_id()?, (0, 1), TIMEOUT)?;
    let mut line = Map::from_iter([("values".to_owned(), json!(args.values))]);
    let calls: [(&str, Call); 3] = [
        ("all_to_all", &|x| group.all_to_all(x, TIMEOUT)),
        ("all_gather", &|x| group.all_gather(x, TIMEOUT)),
        ("all_reduce", &|x| group.all_reduce(x, TIMEOUT)),
    ];
    for (name, call) in calls {
        // The first call sets up the way.
        returns(name, call, 1000, &device)?;
        let seconds = returns(name, call, args.values, &device)?;
        line.insert(format!("{name}_s"), json!(seconds));
    }
    Ok(Value::Object(line))
}

/// Seconds of a call that has to return what it gets.
fn returns(name: &str, call: Call, values: usize, device: &Device) -> anyhow::Result<f64> {
    let numbers = || Tensor::<1, burn::tensor::Int>::arange(0..values as i64, device).float();
    let sent = numbers();
    device.sync()?;
    let start = Instant::now();
    let returned = call(sent)?;
    let seconds = start.elapsed().as_secs_f64();
    let difference = (returned - numbers()).abs().max();
    let difference = difference.try_into_scalar::<f32>()?;
    ensure!(
        difference == 0.0,
        "{name} of {values} values returns others, up to {difference} off"
    );
    Ok(seconds)
}
