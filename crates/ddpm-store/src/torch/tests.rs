use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::TensorFile;
use crate::tensors::NamedTensor;

fn fixture(name: &str) -> PathBuf {
    let folder = match name {
        "edm.pkl" => "fixtures/torch",
        _ => "golden/data/unet2/pt_files",
    };
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests");
    Path::new(tests).join(folder).join(name)
}

/// All tensors of bytes in a file.
fn read(bytes: &[u8]) -> Result<Vec<NamedTensor>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.pt");
    fs::write(&path, bytes).unwrap();
    TorchFile::open(&path)?.root().read_tensors()
}

fn sorted(mut tensors: Vec<NamedTensor>) -> Vec<NamedTensor> {
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

#[test]
fn both_containers_give_what_torch_loads() {
    let expected = TensorFile::read(&fixture("expected.safetensors")).unwrap();
    let expected = sorted(expected.tensors);
    for name in ["plain.pt", "legacy.pt"] {
        assert!(TorchFile::looks_like(&fixture(name)));
        let file = TorchFile::open(&fixture(name)).unwrap();
        assert_eq!(
            sorted(file.root().read_tensors().unwrap()),
            expected,
            "{name}"
        );
    }
    let file = TorchFile::open(&fixture("nested.pt")).unwrap();
    let root = file.root();
    let mut model = root.get("model").unwrap().read_tensors().unwrap();
    for tensor in &mut model {
        tensor.name = tensor.name.strip_prefix("module.").unwrap().to_owned();
    }
    assert_eq!(sorted(model), expected);
    assert_eq!(
        root.keys(),
        ["step", "model", "ema", "version", "betas", "opt"]
    );
    assert!(root.get("step").unwrap().int().is_some());
    let betas = root.get("betas").unwrap();
    assert!(betas.elements().iter().all(|beta| beta.float().is_some()));
    let all = root.tensors().unwrap();
    assert!(
        all.iter()
            .any(|tensor| tensor.name == "model.module.conv.weight")
    );
}

/// The formula of the fixture's weights: SplitMix64 (Steele et al. 2014) of the number of the tensor and of its element.
fn formula(tensor: u64, element: u64) -> f64 {
    let mut z = (tensor << 32) + element + 1;
    z = z.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    2.0 * ((z >> 11) as f64 / (1u64 << 53) as f64) - 1.0
}

#[test]
fn a_snapshot_of_edm_is_read_without_its_program() {
    let file = TorchFile::open(&fixture("edm.pkl")).unwrap();
    let root = file.root();
    assert_eq!(
        root.keys(),
        ["ema", "loss_fn", "augment_pipe", "dataset_kwargs"]
    );
    let ema = root.get("ema").unwrap();
    assert_eq!(ema.class(), Some("EDMPrecond"));
    assert_eq!(ema.get("img_resolution").unwrap().int(), Some(8));
    assert_eq!(ema.get("sigma_data").unwrap().float(), Some(0.5));
    assert_eq!(ema.get("use_fp16").unwrap().bool(), Some(false));
    let network = ema.get("_modules").unwrap().get("model").unwrap();
    assert_eq!(network.class(), Some("SongUNet"));
    let given = network.get("_init_kwargs").unwrap();
    let given = given.json().unwrap();
    assert_eq!(given["channel_mult"], serde_json::json!([1, 2]));
    assert_eq!(given["dropout"], 0.1);
    assert_eq!(network.json(), None);
    let encoder = network.get("_modules").unwrap().get("enc").unwrap();
    assert_eq!(encoder.class(), Some("ModuleDict"));
    let block = encoder.get("_modules").unwrap().get("8x8_block0").unwrap();
    // A scalar of NumPy's.
    assert_eq!(
        block.get("skip_scale").unwrap().float(),
        Some(0.5f64.sqrt())
    );

    let tensors = ema.read_tensors().unwrap();
    let parameters = tensors
        .iter()
        .filter(|tensor| !tensor.name.ends_with("resample_filter"));
    assert_eq!(parameters.count(), 145);
    let first = &tensors[0];
    assert_eq!(
        (first.name.as_str(), first.shape.as_slice()),
        ("model.map_label.weight", &[4, 5][..])
    );
    for (element, &number) in first.data.iter().enumerate() {
        let expected = (6.0f64 / 5.0).sqrt() * formula(0, element as u64);
        assert_eq!(number, expected as f32);
    }
    let filter = tensors
        .iter()
        .find(|tensor| tensor.name.ends_with("resample_filter"));
    assert_eq!(filter.unwrap().data, [0.25; 4]);
}

#[test]
fn a_file_cut_anywhere_is_refused_by_name() {
    for (name, every) in [
        ("plain.pt", 1),
        ("legacy.pt", 1),
        ("nested.pt", 1),
        ("edm.pkl", 211),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut.pt");
        let whole = fs::read(fixture(name)).unwrap();
        fs::write(&path, &whole).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        for length in (0..whole.len()).rev().step_by(every) {
            file.set_len(length as u64).unwrap();
            let read = TorchFile::open(&path).and_then(|file| file.root().read_tensors());
            let message = read.expect_err(name).to_string();
            assert!(
                message.contains("cut.pt") && !message.contains('\n'),
                "{name} {length}: {message}"
            );
        }
    }
}

/// Pieces of pickles.
mod bytes {
    pub(super) fn text(text: &str) -> Vec<u8> {
        [&[0x8c, text.len() as u8], text.as_bytes()].concat()
    }

    pub(super) fn int(number: i64) -> Vec<u8> {
        [&[0x8a, 8][..], &number.to_le_bytes()].concat()
    }

    pub(super) fn tuple(parts: &[Vec<u8>]) -> Vec<u8> {
        [b"(", parts.concat().as_slice(), b"t"].concat()
    }

    pub(super) fn global(module: &str, name: &str) -> Vec<u8> {
        format!("c{module}\n{name}\n").into_bytes()
    }

    pub(super) fn pickle(body: &[u8]) -> Vec<u8> {
        [b"\x80\x02", body, b"."].concat()
    }

    /// A storage of one file of the old container.
    pub(super) fn storage(class: &str, key: &str, numbers: i64) -> Vec<u8> {
        let parts = [
            text("storage"),
            global("torch", class),
            text(key),
            text("cpu"),
            int(numbers),
        ];
        [tuple(&parts).as_slice(), b"Q"].concat()
    }

    pub(super) fn tensor(storage: &[u8], offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
        let extents = |all: &[i64]| tuple(&all.iter().map(|&n| int(n)).collect::<Vec<_>>());
        let parts = [
            storage.to_vec(),
            int(offset),
            extents(shape),
            extents(strides),
            vec![0x89],
            b"}".to_vec(),
        ];
        [
            global("torch._utils", "_rebuild_tensor_v2"),
            tuple(&parts),
            b"R".to_vec(),
        ]
        .concat()
    }

    pub(super) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let entries = entries
            .iter()
            .flat_map(|(key, value)| [text(key), value.clone()].concat());
        [b"}(".to_vec(), entries.collect(), b"u".to_vec()].concat()
    }

    /// The old container: an object and storages of f32 by key.
    pub(super) fn legacy(object: &[u8], storages: &[(&str, &[f32])]) -> Vec<u8> {
        let keys = storages
            .iter()
            .flat_map(|(key, _)| text(key))
            .collect::<Vec<u8>>();
        let mut file = [
            b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e".to_vec(),
            pickle(&int(1001)),
            pickle(b"}"),
            pickle(object),
            pickle(&[b"](", keys.as_slice(), b"e"].concat()),
        ]
        .concat();
        for (_, numbers) in storages {
            file.extend((numbers.len() as u64).to_le_bytes());
            file.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        file
    }
}

#[test]
fn tensors_that_do_not_fit_their_storage_are_refused_by_name() {
    use bytes::*;
    let storage = storage("FloatStorage", "k", 6);
    let one = |offset: i64, shape: &[i64], strides: &[i64]| {
        let object = dict(&[("w", tensor(&storage, offset, shape, strides))]);
        read(&legacy(&object, &[("k", &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]))
    };
    for (offset, shape, strides, expected) in [
        (
            0,
            &[2, 3][..],
            &[3, 1][..],
            &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0][..],
        ),
        (0, &[3, 2], &[1, 3], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]),
        (1, &[2], &[4], &[1.0, 5.0]),
        (0, &[3, 1], &[2, 7], &[0.0, 2.0, 4.0]),
        (2, &[3], &[0], &[2.0, 2.0, 2.0]),
        (5, &[], &[], &[5.0]),
        (6, &[0, 4], &[4, 1], &[]),
    ] {
        let read = one(offset, shape, strides).unwrap();
        assert_eq!(read[0].data, expected, "{offset} {shape:?} {strides:?}");
    }
    for (offset, shape, strides) in [
        (0, &[7][..], &[1][..]),
        (1, &[6], &[1]),
        (0, &[2], &[6]),
        (-1, &[2], &[1]),
        (0, &[-2], &[1]),
        (0, &[2], &[-1]),
        (0, &[2, 2], &[1]),
        (0, &[1 << 40, 1 << 40], &[0, 0]),
        (0, &[7], &[0]),
        (i64::MAX, &[2], &[i64::MAX]),
        (7, &[0], &[1]),
    ] {
        let message = one(offset, shape, strides).unwrap_err().to_string();
        assert!(
            message.contains("tensor `w`"),
            "{offset} {shape:?} {strides:?}: {message}"
        );
    }
}

/// What each hostile file is refused for.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    use bytes::*;
    let claim = |opcode: u8, length: &[u8]| pickle(&[&[opcode], length].concat());
    let huge = (1u64 << 62).to_le_bytes();
    let call = |module: &str, name: &str| {
        pickle(&dict(&[(
            "w",
            [global(module, name), tuple(&[text("id")]), b"R".to_vec()].concat(),
        )]))
    };
    // A list of a list of a list, and a dict that is its own entry.
    let deep = |depth: usize| pickle(&[vec![b']'; depth], vec![b'a'; depth - 1]].concat());
    let looped = pickle(&[b"}q\x00".as_slice(), &text("k"), b"h\x00s"].concat());
    // Each has the one before twice.
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
    // A short call copies a long list, again and again.
    let long = [b"](".as_slice(), &vec![b'N'; 100_000], b"eq\x00"].concat();
    let set = [global("builtins", "set"), b"h\x00\x85R".to_vec()].concat();
    let copies = pickle(&[long, set.repeat(1000)].concat());
    let storage = storage("FloatStorage", "k", 1 << 18);
    let view = tensor(&storage, 0, &[1 << 18], &[1]);
    let named: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    let views: Vec<_> = named
        .iter()
        .map(|name| (name.as_str(), view.clone()))
        .collect();
    let zeros = vec![0.0; 1 << 18];
    let claimed = dict(&[(
        "w",
        tensor(&bytes::storage("FloatStorage", "k", 1 << 60), 0, &[2], &[1]),
    )]);
    let quantised = [global("torch._utils", "_rebuild_qtensor"), b")R".to_vec()].concat();
    let mut zip = fs::read(fixture("plain.pt")).unwrap();
    let end = zip.len() - 22;
    zip[end + 10..end + 12].copy_from_slice(&[0xfe, 0xff]);
    vec![
        ("nothing", vec![], "neither"),
        ("a page", b"<html>".to_vec(), "neither"),
        (
            "a pointer",
            b"version https://git-lfs.github.com/spec/v1".to_vec(),
            "git",
        ),
        (
            "a pickle of protocol 7",
            b"\x80\x07N.".to_vec(),
            "protocol 7",
        ),
        ("a pickle without an end", b"\x80\x02N".to_vec(), "cut"),
        (
            "what follows the end",
            b"\x80\x02N.N".to_vec(),
            "1 bytes follow",
        ),
        (
            "an empty stack",
            b"\x80\x02.".to_vec(),
            "more values than it made",
        ),
        (
            "a mark that is not there",
            b"\x80\x02t.".to_vec(),
            "more values than it made",
        ),
        ("an unknown value", b"\x80\x02h\x07.".to_vec(), "value 7"),
        ("an unknown opcode", b"\x80\x02\xff.".to_vec(), "0xff"),
        ("bytes of 2^62", claim(0x8e, &huge), "asks for"),
        ("a text of 2^62", claim(0x8d, &huge), "asks for"),
        ("a text of 4 GiB", claim(b'X', &[0xff; 4]), "asks for"),
        (
            "a number of 2 GiB",
            claim(0x8b, &[0xff, 0xff, 0xff, 0x7f]),
            "asks for",
        ),
        ("os.system", call("os", "system"), "would call `os.system`"),
        (
            "posix.system",
            call("posix", "system"),
            "would call `posix.system`",
        ),
        (
            "eval",
            call("builtins", "eval"),
            "would call `builtins.eval`",
        ),
        (
            "a name without an end",
            [b"\x80\x02c".to_vec(), vec![b'a'; 1000]].concat(),
            "256 bytes",
        ),
        ("a million lists", deep(1_000_000), "values"),
        ("lists nested deep", deep(300_000), "too deep"),
        ("a loop", looped, "too deep"),
        ("a billion laughs", pickle(&laughs), "over and over"),
        ("copies of a list", copies, "values"),
        (
            "eight million opcodes",
            pickle(&b"N0".repeat(4 << 20)),
            "opcodes",
        ),
        (
            "entries without a value",
            pickle(b"}(Nu"),
            "without a value",
        ),
        ("entries of a number", pickle(b"K\x01(NNu"), "not a dict"),
        ("elements of the empty tuple", pickle(b")Na"), "not a list"),
        (
            "a storage that is not there",
            legacy(&dict(&[("w", view.clone())]), &[]),
            "is not in the file",
        ),
        (
            "2^60 numbers",
            legacy(&claimed, &[("k", &[1.0])]),
            "has 1 numbers",
        ),
        (
            "views of one storage",
            legacy(&dict(&views), &[("k", &zeros)]),
            "repeat the same numbers",
        ),
        (
            "a quantised tensor",
            pickle(&dict(&[("w", quantised)])),
            "_rebuild_qtensor",
        ),
        ("65534 entries", zip, "asks for"),
    ]
}

#[test]
fn hostile_files_are_refused_at_once() {
    for (what, bytes, word) in hostile() {
        let clock = Instant::now();
        let message = match read(&bytes) {
            Err(error) => error.to_string(),
            Ok(read) => panic!("{what}: {} tensors", read.len()),
        };
        assert!(
            message.contains(word) && message.len() < 1000,
            "{what}: {message}"
        );
        assert!(!message.contains('\n'), "{what}: {message}");
        assert!(
            clock.elapsed() < Duration::from_secs(1),
            "{what}: {:?}",
            clock.elapsed()
        );
    }
}

#[test]
fn objects_of_unknown_classes_are_passed_over() {
    use bytes::*;
    let unknown = [
        global("lightning.callbacks", "Timer"),
        b")\x81".to_vec(),
        dict(&[("a", int(3))]),
        b"b".to_vec(),
    ];
    let weight = tensor(&storage("FloatStorage", "k", 2), 0, &[2], &[1]);
    let object = dict(&[
        ("state_dict", dict(&[("w", weight)])),
        ("timer", unknown.concat()),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.ckpt");
    fs::write(&path, legacy(&object, &[("k", &[1.5, -2.0])])).unwrap();
    let file = TorchFile::open(&path).unwrap();
    let timer = file.root().get("timer").unwrap();
    assert_eq!(timer.class(), Some("Timer"));
    assert_eq!(timer.get("a").unwrap().int(), Some(3));
    let read = file.root().read_tensors().unwrap();
    assert_eq!(
        (read[0].name.as_str(), read[0].data.as_slice()),
        ("state_dict.w", &[1.5, -2.0][..])
    );
}
