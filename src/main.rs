//! The `hubrelay` program: reads its command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use hubrelay::cli::{self, Cli};

/// Updates are made by one thread and dropped by another, all day: `docs/decisions/0014-allocator.md`.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // With the provider named here, no library can pick another one.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing ran before that could have installed a provider");
    cli::run(Cli::parse())
}
