use image::ImageFormat;

use super::*;
use crate::config::DataKind;
use crate::fixtures::{config, encode, gzip, idx, noisy_png, npy, png, rgb, rgba, write, zip_of};

#[test]
fn sizes_and_channels_are_read_from_headers() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.png", &png(40, 30, [1, 2, 3]));
    write(dir.path(), "b.png", &png(20, 50, [1, 2, 3]));
    write(
        dir.path(),
        "c.jpg",
        &encode(&rgb(70, 60, [9; 3]), ImageFormat::Jpeg),
    );
    write(
        dir.path(),
        "d.tif",
        &encode(&rgb(10, 90, [9; 3]), ImageFormat::Tiff),
    );
    write(
        dir.path(),
        "e.webp",
        &encode(&rgb(80, 80, [9; 3]), ImageFormat::WebP),
    );
    write(dir.path(), "f.heic", b"\0\0\0\x18ftypheic");
    write(dir.path(), "g.png", b"nothing");
    let survey = survey(&config(DataKind::Folder, dir.path())).unwrap();
    assert_eq!((survey.images, survey.examined), (6, 6));
    assert_eq!(survey.size, None);
    assert_eq!(survey.short_sides, [10, 30, 80]);
    assert_eq!((survey.channels, survey.same_channels), (3, true));
    assert_eq!(survey.num_classes, None);
    assert_eq!(survey.bad.len(), 1);
    assert!(survey.bad[0].reason.contains("nothing"));
    assert_eq!(
        survey.passed_over.kinds().collect::<Vec<_>>(),
        [("HEIC", 1)]
    );
    assert_eq!(
        survey.describe(),
        "6 images, of different sizes, the short side from 10 to 80 pixels (median 30), 3 channels"
    );
}

#[test]
fn pixels_are_not_needed() {
    let dir = tempfile::tempdir().unwrap();
    let whole = noisy_png(400, 300);
    assert!(whole.len() > 200_000);
    // a file whose second half is not what it should be, which only a decoder sees
    write(dir.path(), "a.png", &whole[..whole.len() / 2]);
    let jpeg = encode(
        &image::load_from_memory(&noisy_png(600, 500)).unwrap(),
        ImageFormat::Jpeg,
    );
    assert!(jpeg.len() > 140_000, "{}", jpeg.len());
    write(dir.path(), "b.jpg", &jpeg[..jpeg.len() - 10]);
    let survey = survey(&config(DataKind::Folder, dir.path())).unwrap();
    assert_eq!(survey.bad, []);
    assert_eq!(survey.short_sides, [300, 300, 500]);
}

#[test]
fn channels_are_those_that_lose_nothing() {
    let grey = |value| encode(&rgb(4, 4, [value; 3]).to_luma8().into(), ImageFormat::Png);
    let alpha = |alpha| encode(&rgba(4, 4, [1, 2, 3, alpha]), ImageFormat::Png);
    let grey_alpha = encode(
        &rgba(4, 4, [5, 5, 5, 9]).to_luma_alpha8().into(),
        ImageFormat::Png,
    );
    let opaque_gif = encode(&rgb(4, 4, [1, 2, 3]), ImageFormat::Gif);
    for (files, want) in [
        (vec![grey(1), grey(2)], (1, true)),
        (vec![grey(1), png(4, 4, [1, 2, 3])], (3, false)),
        (vec![grey(1), alpha(9)], (4, false)),
        // alpha that hides nothing
        (vec![png(4, 4, [1, 2, 3]), alpha(255)], (3, false)),
        (vec![alpha(9), alpha(255)], (4, true)),
        (vec![grey(1), grey_alpha], (2, false)),
        (vec![opaque_gif], (3, false)),
    ] {
        let dir = tempfile::tempdir().unwrap();
        for (i, bytes) in files.iter().enumerate() {
            write(dir.path(), &format!("{i}.png"), bytes);
        }
        let survey = survey(&config(DataKind::Folder, dir.path())).unwrap();
        assert_eq!((survey.channels, survey.same_channels), want);
        assert_eq!(survey.size, Some(Size::square(4)));
    }
}

#[test]
fn a_turned_photograph_counts_upright() {
    // a JPEG of 30×20 with an EXIF orientation of 6: a quarter turn
    let mut jpeg = encode(&rgb(30, 20, [9; 3]), ImageFormat::Jpeg);
    let exif =
        b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    jpeg.splice(2..2, exif.iter().copied());
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.jpg", &jpeg);
    let of = config(DataKind::Folder, dir.path());
    let size = Size {
        height: 30,
        width: 20,
    };
    assert_eq!(survey(&of).unwrap().size, Some(size));
    let set = crate::fixtures::load(&of).unwrap();
    assert_eq!((set.height(), set.width()), (30, 20));
}

#[test]
fn every_kind_has_a_survey() {
    let dir = tempfile::tempdir().unwrap();
    let zip = write(
        dir.path(),
        "a.zip",
        &zip_of(&[
            ("a/1.png", &png(6, 5, [1, 2, 3])),
            ("b/2.png", &png(6, 5, [0; 3])),
        ]),
    );
    let size = |height, width| Some(Size { height, width });
    let of_zip = survey(&config(DataKind::Zip, &zip)).unwrap();
    assert_eq!((of_zip.images, of_zip.size), (2, size(5, 6)));
    assert_eq!((of_zip.channels, of_zip.num_classes), (3, Some(2)));

    let mut of = config(
        DataKind::Idx,
        &write(dir.path(), "a.gz", &gzip(&idx(&[2, 2, 3], &[0; 12]))),
    );
    assert_eq!(survey(&of).unwrap().size, size(2, 3));
    of.transpose = true;
    assert_eq!(survey(&of).unwrap().size, size(3, 2));

    let npy = write(dir.path(), "a.npy", &npy("|u1", "(2, 5, 4, 3)", &[0; 120]));
    let of_npy = survey(&config(DataKind::Npy, &npy)).unwrap();
    assert_eq!(
        (of_npy.images, of_npy.size, of_npy.channels),
        (2, size(5, 4), 3)
    );

    let digits = survey(&DataConfig::default()).unwrap();
    assert_eq!(
        (digits.images, digits.size, digits.channels),
        (1797, size(8, 8), 1)
    );
}

#[test]
fn without_one_good_header_it_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.png", b"nothing");
    let error = survey(&config(DataKind::Folder, dir.path())).unwrap_err();
    assert!(
        error.to_string().contains("its only image is bad"),
        "{error}"
    );
}

#[test]
fn what_is_examined_is_spread_evenly() {
    assert_eq!(spread(3, 5), [0, 1, 2]);
    assert_eq!(spread(9, 3), [0, 4, 8]);
    assert!(spread(0, 3).is_empty());
}
