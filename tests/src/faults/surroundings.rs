//! Row 17: a closed stdout, a run directory that cannot be written, a path that is not UTF-8.

use std::ffi::OsString;
use std::fs;
use std::process::Stdio;

use anyhow::{Result, ensure};

use super::sameness::writable;
use super::toy;
use super::{Form, Passed};
use crate::{Ended, Sandbox};

/// All three.
pub fn are_odd(_form: Form) -> Result<Passed> {
    let place = Sandbox::new();
    closed_stdout(&place)?;
    let how = read_only(&place)?;
    let path = odd_path(&place)?;
    Ok(Passed {
        count: 3,
        note: format!("{how}; {path}"),
    })
}

fn closed_stdout(place: &Sandbox) -> Result<()> {
    let trained = toy::begin("closed", &["train.steps=2"]);
    for args in [
        trained,
        vec!["schedule".into(), "--rows".into(), "1000".into()],
    ] {
        let mut child = place
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        drop(child.stdout.take());
        toy::expect(&Ended::from(child.wait_with_output()?), 0, &[])?;
    }
    Ok(())
}

/// By its permissions where they bind this process, else by the errors that a read-only disk gives.
fn read_only(place: &Sandbox) -> Result<&'static str> {
    const EROFS: &str = "30";
    let reference = toy::reference(place, &[])?;
    let mut command = place.faulty(toy::begin("fixed", &["train.steps=60"]));
    command.env("DDPM_DISK", format!("fail:1:{EROFS}:always"));
    toy::expect(
        &toy::end(&mut command)?,
        4,
        &["fixed", "Read-only file system"],
    )?;
    // A run that was written earlier, on a disk that is read-only now: nothing changes and nothing is lost.
    toy::expect(
        &toy::end(&mut place.command(toy::begin("fixed", &[])))?,
        0,
        &[],
    )?;
    fs::remove_dir_all(place.path("fixed/checkpoints/step-60"))?;
    let mut command = place.faulty(toy::go_on("fixed"));
    command.env("DDPM_DISK", format!("fail:1:{EROFS}:always"));
    toy::expect(
        &toy::end(&mut command)?,
        4,
        &["fixed", "Read-only file system"],
    )?;
    toy::finish(place, "fixed", &[], &reference)?;

    let locked = place.path("locked");
    fs::create_dir(&locked)?;
    let mut permissions = fs::metadata(&locked)?.permissions();
    permissions.set_readonly(true);
    fs::set_permissions(&locked, permissions.clone())?;
    if writable(&locked) {
        return Ok("read-only by errors of the disk (permissions do not bind a superuser)");
    }
    let ended = toy::end(&mut place.command(toy::begin("locked/run", &[])))?;
    toy::expect(&ended, 4, &["locked/run", "Permission denied"])?;
    #[expect(
        clippy::permissions_set_readonly_false,
        reason = "the folder is removed next"
    )]
    permissions.set_readonly(false);
    fs::set_permissions(&locked, permissions)?;
    Ok("read-only by errors of the disk and by permissions")
}

#[cfg(unix)]
fn odd_path(place: &Sandbox) -> Result<&'static str> {
    use std::os::unix::ffi::OsStringExt;
    let name = OsString::from_vec(b"r\xfcn-\xff".to_vec());
    let mut args: Vec<OsString> = toy::begin("RUN", &["train.steps=12"])
        .into_iter()
        .map(OsString::from)
        .collect();
    for arg in &mut args {
        if arg == "RUN" {
            arg.clone_from(&name);
        }
    }
    toy::expect(&toy::end(&mut place.command(&args))?, 0, &[])?;
    ensure!(place.path(&name).join("checkpoints/step-12").is_dir());
    let commands: [&[&str]; 3] = [
        &["sample", "-n", "1", "--grid", "odd.png", "--model"],
        &["inspect"],
        &["checkpoint", "verify"],
    ];
    for command in commands {
        let args = command.iter().map(OsString::from).chain([name.clone()]);
        toy::expect(&toy::end(&mut place.command(args))?, 0, &[])?;
    }
    let mut go_on: Vec<OsString> = [
        "train",
        "--json",
        "--resume",
        "--set",
        "train.steps=14",
        "--run",
    ]
    .map(OsString::from)
    .to_vec();
    go_on.push(name.clone());
    toy::expect(&toy::end(&mut place.command(go_on))?, 0, &[])?;
    ensure!(place.path(&name).join("checkpoints/step-14").is_dir());
    Ok("the path is not UTF-8")
}

#[cfg(not(unix))]
fn odd_path(_place: &Sandbox) -> Result<&'static str> {
    Ok("paths are always Unicode here")
}
