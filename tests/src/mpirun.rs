//! `ddpm` as several processes of `mpirun`.

use std::ffi::OsString;
use std::fs;
use std::process::Command;

/// Why there are no such runs here, if there are none.
pub fn missing() -> Option<&'static str> {
    if !cfg!(feature = "mpi") {
        return Some("built without the feature `mpi`");
    }
    let found = Command::new("mpirun").arg("--version").output();
    (!found.is_ok_and(|output| output.status.success())).then_some("there is no mpirun")
}

/// The same command in so many processes, with one thread each.
pub fn mpirun(ranks: usize, command: &Command) -> Command {
    let mut all = Command::new("mpirun");
    all.args([
        "--oversubscribe",
        "--bind-to",
        "none",
        "-n",
        &ranks.to_string(),
    ])
    .arg(command.get_program())
    .args(command.get_args())
    // Tests may run as anybody.
    .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
    .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
    .env("RAYON_NUM_THREADS", "1")
    .stdin(std::process::Stdio::null());
    if let Some(folder) = command.get_current_dir() {
        all.current_dir(folder);
    }
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => all.env(name, value),
            None => all.env_remove(name),
        };
    }
    all
}

/// The processes whose parent is `parent`, of this program.
pub fn children(parent: u32, program: &str) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let names = processes.filter_map(|entry| Some(entry.ok()?.file_name()));
    let numbers = names.filter_map(|name: OsString| name.to_str()?.parse().ok());
    let child = |id: &u32| {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // number (name) state parent …; a name may hold spaces.
        let (head, tail) = stat.rsplit_once(')').unwrap_or_default();
        let name = head.split_once('(').map_or("", |(_, name)| name);
        let of = tail.split_whitespace().nth(1);
        program.starts_with(name) && of == Some(&*parent.to_string())
    };
    let mut found: Vec<u32> = numbers.filter(child).collect();
    found.sort_unstable();
    found
}

/// Sends a signal, such as `-KILL`.
pub fn signal(process: u32, name: &str) -> bool {
    let sent = Command::new("kill")
        .args([name, &process.to_string()])
        .status();
    sent.is_ok_and(|status| status.success())
}
