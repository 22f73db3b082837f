//! `ddpm` as several processes of `mpirun`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use crate::Ended;

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
    .stdin(Stdio::null());
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

/// mpirun 4.1 now and then locks up in its own end, after all ranks have ended (`PMIx_server_finalize`).
const LOCKED_UP: Duration = Duration::from_secs(20);

/// Whether a job of mpirun is over though mpirun is not; `since` remembers when ranks were last seen.
pub fn is_locked_up(job: &Child, since: &mut Instant) -> bool {
    if !children(job.id(), "ddpm-faulty").is_empty() {
        *since = Instant::now();
    }
    since.elapsed() > LOCKED_UP
}

/// Runs a job of mpirun to its end.
///
/// # Errors   that of the system if it cannot be started
pub fn end(mut command: Command) -> io::Result<Ended> {
    let job = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    wait(job.spawn()?)
}

/// Waits for a job whose outputs are piped.
///
/// # Errors   that of the system if it cannot be waited for
pub fn wait(mut job: Child) -> io::Result<Ended> {
    fn read(pipe: Option<impl Read + Send + 'static>) -> impl FnOnce() -> String {
        let reader = spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut pipe) = pipe {
                let _ = pipe.read_to_end(&mut bytes);
            }
            String::from_utf8_lossy(&bytes).into_owned()
        });
        || reader.join().unwrap_or_default()
    }
    let (stdout, stderr) = (read(job.stdout.take()), read(job.stderr.take()));
    let mut since = Instant::now();
    let code = loop {
        if let Some(status) = job.try_wait()? {
            break status.code();
        }
        if is_locked_up(&job, &mut since) {
            job.kill()?;
            job.wait()?;
            break None;
        }
        sleep(Duration::from_millis(20));
    };
    let (stdout, stderr) = (stdout(), stderr());
    // It has said by then how the ranks ended, if not well.
    let code = code.or_else(|| match stderr.split_once("Exit code:") {
        Some((_, code)) => code.split_whitespace().next()?.parse().ok(),
        None if stderr.contains("exited on signal") => Some(137),
        None => Some(0),
    });
    Ok(Ended {
        code,
        stdout,
        stderr,
    })
}
