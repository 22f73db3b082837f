//! Row 23: hostile files of PyTorch's, through the commands that read one.

use anyhow::{Context, Result, ensure};
use ddpm_store::NamedTensor;
use zip::CompressionMethod;

use super::measured::within_a_second;
use super::{Form, Passed};
use crate::torch_file::{archive, int, save, text};
use crate::{Sandbox, repository};

/// How far over a normal run's a refusal's peak of memory may be.
const MARGIN_BYTES: u64 = 64 << 20;

/// Hostile files for `inspect` and `import`.
///
/// # Errors
/// The first command that did not end with exit code 4, one sentence and the file's name within a second, within 64 MiB of
/// a normal run's memory, or that left a run.
pub fn pickles(form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    let sound = save(&[NamedTensor {
        name: "weight".into(),
        shape: vec![2, 3],
        data: vec![0.5; 6],
    }])?;
    place.file("sound.pt", &sound);
    let mut normal = None;
    for _ in 0..5 {
        let measured = within_a_second(&place, &["inspect", "sound.pt"])?;
        measured.done()?;
        normal = normal.max(measured.peak_bytes);
    }
    let (mut tried, mut longest, mut most) = (0, 0.0f64, 0);
    let mut files = hostile(form)?;
    files.extend(cuts(&sound, form));
    for (what, bytes, word) in files {
        place.file("x.pt", &bytes);
        for command in [&["inspect", "x.pt"][..], &["import", "x.pt", "run"]] {
            let context = || format!("{what}: ddpm {}", command.join(" "));
            let measured = within_a_second(&place, command).with_context(context)?;
            // What is sound as a pickle is refused as no network.
            let word = if command[0] == "inspect" { word } else { "" };
            measured.failed(4, &["x.pt", word]).with_context(context)?;
            if let (Some(peak), Some(normal)) = (measured.peak_bytes, normal) {
                let over = peak.saturating_sub(normal);
                ensure!(
                    over <= MARGIN_BYTES,
                    "{}: its peak is {} MiB over normal",
                    context(),
                    over >> 20
                );
                most = most.max(over);
            }
            longest = longest.max(measured.time.as_secs_f64());
            tried += 1;
        }
        ensure!(!place.path("run").exists(), "{what}: a run was made");
        ensure!(!place.path("ran").exists(), "{what}: its program was run");
    }
    Ok(Passed {
        count: tried,
        note: format!(
            "longest {:.0} ms, at most {} MiB over a normal run",
            longest * 1e3,
            most >> 20
        ),
    })
}

/// The file cut at places all over it.
fn cuts(sound: &[u8], form: Form) -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let every = form.pick(sound.len() / 4, sound.len() / 64).max(1);
    let lengths = (0..sound.len()).step_by(every);
    lengths
        .map(|length| ("a file that is cut", sound[..length].to_vec(), ""))
        .collect()
}

fn hostile(form: Form) -> Result<Vec<(&'static str, Vec<u8>, &'static str)>> {
    let pickle = |body: &[u8]| [b"\x80\x02", body, b"."].concat();
    let stored = |body: &[u8]| archive(&pickle(body), &[], CompressionMethod::Stored);
    let call = |function: &str| {
        let name = format!("c{function}\n");
        [
            b"}",
            text("weight").as_slice(),
            name.as_bytes(),
            b"(",
            &text("touch ran"),
            b"tRs",
        ]
        .concat()
    };
    let looped = [
        b"}q\x00".as_slice(),
        &text("time_embed.0.weight"),
        b"h\x00s",
    ]
    .concat();
    let mut laughs = b"]q\x00".to_vec();
    for level in 1..40u8 {
        laughs.extend([
            b'0',
            b']',
            b'q',
            level,
            b'h',
            level - 1,
            b'a',
            b'h',
            level - 1,
            b'a',
        ]);
    }
    let many = form.pick(2 << 20, 20 << 20);
    // Each call makes a dict with a name of its own, which is remembered.
    let objects = [
        b"ccollections\nOrderedDict\nq\x00".to_vec(),
        b"h\x00)R\x94".repeat(many / 4),
    ]
    .concat();
    let zeros = vec![b'N'; form.pick(60 << 20, 400 << 20)];
    let packed = [b"(".to_vec(), zeros, b"t".to_vec()].concat();
    let nested = [vec![b']'; 300_000], vec![b'a'; 299_999]].concat();
    let texts = [
        b"(".to_vec(),
        text(&"x".repeat(4000)).repeat(5000),
        b"t".to_vec(),
    ]
    .concat();
    let claims = [b"B".as_slice(), &[0xff; 4], &int(1)].concat();
    let edm = std::fs::read(repository().join("tests/fixtures/torch/edm.pkl"))?;
    Ok(vec![
        (
            "os.system",
            stored(&call("os\nsystem"))?,
            "would call `os.system`",
        ),
        (
            "posix.system",
            stored(&call("posix\nsystem"))?,
            "would call `posix.system`",
        ),
        (
            "subprocess",
            pickle(&call("subprocess\ncheck_call")),
            "would call `subprocess.check_call`",
        ),
        (
            "exec",
            pickle(&call("builtins\nexec")),
            "would call `builtins.exec`",
        ),
        ("a loop", pickle(&looped), "too deep"),
        ("a billion laughs", stored(&laughs)?, "over and over"),
        ("lists nested deep", pickle(&nested), "too deep"),
        ("millions of objects", pickle(&objects), "values"),
        ("millions of lists", pickle(&b"]".repeat(many)), "values"),
        (
            "millions of opcodes",
            pickle(&b"N0".repeat(many)),
            "opcodes",
        ),
        (
            "millions of stacked values",
            pickle(&b"N".repeat(2 * many)),
            "opcodes",
        ),
        ("megabytes of texts", pickle(&texts), "bytes of text"),
        ("a length over the file", pickle(&claims), "asks for"),
        (
            "a packed pickle",
            archive(&pickle(&packed), &[], CompressionMethod::Deflated)?,
            "packed",
        ),
        (
            "a snapshot that is cut",
            edm[..edm.len() / 2].to_vec(),
            "cut",
        ),
    ])
}
