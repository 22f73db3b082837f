//! Every file of every seed corpus of the fuzz targets, as an ordinary test.

use std::collections::BTreeSet;

use ddpm_tests::hostile::{Format, Input, Watch, corpus, parse};
use ddpm_tests::repository;

#[test]
fn every_file_is_taken_or_refused_in_time() {
    let scratch = tempfile::tempdir().unwrap();
    let mut watch = Watch::begin();
    let mut wrong = Vec::new();
    for format in Format::ALL {
        let (mut taken, mut refused) = (0, 0);
        for (path, bytes) in corpus(format).unwrap() {
            match watch.case(|| parse(format, &bytes, scratch.path())) {
                Ok(Input::Taken) => taken += 1,
                Ok(Input::Refused(_)) => refused += 1,
                Err(error) => wrong.push(format!("{}: {error:#}", path.display())),
            }
        }
        if taken == 0 || refused == 0 {
            let name = format.name();
            wrong.push(format!("{name}: {taken} taken, {refused} refused"));
        }
    }
    let seen = watch.seen();
    // No panic is printed as long as there is a watch.
    drop(watch);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(seen.caught.is_empty(), "{}", seen.note());
}

#[test]
fn formats_targets_and_corpora_are_the_same() {
    let names = |folder: &str| -> BTreeSet<String> {
        std::fs::read_dir(repository().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
            .collect()
    };
    let formats: BTreeSet<String> = Format::ALL.map(|format| format.name().to_owned()).into();
    assert_eq!(names("fuzz/corpus"), formats);
    assert_eq!(names("fuzz/fuzz_targets"), formats);
}
