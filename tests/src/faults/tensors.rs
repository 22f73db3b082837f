//! Row 14: hostile safetensors files, through every command that reads one.

use std::fs;

use anyhow::{Context, Result};
use ddpm_store::{NamedTensor, TensorFile};
use serde_json::{Map, Value, json};

use super::measured::within_a_second;
use super::{Form, Passed};
use crate::{Sandbox, repository};

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// Hostile weights for `inspect`, `sample` and `predict`, and as the input of `predict`.
///
/// # Errors
/// The first command that did not end with exit code 4, one sentence and the file's name within a second.
pub fn tensors(_form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let sound = prepare(&place)?;
    let cases = cases(&sound)?;
    let mut tried = 0;
    let mut longest = 0.0f64;
    for case in &cases {
        place.file("x.safetensors", &case.bytes);
        place.file(&format!("model/{WEIGHTS}"), &case.bytes);
        for command in COMMANDS {
            let clean = case.listable && command[0] == "inspect" && command[1] == "x.safetensors";
            let context = || format!("{}: ddpm {}", case.what, command.join(" "));
            let measured = within_a_second(&place, command).with_context(context)?;
            if clean {
                measured.done().with_context(context)?;
            } else {
                let file = match command.contains(&"x.safetensors") {
                    true => "x.safetensors",
                    false => "model",
                };
                let mut words = vec![file];
                words.extend(
                    case.word
                        .filter(|_| !command.contains(&"--input") || !case.fits),
                );
                measured.failed(4, &words).with_context(context)?;
            }
            longest = longest.max(measured.time.as_secs_f64());
            tried += 1;
        }
    }
    Ok(Passed {
        count: tried,
        note: format!(
            "{} files in {} commands each, longest {:.0} ms",
            cases.len(),
            COMMANDS.len(),
            longest * 1e3
        ),
    })
}

const COMMANDS: &[&[&str]] = &[
    &["inspect", "x.safetensors"],
    &["inspect", "model"],
    &[
        "sample", "--model", "model", "-n", "1", "--steps", "2", "--grid", "g.png",
    ],
    &[
        "predict",
        "--model",
        "model",
        "--input",
        "io.safetensors",
        "--output",
        "y.safetensors",
    ],
    &[
        "predict",
        "--model",
        "good",
        "--input",
        "x.safetensors",
        "--output",
        "y.safetensors",
    ],
];

/// A sound model in `good`, one to be spoilt in `model`, and inputs; returns the sound weights.
fn prepare(place: &Sandbox) -> Result<Vec<u8>> {
    let fixture = repository().join("tests/fixtures/tiny-unet");
    let read = |name: &str| {
        let path = fixture.join(name);
        fs::read(&path).with_context(|| path.display().to_string())
    };
    for folder in ["good", "model"] {
        place.file(&format!("{folder}/config.json"), read("config.json")?);
    }
    let sound = read(WEIGHTS)?;
    place.file(&format!("good/{WEIGHTS}"), &sound);
    let input = |name: &str, shape: &[usize]| NamedTensor {
        name: name.to_owned(),
        shape: shape.to_vec(),
        data: vec![0.0; shape.iter().product()],
    };
    TensorFile::new(vec![input("x", &[1, 1, 8, 8]), input("t", &[1])])
        .write(&place.path("io.safetensors"))?;
    let good = [
        "predict",
        "--model",
        "good",
        "--input",
        "io.safetensors",
        "--output",
        "y.safetensors",
    ];
    within_a_second(place, &good)?.done()?;
    Ok(sound)
}

struct Case {
    what: &'static str,
    bytes: Vec<u8>,
    /// In the sentence of every command that meets what is wrong.
    word: Option<&'static str>,
    /// Sound as a file: listing it is no error.
    listable: bool,
    /// Sound as a file, so that as an input of `predict` it is refused for another reason.
    fits: bool,
}

/// A header and what follows it.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes(),
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn cases(sound: &[u8]) -> Result<Vec<Case>> {
    let length = u64::from_le_bytes(*sound.first_chunk().context("no header")?) as usize;
    let (header, data) = (&sound[8..8 + length], &sound[8 + length..]);
    let header: Map<String, Value> = serde_json::from_slice(header)?;
    let changed = |change: &dyn Fn(&mut Map<String, Value>), data: &[u8]| -> Vec<u8> {
        let mut header = header.clone();
        change(&mut header);
        file(&Value::Object(header).to_string(), data)
    };
    let bad = |what, word, bytes| Case {
        what,
        bytes,
        word: Some(word),
        listable: false,
        fits: false,
    };
    let another = |what, word, bytes| Case {
        listable: true,
        fits: true,
        ..bad(what, word, bytes)
    };
    let offsets = |by: u64| {
        move |header: &mut Map<String, Value>| {
            // The tensor behind the first one, and nothing else, is said to lie elsewhere.
            for value in header.values_mut() {
                let Some(Value::Array(offsets)) = value.get_mut("data_offsets") else {
                    continue;
                };
                let [start, end] = [0, 1].map(|k| offsets[k].as_u64().unwrap_or(0));
                if start > 0 {
                    *offsets = vec![json!(start.wrapping_sub(by)), json!(end.wrapping_sub(by))];
                    break;
                }
            }
        }
    };
    let huge = u64::MAX / 2;
    let many: Vec<String> = (0..100_000)
        .map(|k| {
            format!(
                r#""{k}":{{"dtype":"U8","shape":[1],"data_offsets":[{k},{}]}}"#,
                k + 1
            )
        })
        .collect();
    let long = "n".repeat(1 << 20);
    let text = header_text(&header);
    Ok(vec![
        bad(
            "a header of 2^63 bytes",
            "9223372036854775808",
            [&(1u64 << 63).to_le_bytes(), data].concat(),
        ),
        another(
            "100,000 tensors",
            "do not fit",
            file(&format!("{{{}}}", many.join(",")), &vec![1; 100_000]),
        ),
        bad("an overlap", "tensor `", changed(&offsets(4), data)),
        bad(
            "a gap",
            "tensor `",
            changed(&offsets(4u64.wrapping_neg()), data),
        ),
        bad(
            "an overflowing shape",
            "overflows",
            changed(
                &|header| header["conv_in.bias"]["shape"] = json!([huge, huge]),
                data,
            ),
        ),
        bad(
            "a name that comes twice",
            "twice",
            file(
                &text.replacen(
                    '{',
                    r#"{"conv_in.bias":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"#,
                    1,
                ),
                data,
            ),
        ),
        bad(
            "a header that is not UTF-8",
            "UTF-8",
            [
                &(text.len() as u64).to_le_bytes(),
                text.as_bytes()[..10].to_vec().as_slice(),
                &[0xff, 0xfe],
                &text.as_bytes()[12..],
                data,
            ]
            .concat(),
        ),
        bad(
            "a type that does not fit the bytes",
            "takes",
            changed(
                &|header| header["conv_in.bias"]["dtype"] = json!("F64"),
                data,
            ),
        ),
        bad(
            "a type of eight bits",
            "conv_in.bias",
            changed(
                &|header| header["conv_in.bias"]["dtype"] = json!("F7"),
                data,
            ),
        ),
        another(
            "a tensor too many",
            "`zzz`",
            changed(
                &|header| {
                    let end = data.len();
                    header.insert(
                        "zzz".into(),
                        json!({"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}),
                    );
                },
                &[data, &[0; 4]].concat(),
            ),
        ),
        another(
            "a tensor by another name",
            "`conv_in.bias`",
            file(&text.replace("\"conv_in.bias\"", "\"conv_in.bios\""), data),
        ),
        another(
            "a tensor of another shape",
            "`conv_in.bias`",
            changed(
                &|header| header["conv_in.bias"]["shape"] = json!([2, 2]),
                data,
            ),
        ),
        another(
            "a name of a megabyte that steers the terminal",
            "do not fit",
            file(
                &text.replace("conv_in.bias", &format!("\\u001b[2J{long}")),
                data,
            ),
        ),
        bad(
            "a file that is cut",
            "was cut",
            sound[..sound.len() - 1].to_vec(),
        ),
        bad("nothing", "at least 8", Vec::new()),
        bad(
            "ten megabytes of brackets",
            "header",
            file(&"[".repeat(10 << 20), &[]),
        ),
    ])
}

fn header_text(header: &Map<String, Value>) -> String {
    Value::Object(header.clone()).to_string()
}
