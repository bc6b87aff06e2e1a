//! Parses the arguments, runs one command and maps its error to an exit code.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;
use diolkos::{
    cli::{self, Cli},
    demo,
};

/// Chosen by measurement (`benches/README.md`): 2 % less CPU for each connection, a tenth less
/// memory for an idle one, and a quarter less CPU to read manifests than with glibc's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    demo::process::end_with_demo();
    match cli::run(Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // Whoever read our output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads that, the exit code says it.
            let _ = writeln!(io::stderr(), "diolkos: {error:#}");
            cli::exit_code(&error)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
