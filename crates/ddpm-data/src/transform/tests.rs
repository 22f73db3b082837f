use super::*;

fn fitting() -> Fitting {
    Fitting {
        size: None,
        channels: None,
        background: None,
        fit: Fit::Crop,
        max_pixels: 1 << 20,
    }
}

fn pixel(channels: usize, samples: &[u8]) -> Raster {
    Raster::new(1, 1, channels, Samples::U8(samples.to_vec()))
}

fn bytes(raster: &Raster) -> Vec<u8> {
    match &raster.samples {
        Samples::U8(bytes) => bytes.clone(),
        Samples::Unit(units) => units.iter().map(|&unit| u8::from_unit(unit)).collect(),
    }
}

#[test]
fn channels_and_alpha() {
    let white = Some(Rgb([255; 3]));
    let red = Some(Rgb([255, 0, 0]));
    let half = [10, 20, 30, 128];
    for (from, channels, background, want) in [
        // as the source has it
        (&[7][..], None, None, &[7][..]),
        (&half, None, None, &half),
        // a background removes alpha whatever the source
        (&[7], None, white, &[7]),
        (&[7, 0], None, white, &[255]),
        (&[7, 255], None, white, &[7]),
        (&[10, 20, 30, 0], None, red, &[255, 0, 0]),
        (&half, None, white, &[132, 137, 142]),
        // black where alpha must go and there is no background
        (&half, Some(3), None, &[5, 10, 15]),
        (&[100, 128], Some(1), None, &[50]),
        // alpha added and kept
        (&[7], Some(2), None, &[7, 255]),
        (&[1, 2, 3], Some(4), None, &[1, 2, 3, 255]),
        (&[7, 9], Some(4), None, &[7, 7, 7, 9]),
        (&half, Some(4), None, &half),
        // grey: BT.601
        (&[255, 0, 0], Some(1), None, &[76]),
        (&[0, 255, 0], Some(1), None, &[150]),
        (&[0, 0, 255], Some(1), None, &[29]),
        (&[9, 9, 9], Some(1), None, &[9]),
        (&[255, 0, 0, 77], Some(2), None, &[76, 77]),
        (&[9], Some(3), None, &[9, 9, 9]),
    ] {
        let fitting = Fitting {
            channels,
            background,
            ..fitting()
        };
        let got = fitting.apply(pixel(from.len(), from)).unwrap();
        assert_eq!(bytes(&got), want, "{from:?} {channels:?} {background:?}");
        // and the same for floats
        let units = Samples::Unit(from.iter().map(|&byte| byte.to_unit()).collect());
        let got = fitting.apply(Raster::new(1, 1, from.len(), units)).unwrap();
        assert_eq!(bytes(&got), want, "floats {from:?} {channels:?}");
    }
}

/// Grey, each column its own value.
fn columns(values: &[u8], height: usize) -> Raster {
    Raster::new(values.len(), height, 1, Samples::U8(values.repeat(height)))
}

#[test]
fn crop_takes_the_middle() {
    let to = |size, raster: &Raster| {
        Fitting {
            size: Some(size),
            ..fitting()
        }
        .apply(raster.clone())
        .unwrap()
    };
    // no resampling where the short side already fits
    let wide = columns(&[0, 1, 2, 3, 4, 5], 2);
    let got = to(Size::square(2), &wide);
    assert_eq!(bytes(&got), [2, 3, 2, 3]);
    let tall = Raster::new(1, 5, 1, Samples::U8(vec![0, 1, 2, 3, 4]));
    assert_eq!(bytes(&to(Size::square(1), &tall)), [2]);
    // the size itself is untouched
    assert_eq!(
        to(
            Size {
                height: 2,
                width: 6
            },
            &wide
        ),
        wide
    );
    // one colour stays one colour at any size
    for (height, width) in [(7, 3), (1, 9), (16, 16)] {
        let plain = Raster::new(5, 4, 3, Samples::U8([9, 80, 200].repeat(20)));
        let got = to(Size { height, width }, &plain);
        assert_eq!(got.shape(), [3, height, width]);
        assert_eq!(bytes(&got), [9, 80, 200].repeat(height * width));
    }
}

#[test]
fn pad_centres_and_fills() {
    let fitting = |background| Fitting {
        size: Some(Size {
            height: 4,
            width: 2,
        }),
        fit: Fit::Pad,
        background,
        ..fitting()
    };
    let square = columns(&[100, 200], 2);
    let padded = fitting(None).apply(square.clone()).unwrap();
    assert_eq!(bytes(&padded), [0, 0, 100, 200, 100, 200, 0, 0]);
    let padded = fitting(Some(Rgb([7; 3]))).apply(square).unwrap();
    assert_eq!(bytes(&padded), [7, 7, 100, 200, 100, 200, 7, 7]);
    // padding is transparent where there is alpha
    let alpha = Raster::new(2, 2, 2, Samples::U8([50, 255].repeat(4)));
    let padded = fitting(None).apply(alpha).unwrap();
    assert_eq!(bytes(&padded)[..4], [0; 4]);
    assert_eq!(bytes(&padded)[4..6], [50, 255]);
    // a very long image still gets a row
    let long = Raster::new(1000, 1, 1, Samples::U8(vec![9; 1000]));
    let padded = fitting(None).apply(long).unwrap();
    assert_eq!(padded.shape(), [1, 4, 2]);
    assert!(bytes(&padded).contains(&9));
}

#[test]
fn stretch_ignores_the_aspect_ratio() {
    let fitting = Fitting {
        size: Some(Size::square(2)),
        fit: Fit::Stretch,
        ..fitting()
    };
    let got = bytes(
        &fitting
            .apply(columns(&[0, 0, 0, 0, 255, 255, 255, 255], 2))
            .unwrap(),
    );
    assert_eq!(got.len(), 4);
    assert!(got[0] < 30 && got[1] > 225, "{got:?}");
    assert_eq!(got[..2], got[2..]);
}

#[test]
fn the_colour_of_transparent_pixels_does_not_bleed() {
    // left half opaque red, right half transparent green
    let row: Vec<u8> = [[255, 0, 0, 255]; 4]
        .into_iter()
        .chain([[0, 255, 0, 0]; 4])
        .flatten()
        .collect();
    let raster = Raster::new(8, 8, 4, Samples::U8(row.repeat(8)));
    let fitting = Fitting {
        size: Some(Size::square(4)),
        ..fitting()
    };
    let got = bytes(&fitting.apply(raster).unwrap());
    for pixel in got.chunks_exact(4) {
        assert_eq!(pixel[1], 0, "{pixel:?}");
        assert!(pixel[3] == 0 || pixel[0] >= 254, "{pixel:?}");
    }
}

#[test]
fn floats_and_bytes_resize_alike() {
    let values: Vec<u8> = (0..100).map(|i| (i * 37 % 256) as u8).collect();
    let fitting = Fitting {
        size: Some(Size {
            height: 7,
            width: 13,
        }),
        fit: Fit::Stretch,
        ..fitting()
    };
    let as_bytes = Raster::new(10, 10, 1, Samples::U8(values.clone()));
    let units = values.iter().map(|&byte| byte.to_unit()).collect();
    let as_units = Raster::new(10, 10, 1, Samples::Unit(units));
    let one = bytes(&fitting.apply(as_bytes).unwrap());
    let other = bytes(&fitting.apply(as_units).unwrap());
    for (a, b) in one.iter().zip(&other) {
        assert!(a.abs_diff(*b) <= 1, "{a} {b}");
    }
}

#[test]
fn a_very_wide_image_does_not_make_a_huge_buffer() {
    let wide = |fit| {
        let fitting = Fitting {
            size: Some(Size::square(64)),
            fit,
            max_pixels: 100_000,
            ..fitting()
        };
        fitting.apply(Raster::new(100_000, 1, 1, Samples::U8(vec![1; 100_000])))
    };
    assert!(wide(Fit::Crop).is_ok());
    assert!(wide(Fit::Pad).is_ok());
    assert!(matches!(
        wide(Fit::Stretch),
        Err(Fault::Limit { got: 6_400_000, .. })
    ));
}
