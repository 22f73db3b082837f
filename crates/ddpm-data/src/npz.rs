//! Arrays of plain numbers in NumPy's `.npz` archives: the mean and covariance of features, say.

use std::path::Path;

use crate::config::DataConfig;
use crate::error::{DataError, excerpt};
use crate::source::read_numbers;
use crate::zipfile;

/// Names that a message lists, at most.
const LISTED: usize = 20;

/// An array of plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberArray {
    /// Its axes; none for a single number.
    pub shape: Vec<usize>,
    /// Row-major (NumPy's C order).
    pub values: Vec<f64>,
}

/// One array of an `.npz` archive, compressed or not: floats, integers and bools of any width and byte order.
///
/// An array of more than [`DEFAULT_CACHE_BYTES`](crate::DEFAULT_CACHE_BYTES) is refused, as is what unpacks to more than
/// [`DEFAULT_MAX_EXPANSION`](crate::DEFAULT_MAX_EXPANSION) times its packed size. Integers beyond 2⁵³ are rounded.
///
/// # Errors   [`DataError::Numbers`] naming the file or array: there is no array of that name (the error lists those
/// that there are), it holds something other than numbers, is in Fortran order, damaged or too large, or the file is no
/// such archive or cannot be read
pub fn read_npz_array(path: &Path, name: &str) -> Result<NumberArray, DataError> {
    let config = DataConfig::default();
    let archive = zipfile::open(path, &config).map_err(of_numbers)?;
    let entry = zipfile::entries(&archive).find(|entry| array_name(&entry.name) == Some(name));
    let Some(entry) = entry else {
        return Err(DataError::Numbers {
            path: path.to_path_buf(),
            reason: format!("holds no array {name:?}, {}", there(&archive)),
        });
    };
    let (shape, values) = read_numbers(path, &archive, &entry, &config).map_err(of_numbers)?;
    Ok(NumberArray { shape, values })
}

/// The names of the arrays of an `.npz` archive, in its order, without their ending `.npy`.
///
/// # Errors   [`DataError::Numbers`] if the file is no such archive or cannot be read
pub fn npz_names(path: &Path) -> Result<Vec<String>, DataError> {
    let archive = zipfile::open(path, &DataConfig::default()).map_err(of_numbers)?;
    Ok(names(&archive).collect())
}

fn names(archive: &zipfile::Archive) -> impl Iterator<Item = String> {
    zipfile::entries(archive).filter_map(|entry| array_name(&entry.name).map(str::to_owned))
}

fn array_name(file: &str) -> Option<&str> {
    file.strip_suffix(".npy")
}

/// What there is in place of an array that there is not.
fn there(archive: &zipfile::Archive) -> String {
    let first: Vec<String> = names(archive).take(LISTED).collect();
    match (first.len(), names(archive).nth(LISTED)) {
        (0, _) => "nor any other".to_owned(),
        (_, None) => format!("but {}", excerpt(&first.join(", "))),
        (_, Some(_)) => format!("but {} and more", excerpt(&first.join(", "))),
    }
}

/// An error of reading, without the advice that is for sets of images: nothing here is a key of `[data]`.
fn of_numbers(error: DataError) -> DataError {
    let (path, reason) = match error {
        DataError::Io { path, source } => (path, format!("cannot be read: {source}")),
        DataError::Format {
            path,
            expected,
            got,
        } => (path, format!("expected {expected}, got {got}")),
        DataError::Unread { path, what, .. } => (path, what),
        DataError::Limit {
            path,
            what,
            got,
            limit,
            ..
        } => (path, format!("its {what} is {got}, over {limit}")),
        other => return other,
    };
    DataError::Numbers { path, reason }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};

    use super::*;
    use crate::fixtures::{npy, write, zip_of};

    fn f64s(values: impl IntoIterator<Item = f64>) -> Vec<u8> {
        values.into_iter().flat_map(f64::to_le_bytes).collect()
    }

    #[test]
    fn numbers_of_any_kind_are_read_with_their_shape() {
        let place = tempfile::tempdir().unwrap();
        let whole = [1i32, -2, 3]
            .into_iter()
            .flat_map(i32::to_be_bytes)
            .collect::<Vec<u8>>();
        let mu = npy("<f8", "(2,)", &f64s([0.1, -2.5e300]));
        let sigma = npy("<f8", "(3, 2)", &f64s((0..6).map(f64::from)));
        let half = npy("<f2", "(1, 1, 2)", &[0, 0x3c, 0, 0xb8]);
        let count = npy("<i8", "()", &50_000i64.to_le_bytes());
        let files: [(&str, &[u8]); 8] = [
            ("mu.npy", &mu),
            ("sigma.npy", &sigma),
            ("half.npy", &half),
            ("count.npy", &count),
            ("whole.npy", &npy(">i4", "(3,)", &whole)),
            ("bytes.npy", &npy("|u1", "(2,)", &[0, 255])),
            ("none.npy", &npy("<f4", "(0, 7)", &[])),
            ("notes.txt", b"no array"),
        ];
        let path = write(place.path(), "a.npz", &zip_of(&files));
        for (name, shape, values) in [
            ("mu", vec![2], vec![0.1, -2.5e300]),
            ("sigma", vec![3, 2], vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]),
            ("half", vec![1, 1, 2], vec![1.0, -0.5]),
            ("count", vec![], vec![50_000.0]),
            ("whole", vec![3], vec![1.0, -2.0, 3.0]),
            ("bytes", vec![2], vec![0.0, 255.0]),
            ("none", vec![0, 7], vec![]),
        ] {
            let array = read_npz_array(&path, name).unwrap();
            assert_eq!(array, NumberArray { shape, values }, "{name}");
        }
        let names = ["mu", "sigma", "half", "count", "whole", "bytes", "none"];
        assert_eq!(npz_names(&path).unwrap(), names);
    }

    #[test]
    fn a_covariance_of_inceptions_features_is_read_packed_or_not() {
        const SIDE: usize = 2048;
        let place = tempfile::tempdir().unwrap();
        let value = |at: usize| (at as f64).sin();
        let data = f64s((0..SIDE * SIDE).map(value));
        let sigma = npy("<f8", "(2048, 2048)", &data);
        for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
            let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
            let options = SimpleFileOptions::default().compression_method(method);
            writer.start_file("sigma.npy", options).unwrap();
            writer.write_all(&sigma).unwrap();
            let bytes = writer.finish().unwrap().into_inner();
            let path = write(place.path(), "a.npz", &bytes);
            let read = read_npz_array(&path, "sigma").unwrap();
            assert_eq!(read.shape, [SIDE, SIDE]);
            assert_eq!(read.values.len(), SIDE * SIDE);
            for at in [0, 131_071, 131_072, 131_073, SIDE * SIDE - 1] {
                assert_eq!(read.values[at], value(at), "{at}");
            }
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_advice_on_images() {
        let place = tempfile::tempdir().unwrap();
        let good = npy("<f8", "(1,)", &f64s([1.0]));
        let mut fortran = npy("<f8", "(1, 2)", &f64s([1.0, 2.0]));
        let order = fortran.windows(5).position(|word| word == b"False");
        fortran[order.unwrap()..][..5].copy_from_slice(b"True ");
        let bomb = npy("<f8", "(4194304,)", &vec![0; 32 << 20]);
        let many: Vec<String> = (0..LISTED + 1).map(|k| format!("k{k}.npy")).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|name| (&name[..], &good[..])).collect();
        let of = |bytes: &[u8]| zip_of(&[("mu.npy", &good), ("sigma.npy", bytes)]);
        for (bytes, hint) in [
            (
                zip_of(&[("mu.npy", &good), ("mu_1.npy", &good), ("sigma", &good)]),
                "a.npz: holds no array \"sigma\", but mu, mu_1; give another file",
            ),
            (zip_of(&many), "k18, k19 and more; give another file"),
            (zip_of(&[]), "holds no array \"sigma\", nor any other"),
            (
                of(&fortran),
                "sigma.npy: expected a NumPy array in C order, got Fortran order",
            ),
            (
                of(&npy("<U5", "(1,)", &[0; 20])),
                "sigma.npy: holds elements of type \"<U5\", which are not plain numbers",
            ),
            (
                of(&npy("<f8", "(3,)", &f64s([1.0]))),
                "bytes, by its header",
            ),
            (of(b"words"), "does not start with"),
            (
                of(&bomb),
                "sigma.npy: its expansion when unpacked, as a multiple of the packed size, is ",
            ),
            (b"words".to_vec(), "a.npz: expected a zip archive"),
            (Vec::new(), "a.npz: expected a zip archive"),
        ] {
            let path = write(place.path(), "a.npz", &bytes);
            let error = read_npz_array(&path, "sigma").unwrap_err();
            assert!(matches!(error, DataError::Numbers { .. }), "{error}");
            let message = error.to_string();
            assert!(message.contains(hint), "{hint}: {message}");
            assert!(!message.contains("data."), "{message}");
        }
        for (path, hint) in [
            (place.path().join("none.npz"), "cannot be read"),
            (place.path().to_path_buf(), "a directory"),
        ] {
            for error in [
                read_npz_array(&path, "sigma").unwrap_err(),
                npz_names(&path).unwrap_err(),
            ] {
                assert!(error.to_string().contains(hint), "{error}");
                assert!(matches!(error, DataError::Numbers { .. }), "{error}");
            }
        }
    }
}
