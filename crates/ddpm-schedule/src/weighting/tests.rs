use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::*;

const P: [Prediction; 3] = [Prediction::Eps, Prediction::X0, Prediction::V];

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
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
        (r#"weighting = "simple""#, Weighting::Simple),
        (r#"weighting = { kind = "simple" }"#, Weighting::Simple),
        (r#"weighting = "min_snr""#, Weighting::MinSnr { gamma: 5.0 }),
        (
            r#"weighting = { kind = "min_snr" }"#,
            Weighting::MinSnr { gamma: 5.0 },
        ),
        (
            r#"weighting = { kind = "min_snr", gamma = 3 }"#,
            Weighting::MinSnr { gamma: 3.0 },
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
        assert_eq!(
            serde_json::from_str::<Weighting>(&json).unwrap(),
            expected,
            "{json}"
        );
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
            vec!["no parameter k"],
        ),
        (
            r#"weighting = { kind = "simple", gamma = 5 }"#,
            vec!["simple", "remove"],
        ),
        (
            r#"weighting = { kind = "min_snr", gamma = 0 }"#,
            vec!["gamma", "above 0"],
        ),
        (
            r#"weighting = { kind = "p2", k = -1 }"#,
            vec!["k", "above 0"],
        ),
        (r#"weighting = { gamma = 2.0 }"#, vec!["kind"]),
        ("weighting = 5", vec!["simple"]),
    ] {
        let message = parse(text).unwrap_err();
        for word in words {
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}

#[test]
fn limits_at_no_signal() {
    let w = |weighting: Weighting| P.map(|p| weighting.weight(0.0, p));
    assert_eq!(w(Weighting::Simple), [1.0; 3]);
    assert_eq!(w(Weighting::MinSnr { gamma: 5.0 }), [1.0, 0.0, 0.0]);
    assert_eq!(w(Weighting::P2 { k: 2.0, gamma: 1.0 }), [0.5, 0.0, 0.0]);
}

#[test]
fn min_snr_by_hand() {
    let w = |snr| P.map(|p| Weighting::MinSnr { gamma: 5.0 }.weight(snr, p));
    assert_eq!(w(1.0), [1.0, 1.0, 0.5]);
    assert_eq!(w(9.0), [5.0 / 9.0, 5.0, 0.5]);
}

proptest! {
    /// The same loss, whichever quantity the error is measured in.
    #[test]
    fn equivalent_across_predictions(snr in 1e-6f64..1e6, gamma in 0.1f64..10.0, k in 0.1f64..10.0) {
        for weighting in [Weighting::MinSnr { gamma }, Weighting::P2 { k, gamma }] {
            let [eps, x0, v] = P.map(|p| weighting.weight(snr, p));
            prop_assert!((eps * snr / x0 - 1.0).abs() < 1e-12);
            prop_assert!((v * (snr + 1.0) / x0 - 1.0).abs() < 1e-12);
        }
    }
}
