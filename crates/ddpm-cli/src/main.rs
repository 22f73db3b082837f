//! The `ddpm` command.

fn main() {
    ddpm_cli::main()
}
