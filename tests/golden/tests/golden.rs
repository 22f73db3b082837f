//! The copies of the reference figures hold, and figures that are wrong do not.

#![expect(clippy::unwrap_used, reason = "the helpers of a test may stop it")]

use std::fs;
use std::path::{Path, PathBuf};

use ddpm_golden::{Case, Set, report, run, sets};
use serde_json::{Value, json};

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data")
}

/// A directory of its own with a copy of one set.
fn copy(set: &str, test: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(test);
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join(set).parent().unwrap()).unwrap();
    for extension in ["json", "safetensors"] {
        let file = format!("{set}.{extension}");
        if data().join(&file).is_file() {
            fs::copy(data().join(&file), dir.join(&file)).unwrap();
        }
    }
    dir
}

/// Rewrites the JSON of a set.
fn edit(dir: &Path, set: &str, edit: impl FnOnce(&mut Value)) {
    let file = dir.join(format!("{set}.json"));
    let mut json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    edit(&mut json);
    fs::write(file, json.to_string()).unwrap();
}

/// Adds 0.01 to the last number of a tensor.
fn spoil(dir: &Path, set: &str, tensor: &str) {
    let file = dir.join(format!("{set}.safetensors"));
    let mut bytes = fs::read(&file).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let about: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let end = about[tensor]["data_offsets"][1].as_u64().unwrap() as usize;
    let at = 8 + header + end - 4;
    let value = f32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    bytes[at..at + 4].copy_from_slice(&(value + 0.01).to_le_bytes());
    fs::write(file, bytes).unwrap();
}

/// The one set of a directory and its cases that fail.
fn failed(dir: &Path) -> (Set, Vec<Case>) {
    let set = run(dir).unwrap().remove(0);
    let failed = set.cases.iter().filter(|case| !case.held()).cloned();
    let failed = failed.collect();
    (set, failed)
}

#[test]
fn every_known_set_holds() {
    let found = run(&data()).unwrap();
    for kind in sets::KINDS {
        let of_kind: Vec<&Set> = found.iter().filter(|set| kind.is(&set.name)).collect();
        assert!(!of_kind.is_empty(), "{}: no copy in data/", kind.name);
        for set in of_kind {
            assert!(set.known && !set.cases.is_empty(), "{}", set.name);
            assert!(set.held(), "{}", report(&found));
        }
    }
}

#[test]
fn a_wrong_figure_fails_by_name() {
    for (set, case) in [
        ("trajectories", "ddim_v_prediction_noclip"),
        ("trajectories", "heun_epsilon"),
        ("guidance", "cfg_scale3_rescale07"),
        ("guidance", "edm_interval"),
        ("samplers2/diffusers", "plms"),
        ("samplers2/diffusers", "kdpm2_ancestral"),
        ("samplers2/diffusers", "flow_euler_shift3"),
        ("samplers2/k_diffusion", "dpmpp_sde_mixture"),
        ("samplers2/k_diffusion", "vp_v_lms"),
        ("samplers2/k_diffusion", "adaptive_gaussian"),
        ("samplers2/edm", "ablation_vp_euler"),
        ("editing", "sdedit_ddim_06"),
        ("editing", "repaint_ddim"),
    ] {
        let dir = copy(set, &format!("wrong {}", case));
        spoil(&dir, set, case);
        let (set, failed) = failed(&dir);
        assert!(!set.held());
        assert_eq!(failed.len(), 1, "{failed:?}");
        assert_eq!(failed[0].name, case);
        let difference = failed[0].difference.clone().unwrap();
        assert!(
            difference > failed[0].limit && difference < 0.011,
            "{difference}"
        );
        let text = report(&[set]);
        assert!(
            text.contains("no: 1 failed") && text.contains(&format!("{case}: ")),
            "{text}"
        );
    }
}

#[test]
fn a_wrong_number_in_a_table_fails() {
    for (set, pointer, wrong) in [
        ("schedules", "/schedules/0/beta/1", json!(0.00232)),
        ("schedules", "/schedules/3/alpha_bar/2", json!(0.5)),
        ("schedules", "/spacing/5/timesteps/0", json!(1)),
        ("samplers2/k_diffusion", "/sigma_to_t/t/2", json!(10.95)),
        (
            "samplers2/k_diffusion",
            "/schedule_tables/4/sigmas/2",
            json!(0.6619),
        ),
        ("samplers2/k_diffusion", "/adaptive/0/nfe", json!(33)),
        ("samplers2/k_diffusion", "/cases/0/sigmas/3", json!(12.7)),
        ("editing", "/strength_table/1/denoising_steps", json!(38)),
        (
            "editing",
            "/strength_table/11/timesteps_left/3",
            json!(714.1),
        ),
        ("editing", "/cases/1/timesteps_there/2", json!(41)),
        ("editing", "/cases/7/operations/4/2", json!(4)),
        ("metrics/resize", "/cases/0/rows/3", json!(75)),
        (
            "samplers2/edm",
            "/cases/0/network_calls_sigma/4",
            json!(57.69),
        ),
    ] {
        let dir = copy(set, "wrong number");
        edit(&dir, set, |json| {
            *json.pointer_mut(pointer).unwrap() = wrong
        });
        let (_, failed) = failed(&dir);
        assert_eq!(failed.len(), 1, "{set}{pointer}: {failed:?}");
    }
}

#[test]
fn what_has_no_meaning_here_fails_by_name() {
    for (set, pointer, value, words) in [
        (
            "samplers2/diffusers",
            "/cases/4/full_config/solver_type",
            json!("rk4"),
            "`solver_type` is \"rk4\"",
        ),
        (
            "samplers2/diffusers",
            "/cases/4/full_config/solver_ordr",
            json!(2),
            "solver_ordr",
        ),
        (
            "samplers2/diffusers",
            "/cases/4/step_args/etta",
            json!(2),
            "etta",
        ),
        (
            "samplers2/diffusers",
            "/cases/4/set_timesteps_args/sigmas",
            json!([1.0]),
            "sigmas",
        ),
        (
            "samplers2/diffusers",
            "/cases/4/scheduler",
            json!("NewScheduler"),
            "NewScheduler",
        ),
        (
            "samplers2/diffusers",
            "/cases/4/model",
            json!("unet"),
            "unet",
        ),
        ("samplers2/diffusers", "/cases/4/seed", json!(3), "seed"),
        (
            "samplers2/k_diffusion",
            "/cases/0/sampler",
            json!("sample_new"),
            "sample_new",
        ),
        (
            "samplers2/k_diffusion",
            "/cases/0/args/order",
            json!(3),
            "order",
        ),
        (
            "samplers2/k_diffusion",
            "/cases/0/denoiser",
            json!("uniform"),
            "uniform",
        ),
        (
            "metrics/resize",
            "/cases/0/source",
            json!("pixel(c,y,x) = x"),
            "is not known here",
        ),
        ("metrics/resize", "/cases/1/turned", json!(90), "turned"),
        (
            "samplers2/edm",
            "/cases/4/args/scaling",
            json!("none"),
            "scaling",
        ),
        (
            "trajectories",
            "/cases/0/name",
            json!("nameless"),
            "no tensor nameless",
        ),
        ("schedules", "/schedules/0/kind", json!("cubic"), "cubic"),
        ("schedules", "/tables", json!([1, 2]), "no part of this set"),
    ] {
        let dir = copy(set, "without meaning");
        edit(&dir, set, |json| {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            json.pointer_mut(parent).unwrap()[key] = value;
        });
        let (_, failed) = failed(&dir);
        assert_eq!(failed.len(), 1, "{set}{pointer}: {failed:?}");
        let problem = failed[0].difference.clone().unwrap_err();
        assert!(problem.contains(words), "{pointer}: {problem}");
    }
}

#[test]
fn sets_of_no_known_kind_are_listed() {
    let dir = copy("schedules", "unknown sets");
    fs::write(dir.join("new.json"), "{}").unwrap();
    fs::create_dir_all(dir.join("nets/small")).unwrap();
    let found = run(&dir).unwrap();
    let unknown = found
        .iter()
        .filter(|set| !set.known)
        .map(|set| set.name.as_str());
    assert_eq!(unknown.collect::<Vec<_>>(), ["nets/small", "new"]);
    assert!(report(&found).contains("nets/small: not known"));
    fs::remove_file(dir.join("schedules.json")).unwrap();
    assert!(run(&dir).is_err());
}

#[test]
fn files_that_cannot_be_read_fail() {
    let dir = copy("trajectories", "broken");
    fs::write(dir.join("trajectories.safetensors"), b"short").unwrap();
    let (set, failed) = failed(&dir);
    assert_eq!((set.cases.len(), failed.len()), (1, 1));
    fs::write(dir.join("trajectories.json"), "{\"cases\": []}").unwrap();
    fs::remove_file(dir.join("trajectories.safetensors")).unwrap();
    assert!(!run(&dir).unwrap()[0].held());
}
