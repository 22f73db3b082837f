use super::*;

fn labels(read: Read) -> Vec<(String, Label)> {
    match read.map(|(parsed, _)| parsed) {
        Ok(Parsed::Labels(labels)) => {
            let mut labels: Vec<_> = labels.into_iter().collect();
            labels.sort_by(|a, b| a.0.cmp(&b.0));
            labels
        }
        Err(reason) => panic!("{reason}"),
        Ok(_) => panic!("no labels"),
    }
}

fn numbers(pairs: &[(&str, usize)]) -> Vec<(String, Label)> {
    pairs
        .iter()
        .map(|&(name, number)| (name.to_owned(), Label::Number(number)))
        .collect()
}

#[test]
fn one_hot_vectors_are_classes_and_others_are_not() {
    let parsed = dataset_json(br#"{"labels": [["a", [0, 0.0, 1.0]], ["b\\c", [1, 0, 0]]]}"#);
    assert_eq!(labels(parsed), numbers(&[("a", 2), ("b/c", 0)]));
    for text in [
        r#"{"labels": [["a", [0.5, 0.5]]]}"#,
        r#"{"labels": [["a", [1, 1]]]}"#,
        r#"{"labels": [["a", []]]}"#,
    ] {
        let parsed = dataset_json(text.as_bytes());
        assert!(matches!(parsed, Ok((Parsed::NoClasses(_), _))), "{text}");
    }
}

#[test]
fn classes_may_be_written_in_many_ways() {
    // pandas writes whole numbers as floats where one is missing
    let parsed = csv(b"\xef\xbb\xbffile_name,label\r\n./a,3.0\r\nb,\r\nc,-1\r\nd, 4 \r\n");
    assert_eq!(labels(parsed), numbers(&[("a", 3), ("d", 4)]));
    let parsed = jsonl(
        b"{\"file_name\": \"a\", \"label\": true}\n{\"file_name\": \"b\", \"label\": \"7\"}\n\
          {\"file_name\": \"c\", \"label\": null}\n{\"file_name\": \"d\"}",
    );
    assert_eq!(labels(parsed), numbers(&[("a", 1), ("b", 7)]));
    // one name makes all names
    let parsed = csv(b"file_name,label\na,7\nb,cat\n");
    let name = |text: &str| Label::Name(text.to_owned());
    assert_eq!(
        labels(parsed),
        [("a".to_owned(), name("7")), ("b".to_owned(), name("cat"))]
    );
    let parsed = jsonl(b"{\"file_name\": \"a\", \"label\": [1, 2]}");
    assert!(matches!(parsed, Ok((Parsed::NoClasses(_), _))));
}

#[test]
fn columns_of_numbers_are_those_of_all_files_that_apply() {
    let files = ["labels.csv", "a/metadata.jsonl", "b/dataset.json"].map(|name| Found {
        name: name.to_owned(),
        path: PathBuf::from(name),
    });
    let texts = [
        "image,age,name,width\n1,30,Ada,0.5\n2,,Bob,1e-1\n",
        "{\"file_name\": \"3\", \"age\": 4, \"smiles\": true}\n",
        r#"{"labels": [["4", [0.25, -1]]]}"#,
    ];
    let all = Metadata::read(&files, |index| Ok(texts[index].into())).unwrap();
    let columns = all.columns(&["1", "2", "a/3", "b/4", "5"]);
    assert_eq!(columns.names, ["age", "width", "smiles", "0", "1"]);
    let none = f64::NAN;
    let expected = [
        [30.0, 0.5, none, none, none],
        [none, 0.1, none, none, none],
        [4.0, none, 1.0, none, none],
        [none, none, none, 0.25, -1.0],
        [none; 5],
    ];
    let same = |a: &f64, b: &f64| a == b || (a.is_nan() && b.is_nan());
    assert!(
        columns
            .values
            .iter()
            .zip(expected.as_flattened())
            .all(|(a, b)| same(a, b))
    );
}

#[test]
fn the_nearest_file_applies() {
    let files = ["metadata.csv", "a/b/metadata.csv"].map(|name| Found {
        name: name.to_owned(),
        path: PathBuf::from(name),
    });
    let texts = [
        "file_name,label\na/1,1\na/b/2,1\n",
        "file_name,label\n2,5\n",
    ];
    let all = Metadata::read(&files, |index| Ok(texts[index].into())).unwrap();
    for (image, label) in [("a/1", Some(1)), ("a/b/2", Some(5)), ("a/b/3", None)] {
        let found = all.of(image).unwrap().label(image).cloned();
        assert_eq!(found, label.map(Label::Number), "{image}");
    }
}

#[test]
fn mutated_files_end_in_a_result() {
    let whole = br#"{"labels": [["00000/a.png", 6], ["00000/b.png", [0, 1]], ["c", null]]}"#;
    let mut state = 3u64;
    for _ in 0..2000 {
        let mut bytes = whole.to_vec();
        for _ in 0..3 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let at = (state >> 33) as usize % bytes.len();
            bytes[at] = (state >> 20) as u8;
        }
        let _ = (dataset_json(&bytes), jsonl(&bytes), csv(&bytes));
    }
}
