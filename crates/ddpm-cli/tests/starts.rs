//! The binary starts. This test also makes cargo build it for the end-to-end tests of the workspace.

use std::process::Command;

#[test]
fn version_is_the_packages() {
    let output = Command::new(env!("CARGO_BIN_EXE_ddpm"))
        .arg("--version")
        .output()
        .unwrap();
    assert!(output.status.success());
    let expected = format!("ddpm {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
