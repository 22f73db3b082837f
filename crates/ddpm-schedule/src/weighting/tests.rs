use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

const P: [Prediction; 3] = [Prediction::Eps, Prediction::X0, Prediction::V];

fn level(snr: f64) -> Level {
    Level::variance_preserving(snr.sqrt().recip())
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    #[serde(deserialize_with = "crate::named::deserialize")]
    weighting: Weighting,
}

fn parse(text: &str) -> Result<Weighting, String> {
    toml::from_str::<Holder>(text)
        .map(|h| h.weighting)
        .map_err(|e| e.to_string())
}

#[test]
fn names_and_tables_parse() {
    for (text, expected) in [
        (r#"weighting = "simple""#, Weighting::Simple {}),
        (r#"weighting = { kind = "simple" }"#, Weighting::Simple {}),
        (
            r#"weighting = "min_snr""#,
            Weighting::MinSnr {
                gamma: 5.0,
                as_eps: false,
            },
        ),
        (
            r#"weighting = { kind = "min_snr" }"#,
            Weighting::MinSnr {
                gamma: 5.0,
                as_eps: false,
            },
        ),
        (
            r#"weighting = { kind = "min_snr", gamma = 3 }"#,
            Weighting::MinSnr {
                gamma: 3.0,
                as_eps: false,
            },
        ),
        (r#"weighting = "p2""#, Weighting::P2 { k: 1.0, gamma: 1.0 }),
        (
            r#"weighting = { gamma = 0.5, kind = "p2" }"#,
            Weighting::P2 { k: 1.0, gamma: 0.5 },
        ),
    ] {
        assert_eq!(parse(text), Ok(expected), "{text}");
        let written = toml::to_string(&Holder {
            weighting: expected,
        })
        .unwrap();
        assert_eq!(parse(&written), Ok(expected), "{written}");
        let json = serde_json::to_string(&expected).unwrap();
        let back: Weighting = serde_json::from_str(&json).unwrap();
        assert_eq!(back, expected, "{json}");
    }
}

#[test]
fn mistakes_are_named() {
    for (text, words) in [
        (r#"weighting = "min_srn""#, vec!["min_srn", "min_snr"]),
        (
            r#"weighting = { kind = "min_snr", gama = 5 }"#,
            vec!["gama", "gamma"],
        ),
        (
            r#"weighting = { kind = "min_snr", k = 5 }"#,
            vec!["`k`", "`gamma`"],
        ),
        (
            r#"weighting = { kind = "simple", gamma = 5 }"#,
            vec!["gamma"],
        ),
        (r#"weighting = { gamma = 2.0 }"#, vec!["kind"]),
        ("weighting = 5", vec!["a name, or a table"]),
    ] {
        let message = parse(text).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}

#[test]
fn limits_at_no_signal() {
    let w = |weighting: Weighting| P.map(|p| weighting.weight(level(0.0), p, 0.5));
    assert_eq!(w(Weighting::Simple {}), [1.0; 3]);
    assert_eq!(
        w(Weighting::MinSnr {
            gamma: 5.0,
            as_eps: false
        }),
        [1.0, 0.0, 0.0]
    );
    assert_eq!(w(Weighting::P2 { k: 2.0, gamma: 1.0 }), [0.5, 0.0, 0.0]);
}

#[test]
fn parameters_have_ranges() {
    for (weighting, words) in [
        (
            Weighting::MinSnr {
                gamma: 0.0,
                as_eps: false,
            },
            "weighting.gamma is 0; it must be above 0",
        ),
        (
            Weighting::SoftMinSnr { gamma: -1.0 },
            "weighting.gamma is -1",
        ),
        (
            Weighting::P2 {
                k: -1.0,
                gamma: 1.0,
            },
            "weighting.k is -1; it must be above 0",
        ),
        (
            Weighting::P2 {
                k: 1.0,
                gamma: f64::NAN,
            },
            "weighting.gamma is NaN",
        ),
    ] {
        let message = weighting.check().unwrap_err().to_string();
        assert!(message.contains(words), "{message}");
    }
}

#[test]
fn min_snr_by_hand() {
    let close = |snr, expected: [f64; 3]| {
        for (p, expected) in P.into_iter().zip(expected) {
            let weight = Weighting::MinSnr {
                gamma: 5.0,
                as_eps: false,
            }
            .weight(level(snr), p, 0.5);
            assert!((weight - expected).abs() < 1e-12, "{weight} {expected}");
        }
    };
    close(1.0, [1.0, 1.0, 0.5]);
    close(9.0, [5.0 / 9.0, 5.0, 0.5]);
}

#[test]
fn edm_weights_its_own_output_by_one() {
    for sigma in [0.002, 0.5, 80.0] {
        let level = Level::variance_exploding(sigma);
        let edm = Weighting::Edm {}.weight(level, Prediction::Edm, 0.5);
        assert!((edm - 1.0).abs() < 1e-12);
        // k-diffusion's soft-min-SNR on F: (σ·σ_d)²/(σ² + σ_d²)².
        let soft = Weighting::SoftMinSnr { gamma: 4.0 }.weight(level, Prediction::Edm, 0.5);
        let expected = (sigma * 0.5).powi(2) / (sigma * sigma + 0.25).powi(2);
        assert!((soft / expected - 1.0).abs() < 1e-12);
    }
}

proptest! {
    /// The same loss, whichever quantity the error is measured in.
    #[test]
    fn equivalent_across_predictions(snr in 1e-6f64..1e6, gamma in 0.1f64..10.0, k in 0.1f64..10.0) {
        for weighting in [
            Weighting::MinSnr { gamma, as_eps: false },
            Weighting::SoftMinSnr { gamma },
            Weighting::P2 { k, gamma },
            Weighting::Snr {},
            Weighting::TruncatedSnr {},
            Weighting::Edm {},
        ] {
            let [eps, x0, v] = P.map(|p| weighting.weight(level(snr), p, 0.5));
            prop_assert!((eps * snr / x0 - 1.0).abs() < 1e-9);
            prop_assert!((v * (snr + 1.0) / x0 - 1.0).abs() < 1e-9);
        }
    }
}
