//! The `ddpm` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ddpm_cli::main()
}
