//! Each kernel, on f32 and on bf16, against burn's own operation on f32, at the shapes of a U-Net, beside the speed of
//! burn's matrix product on this machine.
//!
//! `elem/s` are floating-point operations per second of the plain algorithm: what a transformed
//! convolution does not have to compute counts as done. Where there is nothing to multiply, they are
//! values read and written per second.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};

use burn::tensor::activation::{silu, softmax};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use ddpm_kernels::{
    AdamState, AdamStep, Conv2dOptions, Convolution, GroupNormOptions, WeightCache, adam_step,
    attention, conv2d, group_norm,
};
use ddpm_schedule::noise::{Stream, normal_fill};

/// The allocator of `ddpm`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Images in a batch.
const BATCH: usize = 8;

fn random<const D: usize>(index: u64, shape: [usize; D], device: &Device) -> Tensor<D> {
    let mut data = vec![0.0f32; shape.iter().product()];
    normal_fill(0, Stream::Synthetic, 0, index, &mut data);
    Tensor::from_data(TensorData::new(data, shape), device)
}

/// One convolution of a network.
struct Conv {
    input: usize,
    output: usize,
    side: usize,
    kernel: usize,
    stride: usize,
}

/// Those of small-32 and ddpm-cifar10-32 that most of the time goes to, one of each other kind.
const CONVOLUTIONS: [Conv; 9] = [
    conv(64, 64, 32, 3, 1),
    conv(128, 64, 32, 3, 1),
    conv(128, 128, 16, 3, 1),
    conv(256, 256, 16, 3, 1),
    conv(128, 128, 8, 3, 1),
    conv(128, 128, 4, 3, 1),
    conv(128, 128, 16, 3, 2),
    conv(256, 128, 16, 1, 1),
    conv(3, 64, 32, 3, 1),
];

const fn conv(input: usize, output: usize, side: usize, kernel: usize, stride: usize) -> Conv {
    Conv {
        input,
        output,
        side,
        kernel,
        stride,
    }
}

impl Conv {
    fn name(&self) -> String {
        let Self {
            input,
            output,
            side,
            kernel,
            stride,
        } = self;
        format!("{input}->{output} {kernel}x{kernel}/{stride} at {side}x{side}")
    }

    fn options(&self) -> Conv2dOptions {
        Conv2dOptions {
            stride: self.stride,
            padding: if self.kernel == 1 {
                (0, 0)
            } else {
                (2 - self.stride, 1)
            },
            upsample_nearest_2x: false,
        }
    }

    fn flops(&self) -> u64 {
        let outputs = BATCH * self.output * (self.side / self.stride).pow(2);
        2 * (outputs * self.input * self.kernel * self.kernel) as u64
    }

    fn operands(&self, device: &Device) -> (Tensor<4>, Tensor<4>, Tensor<1>) {
        (
            random(0, [BATCH, self.input, self.side, self.side], device),
            random(
                1,
                [self.output, self.input, self.kernel, self.kernel],
                device,
            ),
            random(2, [self.output], device),
        )
    }

    fn burn(&self, x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        let options = ConvOptions {
            stride: [self.stride; 2],
            padding: [self.options().padding; 2],
            dilation: [1; 2],
            groups: 1,
        };
        burn::tensor::module::conv2d(x, weight, Some(bias), options)
    }
}

fn pair(
    group: &mut BenchmarkGroup<'_, WallTime>,
    case: &str,
    mut ours: impl FnMut(),
    mut burn: impl FnMut(),
) {
    // As many iterations in each sample: burn's slowest would take minutes otherwise.
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function(BenchmarkId::new("ddpm", case), |bencher| {
        bencher.iter(&mut ours);
    });
    group.bench_function(BenchmarkId::new("burn", case), |bencher| {
        bencher.iter(&mut burn);
    });
}

/// Ours on an input of f32 and of bf16, and burn's.
fn both(
    group: &mut BenchmarkGroup<'_, WallTime>,
    case: &str,
    x: Tensor<4>,
    ours: impl Fn(Tensor<4>),
    burn: impl Fn(Tensor<4>),
) {
    let tracked = x.is_require_grad();
    let narrow = x.clone().detach().cast(FloatDType::BF16);
    let narrow = if tracked {
        narrow.require_grad()
    } else {
        narrow
    };
    pair(group, case, || ours(x.clone()), || burn(x.clone()));
    group.bench_function(BenchmarkId::new("ddpm, bf16", case), |bencher| {
        bencher.iter(|| ours(narrow.clone()));
    });
}

/// The fastest that this machine multiplies matrices with burn.
fn matrix_product(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("matrix product");
    for n in [512, 1024] {
        let (a, b) = (random(0, [n, n], &device), random(1, [n, n], &device));
        group.throughput(Throughput::Elements(2 * (n as u64).pow(3)));
        group.bench_function(BenchmarkId::new("burn", n), |bencher| {
            bencher.iter(|| a.clone().matmul(b.clone()));
        });
    }
    group.finish();
}

fn convolution_forward(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("convolution, forward");
    for conv in CONVOLUTIONS {
        let (x, weight, bias) = conv.operands(&device);
        let cache = WeightCache::default();
        group.throughput(Throughput::Elements(conv.flops()));
        let ours = |x| {
            let convolution = Convolution {
                norm: None,
                weight: weight.clone(),
                bias: bias.clone().unsqueeze(),
                residual: None,
                options: conv.options(),
                cache: Some(&cache),
            };
            convolution.forward(x);
        };
        let burn = |x| {
            conv.burn(x, weight.clone(), bias.clone());
        };
        both(&mut group, &conv.name(), x, ours, burn);
    }
    group.finish();
}

fn convolution_training(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    let mut group = criterion.benchmark_group("convolution, forward and backward");
    for conv in CONVOLUTIONS {
        let (x, weight, bias) = conv.operands(&device);
        let (x, weight, bias) = (x.require_grad(), weight.require_grad(), bias.require_grad());
        group.throughput(Throughput::Elements(3 * conv.flops()));
        let ours = |x| {
            let y = conv2d(x, weight.clone(), bias.clone(), conv.options());
            y.sum().backward();
        };
        let burn = |x| {
            let y = conv.burn(x, weight.clone(), bias.clone());
            y.sum().backward();
        };
        both(&mut group, &conv.name(), x, ours, burn);
    }
    group.finish();
}

fn normalisation(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    let mut group = criterion.benchmark_group("group norm and SiLU, forward and backward");
    for (channels, side) in [(64, 32), (128, 16), (128, 8)] {
        let shape = [BATCH, channels, side, side];
        let x = random(0, shape, &device).require_grad();
        let weight = random(1, [1, channels], &device).require_grad();
        let bias = random(2, [1, channels], &device).require_grad();
        let options = GroupNormOptions {
            groups: 32,
            eps: 1e-6,
            silu: true,
        };
        group.throughput(Throughput::Elements(shape.iter().product::<usize>() as u64));
        let ours = |x: Tensor<4>| {
            let y = group_norm(x, weight.clone(), bias.clone(), options);
            y.sum().backward();
        };
        let burn = |x: Tensor<4>| {
            // [batch, channels, height, width] -> [batch, groups, the rest]
            let grouped = x.reshape([BATCH, 32, channels / 32 * side * side]);
            let centred = grouped.clone() - grouped.mean_dim(2);
            let variance = (centred.clone() * centred.clone()).mean_dim(2);
            let normal = (centred / (variance + 1e-6).sqrt()).reshape(shape);
            let scaled = normal * weight.clone().unsqueeze_dims::<4>(&[2, 3]);
            let y = silu(scaled + bias.clone().unsqueeze_dims::<4>(&[2, 3]));
            y.sum().backward();
        };
        let case = format!("{channels} at {side}x{side}");
        both(&mut group, &case, x, ours, burn);
    }
    group.finish();
}

fn attending(criterion: &mut Criterion) {
    let device = Device::flex().autodiff();
    let mut group = criterion.benchmark_group("attention, forward and backward");
    for (heads, dim, side) in [(16, 8, 16), (1, 256, 16)] {
        let tokens = side * side;
        let qkv = random(0, [BATCH, 3 * heads * dim, side, side], &device).require_grad();
        // Two products forward, four backward; the fast one computes the scores once more.
        let flops = 12 * BATCH * heads * tokens * tokens * dim;
        group.throughput(Throughput::Elements(flops as u64));
        let ours = |qkv| {
            attention(qkv, heads).sum().backward();
        };
        let burn = |qkv: Tensor<4>| {
            let part = |i: usize| {
                let part = qkv.clone().narrow(1, i * heads * dim, heads * dim);
                part.reshape([BATCH, heads, dim, tokens]).swap_dims(2, 3)
            };
            let scores = part(0).matmul(part(1).swap_dims(2, 3)) / (dim as f64).sqrt();
            softmax(scores, 3).matmul(part(2)).sum().backward();
        };
        let case = format!("{heads} heads of {dim} at {side}x{side}");
        both(&mut group, &case, qkv, ours, burn);
    }
    group.finish();
}

fn adam(criterion: &mut Criterion) {
    let device = Device::flex();
    let mut group = criterion.benchmark_group("Adam and moving average");
    let step = AdamStep {
        grad_scale: 0.5,
        betas: [0.9, 0.999],
        step_size: 1e-4,
        correction2: 0.5,
        eps: 1e-8,
        decay_into_gradient: 0.0,
        shrink: 1.0,
        ema_decay: 0.999,
    };
    let count = 256 * 256 * 9;
    let grad = random(4, [count], &device);
    let fresh = || AdamState {
        weight: random(0, [count], &device),
        exp_avg: random(1, [count], &device),
        exp_avg_sq: random(2, [count], &device).abs(),
        ema: random(3, [count], &device),
    };
    group.throughput(Throughput::Elements(9 * count as u64));
    let mut ours = Some(fresh());
    let mut burn = Some(fresh());
    pair(
        &mut group,
        &format!("{count} values"),
        || {
            ours = ours
                .take()
                .map(|state| adam_step(state, grad.clone(), step))
        },
        || {
            burn = burn
                .take()
                .map(|state| plain_adam(state, grad.clone(), step))
        },
    );
    group.finish();
}

fn plain_adam(state: AdamState, grad: Tensor<1>, step: AdamStep) -> AdamState {
    let [beta1, beta2] = step.betas;
    let grad = grad * step.grad_scale;
    let exp_avg = state.exp_avg * beta1 + grad.clone() * (1.0 - beta1);
    let exp_avg_sq = state.exp_avg_sq * beta2 + grad.clone() * grad * (1.0 - beta2);
    let denominator = exp_avg_sq.clone().sqrt() / step.correction2.sqrt() + step.eps;
    let weight = state.weight - exp_avg.clone() / denominator * step.step_size;
    let ema = state.ema * step.ema_decay + weight.clone() * (1.0 - step.ema_decay);
    AdamState {
        weight,
        exp_avg,
        exp_avg_sq,
        ema,
    }
}

fn main() {
    // As `ddpm` does: mimalloc's option 15 is the delay of handing memory back, -1 is never.
    // SAFETY: sets a number that the allocator reads.
    #[allow(unsafe_code, reason = "the options are a C interface")]
    unsafe {
        libmimalloc_sys::mi_option_set(15, -1);
    }
    // On a thread of the kernels' pool, as `ddpm` runs its commands.
    rayon::scope(|_| run());
}

fn run() {
    let mut criterion = Criterion::default().configure_from_args();
    matrix_product(&mut criterion);
    convolution_forward(&mut criterion);
    convolution_training(&mut criterion);
    normalisation(&mut criterion);
    attending(&mut criterion);
    adam(&mut criterion);
    criterion.final_summary();
}
