//! Packs what a rented machine with a GPU needs into one folder: programs, PyTorch's side, recipes, a script.
//!
//! The script, `bundle/run.sh`, needs no cargo and no network there. Nothing in the folder knows where it was made.

use std::ffi::OsStr;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};
use clap::Args;

use crate::cuda_offline;
use crate::step::say;

/// What the script starts.
const PROGRAMS: [&str; 3] = ["ddpm", "ddpm-bench", "xtask"];

/// Folders of the workspace whose files come along, and what those end in.
const FOLDERS: [(&str, &str, &[&str]); 5] = [
    ("xtask/peer", "peer", &["py"]),
    ("xtask/peer/configs", "peer/configs", &["json"]),
    // What `peer/hopper.py` measures.
    ("crates/ddpm-kernels/src/cube/hopper", "peer", &["cu"]),
    ("configs", "configs", &["toml"]),
    ("configs/data", "configs/data", &["zip", "md"]),
];

/// What is packed, and where.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo xtask gpu-bundle                              builds for CUDA with NVRTC, packs into target/gpu-bundle
  cargo xtask gpu-bundle --binaries target/release    packs programs that are there
  bash target/gpu-bundle/run.sh                       there: checks, trains, measures; tables last")]
pub struct Options {
    /// The folder to write, empty or not there; a bundle that is there is written anew
    #[arg(long, value_name = "DIR", default_value = "target/gpu-bundle")]
    out: PathBuf,
    /// A folder of ready-made `ddpm` and `ddpm-bench`, instead of building them; `xtask` is this program if it is
    /// not there
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

/// Packs it.
///
/// # Errors
/// If something does not build, is not there or cannot be written.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    let binaries = match &options.binaries {
        Some(folder) => folder.clone(),
        None => {
            cuda_offline::run(root, &cuda_offline::Options::release())?;
            root.join(cuda_offline::PROGRAMS)
        }
    };
    clear(&options.out)?;
    let staging = tempfile::tempdir()?;
    for name in PROGRAMS {
        let file = format!("{name}{}", std::env::consts::EXE_SUFFIX);
        let mut from = binaries.join(&file);
        if name == "xtask" && !from.is_file() {
            from = std::env::current_exe()?;
        }
        let to = staging.path().join(&file);
        copy(&from, &to)?;
        strip(&to)?;
    }
    pack(staging.path(), &options.out)?;
    for (from, to, endings) in FOLDERS {
        copy_folder(&root.join(from), &options.out.join(to), endings)?;
    }
    copy(
        &root.join("xtask/bundle/run.sh"),
        &options.out.join("run.sh"),
    )?;
    let bytes = size(&options.out)?;
    say(&format!(
        "{}: {:.1} MiB; there, run: bash run.sh",
        options.out.display(),
        bytes as f64 / 1024.0 / 1024.0
    ));
    Ok(())
}

/// An empty folder. Only a bundle is removed, which is known by its script.
fn clear(folder: &Path) -> anyhow::Result<()> {
    let context = || folder.display().to_string();
    match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(context),
        Ok(mut entries) => {
            let bundle = folder.join("run.sh").is_file() && folder.join("peer").is_dir();
            ensure!(
                bundle || entries.next().is_none(),
                "{}: holds something else than a bundle; give --out an empty folder",
                folder.display()
            );
            fs::remove_dir_all(folder).with_context(context)?;
        }
    }
    fs::create_dir_all(folder).with_context(context)
}

/// Copies a file with its permissions.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = fs::copy(from, to);
    copied.with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Copies the files of a folder that end in one of these, and no folders below it.
fn copy_folder(from: &Path, to: &Path, endings: &[&str]) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let path = entry?.path();
        let ending = path.extension().and_then(OsStr::to_str).unwrap_or_default();
        if let Some(name) = path.file_name().filter(|_| endings.contains(&ending)) {
            copy(&path, &to.join(name))?;
        }
    }
    Ok(())
}

/// Removes the symbols, which are half of a program, where the system can.
fn strip(program: &Path) -> anyhow::Result<()> {
    match tool(Command::new("strip").arg(program))? {
        true => Ok(()),
        false => {
            say("no `strip` here, so the programs keep their symbols");
            Ok(())
        }
    }
}

/// One archive of all programs, packed if the system can: they have most of their code in common, and xz's window
/// is as large as that takes.
fn pack(staging: &Path, out: &Path) -> anyhow::Result<()> {
    let archive = out.join("binaries.tar");
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(staging).arg("-cf").arg(&archive).arg(".");
    if !tool(&mut tar)? {
        bail!("`tar` does not start; a bundle needs it");
    }
    let mut xz = Command::new("xz");
    xz.args(["--lzma2=preset=9,dict=192MiB", "--threads=1", "--force"]);
    if !tool(xz.arg(&archive))? {
        say("no `xz` here, so the programs are not packed");
    }
    Ok(())
}

/// Whether the tool is there.
///
/// # Errors
/// If it is and fails.
fn tool(command: &mut Command) -> anyhow::Result<bool> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).context(name),
        Ok(output) => {
            ensure!(
                output.status.success(),
                "{name}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
            Ok(true)
        }
    }
}

/// Bytes of all files below a folder.
fn size(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => size(&entry.path())?,
            false => metadata.len(),
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three small programs that `strip` can read.
    fn binaries() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for name in PROGRAMS {
            let from = ["/bin/true", "/usr/bin/true"].map(PathBuf::from);
            let from = from.iter().find(|path| path.is_file()).unwrap();
            fs::copy(from, folder.path().join(name)).unwrap();
        }
        folder
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_bundle_has_what_its_script_names() {
        let root = crate::root().unwrap();
        let (binaries, folder) = (binaries(), tempfile::tempdir().unwrap());
        let options = Options {
            out: folder.path().join("bundle"),
            binaries: Some(binaries.path().to_owned()),
        };
        // The second time, over the first.
        for _ in 0..2 {
            run(&root, &options).unwrap();
        }
        for file in [
            "run.sh",
            "peer/bench_peer.py",
            "peer/unet.py",
            "peer/hopper.py",
            "peer/product.cu",
            "peer/configs/ddpm-cifar10-32.json",
            "peer/configs/unet-128.json",
            "configs/sprites-gpu.toml",
            "configs/ddpm-cifar10.toml",
            "configs/digits.toml",
            "configs/data/sprites-32.zip",
        ] {
            assert!(options.out.join(file).is_file(), "{file}");
        }
        let archive = ["binaries.tar.xz", "binaries.tar"].map(|name| options.out.join(name));
        let archive = archive.iter().find(|path| path.is_file()).unwrap();
        let listing = Command::new("tar")
            .arg("-tf")
            .arg(archive)
            .output()
            .unwrap();
        let listing = String::from_utf8(listing.stdout).unwrap();
        for name in PROGRAMS {
            assert!(listing.contains(&format!("./{name}\n")), "{listing}");
        }
        let script = fs::read_to_string(options.out.join("run.sh")).unwrap();
        for word in [
            "configs/sprites-gpu.toml",
            "bin/xtask\" bench",
            "ddpm-bench\" check",
        ] {
            assert!(script.contains(word), "{word}");
        }
    }

    #[test]
    fn nothing_but_a_bundle_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("photo.jpg"), "x").unwrap();
        let error = clear(folder.path()).unwrap_err();
        assert!(error.to_string().contains("give --out an empty folder"));
        assert!(folder.path().join("photo.jpg").is_file());
        clear(&folder.path().join("new/below")).unwrap();
    }

    #[test]
    #[cfg(unix)]
    fn the_script_is_one() {
        let script = crate::root().unwrap().join("xtask/bundle/run.sh");
        let parsed = Command::new("bash")
            .arg("-n")
            .arg(&script)
            .output()
            .unwrap();
        assert!(parsed.status.success(), "{parsed:?}");
        let refused = Command::new("bash")
            .arg(&script)
            .arg("--no-such-option")
            .output();
        let refused = refused.unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--phases LIST"));
    }
}
