//! How fast noise is made: it is drawn on the host for every training example and every sampler step.

use criterion::{BenchmarkId, Criterion, Throughput};
use ddpm_schedule::noise::{Stream, normal_fill};

/// Values of one image: a digit, a CIFAR image, one of 256×256 in colour.
const SIZES: [usize; 3] = [28 * 28, 3 * 32 * 32, 3 * 256 * 256];

fn normal(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("normal_fill");
    for size in SIZES {
        let mut image = vec![0.0; size];
        let mut step = 0;
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                step += 1;
                normal_fill(0, Stream::TrainNoise, step, 0, &mut image);
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    normal(&mut criterion);
    criterion.final_summary();
}
