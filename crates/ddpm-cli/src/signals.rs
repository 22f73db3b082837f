//! SIGINT, SIGTERM, SIGHUP and SIGUSR1 ask for a stop; a SIGINT after that ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[cfg(unix)]
use signal_hook::consts::{SIGHUP, SIGUSR1};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

/// What asks for a stop. A terminal that is closed hangs up on what runs in it; `mpirun` passes SIGUSR1 on to all ranks,
/// and does not end them after a while as it does after SIGTERM.
#[cfg(unix)]
const STOPS: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGUSR1];
#[cfg(not(unix))]
const STOPS: [i32; 2] = [SIGINT, SIGTERM];

/// The exit code of a process that a second Ctrl-C ended: 128 + SIGINT, as shells have it, since
/// nothing was saved that could be resumed.
const KILLED: i32 = 130;

/// The flag that a signal raises. Cloning it shares it.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// The flag itself, for loops that know nothing of signals.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.0)
    }
}

/// Routes the signals that ask for a stop to the flag it returns, for the rest of the process.
///
/// A supervisor may repeat its SIGTERM while the last checkpoint is being written, so only a
/// SIGINT, which a person sends, cuts that short.
///
/// # Errors
/// The system's error if a handler cannot be installed.
pub fn listen() -> io::Result<Stop> {
    let stop = Stop::default();
    // Handlers run in the order of their registration: this one sees the flag of an earlier signal.
    flag::register_conditional_shutdown(SIGINT, KILLED, stop.flag())?;
    for signal in STOPS {
        flag::register(signal, stop.flag())?;
    }
    Ok(stop)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;
    use std::process::Command;
    use std::sync::atomic::Ordering;

    /// What a child process does with the signals that its parent's test names.
    const SIGNALS: &str = "DDPM_TEST_SIGNALS";
    const SURVIVED: i32 = 75;

    #[test]
    #[ignore = "the child of `one_signal_asks_and_a_second_interrupt_kills`"]
    fn child() {
        let Ok(signals) = std::env::var(SIGNALS) else {
            return;
        };
        let stop = listen().unwrap();
        assert!(!stop.flag().load(Ordering::Relaxed));
        for signal in signals.split(',') {
            raise(signal.parse().unwrap()).unwrap();
            assert!(stop.flag().load(Ordering::Relaxed));
        }
        std::process::exit(SURVIVED);
    }

    #[test]
    fn one_signal_asks_and_a_second_interrupt_kills() {
        let cases: [(&[i32], i32); 7] = [
            (&[SIGINT], SURVIVED),
            (&[SIGHUP, SIGHUP], SURVIVED),
            (&[SIGTERM], SURVIVED),
            (&[SIGUSR1, SIGUSR1], SURVIVED),
            (&[SIGTERM, SIGTERM], SURVIVED),
            (&[SIGINT, SIGINT], KILLED),
            (&[SIGTERM, SIGINT], KILLED),
        ];
        for (signals, code) in cases {
            let list: Vec<String> = signals.iter().map(ToString::to_string).collect();
            let status = Command::new(std::env::current_exe().unwrap())
                .args(["signals::tests::child", "--exact", "--ignored"])
                .env(SIGNALS, list.join(","))
                .output()
                .unwrap()
                .status;
            assert_eq!(status.code(), Some(code), "signals {signals:?}");
        }
    }
}
