//! The security backends of `examples/security-backend`, run as their readers run them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{Answer, PATIENCE, Rest, example::built_program};

/// What an example is written in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Language {
    Node,
    Python,
    Rust,
}

/// A running backend with the users of `examples/security-backend/users.json`.
pub(crate) struct SecurityBackend {
    pub(crate) rest: Rest,
    log: NamedTempFile,
    _child: Child,
}

impl SecurityBackend {
    /// Starts one on a free port.
    pub(crate) async fn start(
        language: Language,
        connection_string: &str,
        options: &[(&str, &str)],
    ) -> Self {
        let log = NamedTempFile::new().expect("a temporary file can be created");
        let stderr = log.reopen().expect("it can be opened again");
        let mut child = command(language)
            .env("RELAY_CONNECTION_STRING", connection_string)
            .env("USERS_FILE", examples().join("users.json"))
            .env("LISTEN", "127.0.0.1:0")
            .envs(options.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("the backend in {language:?} does not start: {error}"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let line = timeout(PATIENCE, BufReader::new(stdout).lines().next_line())
            .await
            .unwrap_or_else(|_| panic!("the backend in {language:?} is not ready"))
            .expect("stdout is UTF-8");
        let Some(line) = line else {
            let log = fs::read_to_string(log.path()).expect("the log is text");
            panic!("the backend in {language:?} ended: {log}");
        };
        let announcement: Value = serde_json::from_str(&line).expect("the line is JSON");
        let url = announcement["url"].as_str().expect("it has a url");
        Self {
            rest: Rest::new(url),
            log,
            _child: child,
        }
    }

    /// Asks for a grant, as the user's browser does.
    pub(crate) async fn grant(&self, token: &str, request: &Value) -> Answer {
        self.rest.put("/grants").bearer(token).json(request).await
    }

    /// Gives a grant back.
    pub(crate) async fn revoke(&self, token: &str, request: &Value) -> Answer {
        let call = self.rest.delete("/grants");
        call.bearer(token).json(request).await
    }

    /// All it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log.path()).expect("the log is text")
    }
}

fn command(language: Language) -> Command {
    match language {
        Language::Node => {
            let mut command = Command::new("node");
            command.arg(examples().join("node/server.mjs"));
            command
        }
        Language::Python => {
            let python = env::var_os("HUBRELAY_TEST_PYTHON").unwrap_or_else(|| "python3".into());
            let mut command = Command::new(python);
            command.arg(examples().join("python/server.py"));
            command
        }
        Language::Rust => Command::new(built_program("", "security-backend")),
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/security-backend")
}
