//! The program `skep`.

use std::process::ExitCode;

/// glibc's gives memory back after each batch, and takes it anew for the next.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    skep_server::cli::main()
}
