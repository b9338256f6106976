//! The `hubrelay` program: reads its command line and hands over to the library.

use std::process::ExitCode;

use clap::Parser;
use hubrelay::cli::{self, Cli};

fn main() -> ExitCode {
    // With the provider named here, no library can pick another one.
    rustls::crypto::aws_lc_rs::default_provider()
        .install_default()
        .expect("nothing ran before that could have installed a provider");
    cli::run(Cli::parse())
}
