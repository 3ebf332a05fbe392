//! The program `skep`.

use std::process::ExitCode;

fn main() -> ExitCode {
    skep_server::cli::main()
}
