use super::*;

/// The rules hold in this very workspace.
#[test]
fn the_workspace_is_tidy() {
    let broken = check(&crate::root().unwrap()).unwrap();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

const PACKAGE: &str = "version.workspace = true\nedition.workspace = true\nrust-version.workspace = true\nlicense.workspace = true\npublish.workspace = true\n[lints]\nworkspace = true\n";

/// A workspace of files under `crates/` and beside it.
fn workspace(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let manifest = [("Cargo.toml", "[workspace]\nmembers = ['crates/*']\n")];
    for (path, text) in manifest.iter().chain(files) {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

/// What is broken where one crate `name`, beside an empty ddpm-schedule, ddpm-train and ddpm-device, has more
/// text in its manifest and `code` as its library.
fn broken(name: &str, manifest: &str, code: &str) -> Vec<String> {
    let package = |name: &str, more: &str| format!("[package]\nname = '{name}'\n{PACKAGE}{more}");
    let folder = format!("crates/{name}");
    let root = workspace(&[
        (
            "crates/ddpm-schedule/Cargo.toml",
            &package("ddpm-schedule", ""),
        ),
        ("crates/ddpm-train/Cargo.toml", &package("ddpm-train", "")),
        ("crates/ddpm-device/Cargo.toml", &package("ddpm-device", "")),
        (&format!("{folder}/Cargo.toml"), &package(name, manifest)),
        (&format!("{folder}/src/lib.rs"), code),
    ]);
    check(root.path()).unwrap()
}

#[test]
fn each_rule_on_manifests_can_break() {
    let cases: &[(&str, &str, &[&str])] = &[
        (
            "ddpm-data",
            "[dependencies]\nddpm-schedule.workspace = true",
            &[],
        ),
        (
            "ddpm-data",
            "[dependencies]\nddpm-train.workspace = true",
            &["ddpm-data may not use ddpm-train"],
        ),
        (
            "ddpm-unet",
            "[target.'cfg(unix)'.dependencies]\nddpm-train.workspace = true",
            &["ddpm-unet may not use ddpm-train"],
        ),
        (
            "ddpm-unet",
            "[build-dependencies]\nrenamed = { workspace = true, package = 'ddpm-train' }",
            &["ddpm-unet may not use ddpm-train"],
        ),
        (
            "ddpm-data",
            "[dev-dependencies]\nddpm-train.workspace = true",
            &["tests of ddpm-data may not use ddpm-train"],
        ),
        (
            "ddpm-tests",
            "[dev-dependencies]\nddpm-schedule.workspace = true",
            &[],
        ),
        (
            "ddpm-tests",
            "[dependencies]\nddpm-cli.workspace = true",
            &[],
        ),
        (
            "ddpm-schedule",
            "[dependencies]\nddpm-train.workspace = true",
            &["ddpm-schedule may not use ddpm-train"],
        ),
        (
            "ddpm-cli",
            "[dependencies]\nddpm-train.workspace = true\nanyhow.workspace = true",
            &[],
        ),
        (
            "ddpm-unet",
            "[dependencies]\nddpm-device.workspace = true",
            &["ddpm-unet may not use ddpm-device"],
        ),
        (
            "ddpm-data",
            "[dependencies]\nserde = '1'",
            &["`serde` is not `workspace = true`; versions stand in the workspace's Cargo.toml"],
        ),
        (
            "ddpm-data",
            "[dependencies]\nserde = { path = '../serde' }",
            &["`serde` is not `workspace = true`; versions stand in the workspace's Cargo.toml"],
        ),
        (
            "ddpm-data",
            "[dependencies]\nanyhow.workspace = true",
            &["a library has typed errors and does not use anyhow"],
        ),
        (
            "ddpm-extra",
            "",
            &["ddpm-extra is not in the table of who may use whom (xtask/src/tidy/manifest.rs)"],
        ),
    ];
    for (name, manifest, rules) in cases {
        let expected: Vec<String> = rules
            .iter()
            .map(|rule| format!("crates/{name}/Cargo.toml: {rule}"))
            .collect();
        assert_eq!(broken(name, manifest, ""), expected, "{name}: {manifest}");
    }
}

#[test]
fn a_package_inherits_from_the_workspace() {
    let root = workspace(&[(
        "crates/ddpm-data/Cargo.toml",
        "[package]\nname = 'ddpm-data'\nversion = '1.0.0'\nedition.workspace = true\nrust-version.workspace = true\npublish.workspace = true\n",
    )]);
    assert_eq!(
        check(root.path()).unwrap(),
        [
            "crates/ddpm-data/Cargo.toml: `license` is not `license.workspace = true`",
            "crates/ddpm-data/Cargo.toml: `version` is not `version.workspace = true`",
            "crates/ddpm-data/Cargo.toml: the workspace's lints are not inherited",
        ]
    );
}

#[test]
fn each_rule_on_code_can_break() {
    const PRINTS: &str = ": a library prints nothing; use tracing";
    const READS: &str = ": a library does not read the environment; take an argument";
    const BACKEND: &str = ": only ddpm-kernels may name burn's module `backend`";
    let cases: &[(&str, &str, &[&str])] = &[
        ("ddpm-data", "fn f() {}\n", &[]),
        ("ddpm-data", "fn f() {\n    eprintln!(\"a\");\n}", &[":2"]),
        ("ddpm-data", "print!(\"a\");", &[":1"]),
        ("ddpm-cli", "println!(\"a\");\nstd::env::var(\"A\");", &[]),
        ("ddpm-data", "// println!(\"a\");", &[]),
        (
            "ddpm-data",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    println!();\n}",
            &[],
        ),
    ];
    for (name, code, lines) in cases {
        let expected: Vec<String> = lines
            .iter()
            .map(|line| format!("crates/{name}/src/lib.rs{line}{PRINTS}"))
            .collect();
        assert_eq!(broken(name, "", code), expected, "{code}");
    }
    let environment = "use std::env;\n\nfn f() { env::var(\"A\"); }";
    assert_eq!(
        broken("ddpm-data", "", environment),
        [1, 3].map(|line| format!("crates/ddpm-data/src/lib.rs:{line}{READS}"))
    );
    let backends = [
        ("use burn::backend::Flex;", true),
        (
            "use burn::{\n    Tensor,\n    backend::{Flex, Autodiff},\n};",
            true,
        ),
        (
            "use burn::{module::Module, tensor::{backend_of, Tensor}};",
            false,
        ),
        ("use burn::backends::Flex;", false),
        ("// as burn::backend does", false),
        ("use auburn::backend::Flex;", false),
    ];
    for (code, breaks) in backends {
        let expected = if breaks {
            vec![format!("crates/ddpm-unet/src/lib.rs{BACKEND}")]
        } else {
            Vec::new()
        };
        assert_eq!(broken("ddpm-unet", "", code), expected, "{code}");
        assert!(broken("ddpm-kernels", "", code).is_empty(), "{code}");
    }
}

#[test]
fn long_files_break_a_rule() {
    assert!(broken("ddpm-data", "", &"\n".repeat(600)).is_empty());
    assert_eq!(
        broken("ddpm-data", "", &"\n".repeat(601)),
        ["crates/ddpm-data/src/lib.rs: 601 lines are more than 600; make two files of it"]
    );
}

#[test]
fn files_of_tests_may_print() {
    let member = Member {
        name: "ddpm-data".into(),
        folder: "crates/ddpm-data".into(),
        manifest: Table::new(),
    };
    for (path, prints) in [
        ("src/folder.rs", false),
        ("src/folder/tests.rs", true),
        ("src/tests/helper.rs", true),
        ("tests/golden.rs", true),
        ("benches/noise.rs", true),
    ] {
        let broken = source::check(&member, Path::new(path), "println!();");
        assert_eq!(broken.is_empty(), prints, "{path}");
    }
}

#[test]
fn each_recipe_is_in_the_readme() {
    let recipes = [
        ("configs/a.toml", ""),
        ("configs/b.toml", ""),
        ("crates/.keep", ""),
    ];
    assert!(check(workspace(&recipes).path()).unwrap().is_empty());
    let readme = ("README.md", "Try `configs/a.toml`.");
    let files: Vec<_> = recipes.into_iter().chain([readme]).collect();
    assert_eq!(
        check(workspace(&files).path()).unwrap(),
        ["configs/b.toml: README.md does not mention this recipe"]
    );
}
