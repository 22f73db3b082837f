//! Networks that Python's diffusers wrote, through the command line.

use ddpm_store::TensorFile;
use ddpm_tests::{Workplace, repository};

#[test]
fn predict_is_what_diffusers_computed() {
    let place = Workplace::new();
    for name in [
        "ho_cifar_like",
        "class_scale_shift_gray",
        "library_defaults",
    ] {
        let folder = repository()
            .join("crates/ddpm-unet/tests/fixtures")
            .join(name);
        let input = folder.join("io.safetensors");
        let [folder, io] = [&folder, &input].map(|path| path.to_str().unwrap());
        place
            .ddpm([
                "predict",
                "--model",
                folder,
                "--input",
                io,
                "--output",
                "y.safetensors",
                "--device",
                "cpu",
            ])
            .done();
        let y = TensorFile::read(&place.path("y.safetensors")).unwrap();
        let expected = TensorFile::read(&input).unwrap();
        let (y, expected) = (y.get("y").unwrap(), expected.get("y").unwrap());
        assert_eq!(y.shape, expected.shape);
        let square = |x: f64| x * x;
        let pairs = y.data.iter().zip(&expected.data);
        let error: f64 = pairs.map(|(a, b)| square(f64::from(a - b))).sum();
        let size: f64 = expected.data.iter().map(|b| square(f64::from(*b))).sum();
        // Single precision over some forty layers; the layouts and constants are exact.
        assert!((error / size).sqrt() < 1e-4, "{name}");
    }
}

#[test]
fn sample_and_inspect_read_a_diffusers_directory() {
    let place = Workplace::new();
    let folder = repository().join("crates/ddpm-unet/tests/fixtures/library_defaults");
    let folder = folder.to_str().unwrap();
    let text = place.ddpm(["inspect", folder]).done().stdout;
    assert!(
        text.contains("UNet2DModel") && text.contains("16x16"),
        "{text}"
    );
    place
        .ddpm([
            "sample",
            "--model",
            folder,
            "-n",
            "2",
            "--sampler",
            "ddim",
            "--steps",
            "2",
            "--grid",
            "g.png",
        ])
        .done();
    let classes = repository().join("crates/ddpm-unet/tests/fixtures/class_scale_shift_gray");
    place
        .ddpm(["sample", "--model", classes.to_str().unwrap(), "-n", "1"])
        .failed(2, &["--class", "10"]);
}

#[test]
fn schedule_prints_and_plots() {
    let place = Workplace::new();
    let ended = place
        .ddpm([
            "schedule",
            "--kind",
            "cosine",
            "--plot",
            "cosine.png",
            "--json",
        ])
        .done()
        .json();
    assert_eq!(ended["alpha_bar"].as_array().unwrap().len(), 1000);
    assert_eq!(
        &std::fs::read(place.path("cosine.png")).unwrap()[1..4],
        b"PNG"
    );
    let text = place.ddpm(["schedule", "--rows", "3"]).done().stdout;
    assert_eq!(text.lines().count(), 4, "{text}");
    place
        .ddpm(["schedule", "--steps", "20000"])
        .failed(2, &["20000"]);
}

#[test]
fn devices_are_listed() {
    let place = Workplace::new();
    let json = place.ddpm(["devices", "--json"]).done().json();
    let cpu = &json["devices"][0];
    assert_eq!(
        (&cpu["feature"], &cpu["devices"][0]["device"]),
        (&"cpu".into(), &"cpu".into())
    );
    assert!(
        cpu["devices"][0]["total_bytes"].as_u64() > Some(0),
        "{json}"
    );
    let text = place.ddpm(["devices"]).done().stdout;
    assert!(text.starts_with("cpu         "), "{text}");
}
