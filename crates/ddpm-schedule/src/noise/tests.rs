use super::*;

fn normals_of(seed: u64, stream: Stream, step: u64, index: u64, n: usize) -> Vec<f32> {
    let mut out = vec![0.0; n];
    normal_fill(seed, stream, step, index, &mut out);
    out
}

/// The largest gap between the empirical distribution and `cdf`, times √n (Kolmogorov–Smirnov).
fn ks_statistic(mut xs: Vec<f64>, cdf: impl Fn(f64) -> f64) -> f64 {
    xs.sort_by(f64::total_cmp);
    let n = xs.len() as f64;
    let gap = xs
        .iter()
        .enumerate()
        .map(|(i, &x)| {
            let p = cdf(x);
            (p - i as f64 / n).abs().max(((i + 1) as f64 / n - p).abs())
        })
        .fold(0.0, f64::max);
    gap * n.sqrt()
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * libm::erfc(-x / std::f64::consts::SQRT_2)
}

/// K > 1.95 has probability 0.1%; the numbers are fixed, so this never flickers.
const KS_LIMIT: f64 = 1.95;

#[test]
fn normals_have_normal_moments_and_distribution() {
    let n = 400_000;
    let xs: Vec<f64> = normals_of(1, Stream::TrainNoise, 3, 5, n)
        .into_iter()
        .map(f64::from)
        .collect();
    let moment = |p: i32| xs.iter().map(|x| x.powi(p)).sum::<f64>() / n as f64;
    let sd = |variance: f64| 4.0 * (variance / n as f64).sqrt();
    assert!(moment(1).abs() < sd(1.0), "mean {}", moment(1));
    assert!((moment(2) - 1.0).abs() < sd(2.0), "variance {}", moment(2));
    assert!(moment(3).abs() < sd(15.0), "skew {}", moment(3));
    assert!((moment(4) - 3.0).abs() < sd(96.0), "kurtosis {}", moment(4));
    let ks = ks_statistic(xs.clone(), normal_cdf);
    assert!(ks < KS_LIMIT, "KS {ks}");
    assert!(xs.iter().all(|x| x.abs() < 6.77));
}

#[test]
fn extreme_words_stay_finite_and_within_the_stated_tail() {
    for radius in [0, 1, u32::MAX - 1, u32::MAX] {
        for angle in [0, 1, 1 << 30, 1 << 31, u32::MAX] {
            for x in box_muller(radius, angle) {
                assert!(x.is_finite() && x.abs() < 6.77, "{radius} {angle}: {x}");
            }
        }
    }
    assert!(box_muller(0, 0)[0] > 6.75);
}

#[test]
fn uniforms_are_uniform() {
    let mut xs = vec![0.0; 100_000];
    uniform_fill(2, Stream::TrainTime, 0, 0, &mut xs);
    assert!(xs.iter().all(|x| (0.0..1.0).contains(x)));
    let ks = ks_statistic(xs, |x| x);
    assert!(ks < KS_LIMIT, "KS {ks}");
}

#[test]
fn neighbouring_addresses_are_uncorrelated() {
    let n = 100_000;
    let base = normals_of(9, Stream::SampleStep, 4, 7, n);
    let others = [
        ("seed", normals_of(10, Stream::SampleStep, 4, 7, n)),
        (
            "seed, high word",
            normals_of(9 | (1 << 32), Stream::SampleStep, 4, 7, n),
        ),
        ("stream", normals_of(9, Stream::SampleInit, 4, 7, n)),
        ("step", normals_of(9, Stream::SampleStep, 5, 7, n)),
        (
            "step, high word",
            normals_of(9, Stream::SampleStep, 4 | (1 << 32), 7, n),
        ),
        ("index", normals_of(9, Stream::SampleStep, 4, 8, n)),
        (
            "index, high word",
            normals_of(9, Stream::SampleStep, 4, 7 | (1 << 32), n),
        ),
        (
            "element",
            normals_of(9, Stream::SampleStep, 4, 7, n + 1)[1..].to_vec(),
        ),
    ];
    for (what, other) in others {
        let correlation: f64 = base
            .iter()
            .zip(&other)
            .map(|(a, b)| f64::from(a * b))
            .sum::<f64>()
            / n as f64;
        assert!(
            correlation.abs() < 4.0 / (n as f64).sqrt(),
            "{what}: {correlation}"
        );
        // Squares too: Box–Muller pairs share a radius, other addresses must not.
        let squares: f64 = base
            .iter()
            .zip(&other)
            .map(|(a, b)| f64::from((a * a - 1.0) * (b * b - 1.0)))
            .sum::<f64>()
            / n as f64;
        assert!(
            squares.abs() < 4.0 * 2.0 / (n as f64).sqrt(),
            "{what}: {squares}"
        );
    }
    // Across items: the k-th elements of successive items.
    let firsts: Vec<f64> = (0..50_000)
        .map(|i| f64::from(normals_of(0, Stream::SampleInit, 0, i, 1)[0]))
        .collect();
    let ks = ks_statistic(firsts, normal_cdf);
    assert!(ks < KS_LIMIT, "KS across items {ks}");
}

#[test]
fn a_shorter_fill_is_a_prefix() {
    let long = normals_of(4, Stream::Init, 1, 2, 23);
    let mut uniform = [0.0; 23];
    uniform_fill(4, Stream::Init, 1, 2, &mut uniform);
    for n in 0..23 {
        assert_eq!(normals_of(4, Stream::Init, 1, 2, n), long[..n]);
        let mut short = vec![0.0; n];
        uniform_fill(4, Stream::Init, 1, 2, &mut short);
        assert_eq!(short, uniform[..n]);
    }
}

#[test]
fn below_covers_its_range_evenly() {
    let mut counts = [0f64; 7];
    for index in 0..70_000 {
        counts[below(5, Stream::Labels, 0, index, 7) as usize] += 1.0;
    }
    let chi2: f64 = counts
        .iter()
        .map(|c| (c - 10_000.0).powi(2) / 10_000.0)
        .sum();
    assert!(chi2 < 25.0, "χ² = {chi2}");
    assert_eq!(below(5, Stream::Labels, 0, 0, 0), 0);
    assert_eq!(below(5, Stream::Labels, 0, 0, 1), 0);
}

/// Saved runs resume on these bits: a change of generator, packing or `libm` must show here.
#[test]
fn the_bits_never_change() {
    let xs: Vec<u32> = normals_of(0x0123_4567_89ab_cdef, Stream::TrainNoise, 42, 7, 6)
        .iter()
        .map(|x| x.to_bits())
        .collect();
    assert_eq!(xs, PINNED_NORMALS);
    assert_eq!(bits(1, Stream::Flip, 2, 3), PINNED_BITS);
}

const PINNED_NORMALS: [u32; 6] = [
    3_191_086_778,
    995_525_981,
    1_068_659_797,
    3_192_351_384,
    3_205_409_872,
    1_060_699_980,
];
const PINNED_BITS: [u32; 4] = [678_298_416, 2_057_118_517, 3_985_977_607, 3_184_025_273];
