//! Examples of this workspace, run as their readers run them.

use std::{env, path::PathBuf, process::Stdio};

use tokio::{process::Command, time::timeout};

use super::PATIENCE;

/// An example to be run, with nothing around it but what it is given.
pub(crate) struct Example {
    name: String,
    command: Command,
}

impl Example {
    /// The example `name` of any package of the workspace.
    pub(crate) fn new(name: &str) -> Self {
        let mut command = Command::new(built_program("examples", name));
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        Self {
            name: name.to_owned(),
            command,
        }
    }

    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.command.arg(argument);
        self
    }

    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end, which must be a good one, and answers what it printed.
    pub(crate) async fn output(mut self) -> String {
        let output = timeout(PATIENCE, self.command.output())
            .await
            .unwrap_or_else(|_| panic!("{} did not end", self.name))
            .expect("the example starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} failed: {errors}", self.name);
        String::from_utf8(output.stdout).expect("the example prints text")
    }
}

/// Where Cargo puts the program `name` of another package: below the folder that the one of the tests is in.
pub(super) fn built_program(folder: &str, name: &str) -> PathBuf {
    let test = env::current_exe().expect("the test has a path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("tests are in a folder of the profile's");
    let program = format!("{name}{}", env::consts::EXE_SUFFIX);
    let path = profile.join(folder).join(program);
    assert!(
        path.exists(),
        "{} is not there: `cargo build --workspace --bins --examples` builds it, as `cargo xtask test` does",
        path.display()
    );
    path
}
