//! Builds programs for NVIDIA GPUs on a machine that cannot download LLVM, to be carried to one that has the GPUs.
//!
//! CubeCL, which compiles the kernels for CUDA, knows two compilers: LLVM, which its build script downloads and links
//! in, and NVIDIA's own NVRTC, which comes with the CUDA toolkit and is looked for at run time. With the feature
//! `cuda-nvrtc` the second one does all the work, but the program still names the functions of the first. So:
//!
//! 1. `DOCS_RS=1` tells the build scripts of LLVM's crates that only documentation is wanted: they download nothing.
//! 2. A linker of our own (`cuda_offline/link.sh`) links each program once with holes in it, lists the holes with `nm`,
//!    and fills those that are LLVM's with functions which say their name and end the program. Nothing calls them.
//!
//! Both programs are built as one selection of packages, so that they share one build of burn; the folder is another
//! than that of ordinary builds, in which LLVM would be missing too. Where the program runs, NVIDIA's driver, NVRTC and
//! the toolkit's headers must be there, the latter below `CUDA_PATH`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};

use crate::step::{Step, say};

/// The linker's text, and where it lies below the folder of the build. Its name must not look like that of a linker
/// which rustc knows.
const LINKER: (&str, &str) = (include_str!("cuda_offline/link.sh"), "cc-without-llvm");

/// The folder of the build, below the workspace's.
const FOLDER: &str = "target/cuda-offline";

/// Where the programs go.
pub const PROGRAMS: &str = "target/cuda-offline/programs";

/// The programs of the system that are run.
const TOOLS: &[&str] = &["cc", "nm", "strip"];

/// What to build.
#[derive(Debug, Args)]
pub struct Options {
    /// Build optimised
    #[arg(long)]
    release: bool,
    /// Which program
    #[arg(long, default_value = "both")]
    package: Package,
    /// Where the programs go, without their symbols
    #[arg(long, value_name = "DIR", default_value = PROGRAMS)]
    out: PathBuf,
    /// More arguments for `cargo build`, such as --config profile.release.lto=false, which saves time
    #[arg(last = true)]
    cargo: Vec<String>,
}

impl Options {
    /// Both programs, optimised.
    pub fn release() -> Self {
        Self {
            release: true,
            package: Package::Both,
            out: PROGRAMS.into(),
            cargo: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Package {
    /// `ddpm`
    DdpmCli,
    /// `ddpm-bench`
    DdpmBench,
    /// `ddpm` and `ddpm-bench`
    Both,
}

impl Package {
    fn programs(self) -> &'static [&'static str] {
        match self {
            Self::DdpmCli => &["ddpm"],
            Self::DdpmBench => &["ddpm-bench"],
            Self::Both => &["ddpm", "ddpm-bench"],
        }
    }
}

/// Builds, strips, and tries whether what came out starts.
///
/// # Errors
/// If a tool is missing, or a step fails.
pub fn run(root: &Path, options: &Options) -> anyhow::Result<()> {
    check_tools()?;
    let folder = root.join(FOLDER);
    build(&folder, options)?.run(root)?;
    let built = folder.join(if options.release { "release" } else { "debug" });
    let out = root.join(&options.out);
    fs::create_dir_all(&out).with_context(|| out.display().to_string())?;
    for program in options.package.programs() {
        let (from, to) = (built.join(program), out.join(program));
        let path = |path: &Path| path.display().to_string();
        step(
            "strip",
            vec!["strip".into(), "-o".into(), path(&to), path(&from)],
        )
        .run(root)?;
        step("start", vec![path(&to), "--version".into()]).run(root)?;
        say(&format!(
            "{}: {} MiB, {} MiB before its symbols were taken out",
            to.display(),
            mebibytes(&to)?,
            mebibytes(&from)?
        ));
    }
    Ok(())
}

/// The one call of cargo, with the linker in its place.
fn build(folder: &Path, options: &Options) -> anyhow::Result<Step> {
    let (text, name) = LINKER;
    let linker = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&linker, text))
        .and_then(|()| fs::set_permissions(&linker, fs::Permissions::from_mode(0o755)))
        .with_context(|| linker.display().to_string())?;
    let linker = linker
        .to_str()
        .context("the workspace's path is not UTF-8")?;
    let mut cargo = Step::cargo(
        "build",
        "build --locked --package ddpm-cli --package ddpm-bench \
         --features ddpm-cli/cuda-nvrtc,ddpm-bench/cuda-nvrtc",
    )
    .command;
    for program in options.package.programs() {
        cargo.extend(["--bin".to_owned(), (*program).to_owned()]);
    }
    if options.release {
        cargo.push("--release".to_owned());
    }
    cargo.extend([
        "--config".to_owned(),
        format!("target.'cfg(all())'.linker={linker:?}"),
    ]);
    cargo.extend(options.cargo.iter().cloned());
    let target = folder
        .to_str()
        .context("the workspace's path is not UTF-8")?;
    Ok(step("build", cargo).with(&[("DOCS_RS", "1"), ("CARGO_TARGET_DIR", target)]))
}

fn step(name: &'static str, command: Vec<String>) -> Step {
    Step {
        name,
        command,
        environment: Vec::new(),
    }
}

fn check_tools() -> anyhow::Result<()> {
    if !cfg!(target_os = "linux") {
        bail!("this way of building is for Linux; elsewhere use cargo build --features cuda");
    }
    for tool in TOOLS {
        let tried = Command::new(tool)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        ensure!(
            tried.is_ok_and(|status| status.success()),
            "`{tool}` is not here or does not work; install a C compiler and binutils (Debian: apt install gcc binutils)"
        );
    }
    Ok(())
}

fn mebibytes(path: &Path) -> anyhow::Result<u64> {
    let bytes = fs::metadata(path)
        .with_context(|| path.display().to_string())?
        .len();
    Ok(bytes.div_ceil(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The linker itself, on a program that misses a function.
    fn link(source: &str) -> (bool, String) {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        fs::write(path("link.sh"), LINKER.0).unwrap();
        fs::write(path("main.c"), source).unwrap();
        let compiled = Command::new("cc")
            .args(["-c", "-fPIC", "main.c", "-o", "main.o"])
            .current_dir(place.path())
            .status()
            .unwrap();
        assert!(compiled.success());
        let linked = Command::new("sh")
            .args(["link.sh", "main.o", "-pie", "-o", "program"])
            .current_dir(place.path())
            .output()
            .unwrap();
        if !linked.status.success() {
            return (false, String::from_utf8_lossy(&linked.stderr).into_owned());
        }
        let ran = Command::new(path("program")).output().unwrap();
        (
            ran.status.success(),
            String::from_utf8_lossy(&ran.stderr).into_owned(),
        )
    }

    #[test]
    fn what_is_missing_of_llvm_says_so_when_it_is_called() {
        let source = |call| {
            format!(
                "void LLVMThing(void); void cubecl_other(void);\n\
                 int main(int n, char **a) {{ if (n {call} 1) {{ LLVMThing(); cubecl_other(); }} return 0; }}"
            )
        };
        let (well, said) = link(&source(">"));
        assert!(well, "{said}");
        let (well, said) = link(&source("=="));
        assert!(!well);
        assert_eq!(
            said,
            "error: this program was built without LLVM and called LLVMThing; use another device\n"
        );
    }

    #[test]
    fn what_else_is_missing_is_an_error() {
        let (well, said) = link(
            "void LLVMThing(void); void other(void);\nint main(void) { LLVMThing(); other(); }",
        );
        assert!(!well);
        assert!(said.contains("other"), "{said}");
    }

    #[test]
    fn both_programs_are_one_selection() {
        let place = tempfile::tempdir().unwrap();
        let options = Options {
            release: true,
            package: Package::DdpmBench,
            out: "x".into(),
            cargo: vec!["--config".into(), "profile.release.lto=false".into()],
        };
        let typed = build(place.path(), &options).unwrap().typed();
        for words in [
            "DOCS_RS=\"1\" ",
            "cargo build --locked --package ddpm-cli --package ddpm-bench --features",
            "--bin ddpm-bench --release",
            "cc-without-llvm",
            "profile.release.lto=false",
        ] {
            assert!(typed.contains(words), "{typed}");
        }
        assert!(!typed.contains("--bin ddpm "), "{typed}");
    }
}
