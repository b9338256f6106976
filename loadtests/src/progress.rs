//! What a person at a terminal sees while a scenario runs, on standard error.

use std::io::{self, IsTerminal as _, Write as _};

/// Tells how far a scenario is. Without a terminal only the steps are told, a line each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    is_terminal: bool,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Begins a step.
    pub(crate) fn step(self, text: &str) {
        let clear = if self.is_terminal { "\r\x1b[K" } else { "" };
        write(&format!("{clear}{text}\n"));
    }

    /// Replaces what was said about the running step.
    pub(crate) fn tick(self, text: &str) {
        if self.is_terminal {
            write(&format!("\r\x1b[K  {text}"));
        }
    }
}

/// Says that the run failed.
pub(crate) fn complain(text: &str) {
    write(&format!("loadtests: {text}\n"));
}

fn write(text: &str) {
    let mut stderr = io::stderr().lock();
    // Nobody watching is no reason to stop.
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}
