//! What all fuzz targets do: the same as the tests of the seed corpora.

use std::path::Path;
use std::sync::LazyLock;

pub use ddpm_tests::hostile::Format;
use tempfile::TempDir;

/// One folder a process, used again and again.
static SCRATCH: LazyLock<TempDir> =
    LazyLock::new(|| tempfile::tempdir().expect("a temporary folder"));

/// Gives the bytes to the parser of a format.
///
/// # Panics   if a refusal is not one sentence that names the file: that is a finding too
pub fn parse(format: Format, bytes: &[u8]) {
    let scratch: &Path = SCRATCH.path();
    if let Err(error) = ddpm_tests::hostile::parse(format, bytes, scratch) {
        panic!("{}: {error:#}", format.name());
    }
}

/// The fuzz target of one format.
#[macro_export]
macro_rules! target {
    ($format:ident) => {
        libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
            $crate::parse($crate::Format::$format, bytes);
        });
    };
}
