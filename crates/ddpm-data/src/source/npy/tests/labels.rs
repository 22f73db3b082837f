use super::*;

fn f64s(values: &[f64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

fn i64s(values: &[i64]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Three images of five pixels.
fn images() -> Vec<u8> {
    npy("|u1", "(3, 5, 1, 1)", &[0; 15])
}

/// Label arrays of three images, their classes, and how many there are.
fn readable() -> Vec<(Vec<u8>, [usize; 3], usize)> {
    let rows = [0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0];
    let one_hot_f4: Vec<f32> = rows.iter().map(|&n| n as f32).collect();
    let one_hot_i8: Vec<i64> = rows.iter().map(|&n| i64::from(n)).collect();
    vec![
        (npy("|u1", "(3,)", &[1, 0, 4]), [1, 0, 4], 5),
        (npy(">u2", "(3, 1)", &[0, 1, 0, 0, 1, 0]), [1, 0, 256], 257),
        (npy("<i8", "(3,)", &i64s(&[2, 1, 0])), [2, 1, 0], 3),
        (npy("<f4", "(3,)", &f32s(&[2.0, 1.0, 0.0])), [2, 1, 0], 3),
        (npy("<f8", "(3, 1)", &f64s(&[0.0, -0.0, 7.0])), [0, 0, 7], 8),
        (npy("|b1", "(3,)", &[0, 1, 1]), [0, 1, 1], 2),
        // as many classes as columns, also those of no image
        (npy("|u1", "(3, 4)", &rows), [1, 3, 0], 4),
        (npy("|b1", "(3, 4)", &rows), [1, 3, 0], 4),
        (npy("<i8", "(3, 4)", &i64s(&one_hot_i8)), [1, 3, 0], 4),
        (npy("<f4", "(3, 4)", &f32s(&one_hot_f4)), [1, 3, 0], 4),
    ]
}

/// Arrays that are no labels of three images, and why.
fn unreadable() -> Vec<(Vec<u8>, &'static str)> {
    vec![
        (
            npy("<U2", "(3,)", &[0; 24]),
            "holds elements of type \"<U2\", which are not plain numbers; save images as uint8 or float32 and labels as integers",
        ),
        (npy("|S1", "(3,)", &[65; 3]), "elements of type \"|S1\""),
        (npy("|O", "(3,)", &[0; 24]), "elements of type \"|O\""),
        (
            npy("<M8[s]", "(3,)", &[0; 24]),
            "elements of type \"<M8[s]\"",
        ),
        (
            npy("|u1", "(2,)", &[0; 2]),
            "holds labels of shape [2] for 3 images",
        ),
        (
            npy("|u1", "(1, 3)", &[0; 3]),
            "holds labels of shape [1, 3] for 3 images",
        ),
        (npy("|u1", "(3, 0)", &[]), "holds labels of shape [3, 0]"),
        (npy("|u1", "()", &[0]), "holds labels of shape []"),
        (
            npy("|u1", "(3, 1, 1)", &[0; 3]),
            "holds labels of shape [3, 1, 1]",
        ),
        (
            npy("|u1", "(3, 2)", &[1, 0, 1, 1, 0, 1]),
            "row 1 is not one 1 among zeros",
        ),
        (
            npy("|u1", "(3, 2)", &[1, 0, 0, 1, 0, 0]),
            "row 2 is not one 1 among zeros",
        ),
        (
            npy("|u1", "(3, 2)", &[1, 0, 0, 1, 0, 2]),
            "row 2 is not one 1 among zeros",
        ),
        (
            npy("|i1", "(3,)", &[0, 255, 0]),
            "holds the label -1 at 1, and labels are whole numbers from 0 to 1048576; save one whole number from 0 on an image, or one-hot rows",
        ),
        (
            npy("<f4", "(3,)", &f32s(&[0.0, 0.5, 1.0])),
            "the label 0.5 at 1",
        ),
        (
            npy("<f4", "(3,)", &f32s(&[0.0, 1.0, f32::NAN])),
            "the label NaN at 2",
        ),
        (
            npy("<u8", "(3,)", &[255; 24]),
            "the label 18446744000000000000 at 0",
        ),
    ]
}

#[test]
fn labels_of_every_kind_of_number_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let beside = write(dir.path(), "a.npy", &images());
    for (bytes, labels, count) in readable() {
        let mut config = config(DataKind::Npy, &beside);
        config.labels = Some(write(dir.path(), "l.npy", &bytes));
        let archive = zip_of(&[("images.npy", &images()), ("labels.npy", &bytes)]);
        let archive = write(dir.path(), "a.npz", &archive);
        for config in [config, crate::fixtures::config(DataKind::Npy, &archive)] {
            let set = load(&config).unwrap();
            assert_eq!(set.labels().unwrap(), labels);
            assert_eq!(set.num_classes(), Some(count));
        }
    }
}

#[test]
fn labels_that_nobody_asked_for_are_left_out_with_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    // structured, as numpy writes it
    let mut structured = npy("|u1", "(3,)", &[0; 3]);
    let at = structured
        .windows(5)
        .position(|window| window == b"'|u1'")
        .unwrap();
    structured.splice(at..at + 5, *b"[('a', '|u1')]");
    let length = structured.len() - 10 - 3;
    structured[8] = length as u8;
    let mut arrays = unreadable();
    arrays.push((structured, "something other than a plain type"));
    for (bytes, hint) in arrays {
        let archive = zip_of(&[("labels.npy", &bytes), ("images.npy", &images())]);
        let path = write(dir.path(), "a.npz", &archive);
        let (set, said) = warnings(|| load(&config(DataKind::Npy, &path)).unwrap());
        assert_eq!(
            (set.len(), set.labels(), set.num_classes()),
            (3, None, None),
            "{hint}"
        );
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].starts_with("the labels are skipped: "), "{said:?}");
        assert!(
            said[0].contains("labels.npy: ") && said[0].contains(hint),
            "{hint}: {said:?}"
        );
    }
}

#[test]
fn labels_that_were_asked_for_must_be_readable() {
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.npy", &images());
    let mut config = config(DataKind::Npy, &path);
    for (bytes, hint) in unreadable() {
        config.labels = Some(write(dir.path(), "l.npy", &bytes));
        let message = load_error(&config).to_string();
        assert!(
            message.contains("l.npy: ") && message.contains(hint),
            "{hint}: {message}"
        );
    }
}
