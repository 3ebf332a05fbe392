//! The program `skep`.

use mimalloc::MiMalloc;
use std::process::ExitCode;

/// glibc's gives memory back after each batch, and takes it anew for the next.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    skep_server::cli::main()
}
