//! Logs: sentences with dotted fields, on standard error, behind a filter that can be changed while running.
//!
//! The levels are those of ux4iot. Each lets through what the ones before it do:
//!
//! | level | our own crates | libraries |
//! |---|---|---|
//! | `error` | error | error |
//! | `warn` | warn | warn |
//! | `info` | info | info |
//! | `verbose` | debug | info |
//! | `debug` | trace | debug |
//!
//! `RUST_LOG`, when set, takes the place of the configured level at start; a level set later replaces both.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat, LogLevel};

/// Changes what is logged while the program runs. Clones act on the same filter.
#[derive(Clone, Debug)]
pub struct LogFilter {
    handle: reload::Handle<EnvFilter, Registry>,
}

impl LogFilter {
    /// Logs at `level` from now on. It is not kept for the next start.
    pub fn set(&self, level: LogLevel) {
        // The only failure is that logging itself is gone, which happens only while the process ends.
        if self.handle.reload(filter_for(level)).is_ok() {
            tracing::info!(log.level = level.as_str(), "set the log level");
        }
    }

    /// A filter without an effect, for tests of what only passes one on.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        let (_, handle) = reload::Layer::new(EnvFilter::default());
        Self { handle }
    }
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` does not hold filter directives.
    #[error("`RUST_LOG` cannot be `{value}`: {source}")]
    InvalidRustLog {
        /// Its value.
        value: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Somebody else was first.
    #[error("logging is set up already")]
    AlreadySetUp(#[from] tracing::subscriber::SetGlobalDefaultError),
}

/// Sets up logging for this process. `rust_log` is the value of `RUST_LOG`; empty counts as not set.
pub fn init(config: LogConfig, rust_log: Option<&str>) -> Result<LogFilter, Error> {
    let filter = match rust_log.filter(|directives| !directives.is_empty()) {
        Some(directives) => {
            EnvFilter::try_new(directives).map_err(|source| Error::InvalidRustLog {
                value: directives.to_owned(),
                source,
            })?
        }
        None => filter_for(config.level),
    };
    let in_colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let (subscriber, log_filter) = subscriber(config.format, filter, in_colour, io::stderr);
    tracing::subscriber::set_global_default(subscriber)?;
    Ok(log_filter)
}

fn subscriber<W>(
    format: LogFormat,
    filter: EnvFilter,
    in_colour: bool,
    writer: W,
) -> (impl Subscriber + Send + Sync, LogFilter)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter);
    let lines = match format {
        LogFormat::Text => fmt::layer()
            .with_ansi(in_colour)
            .with_writer(writer)
            .boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(writer)
            .boxed(),
    };
    let subscriber = Registry::default().with(filter).with(lines);
    (subscriber, LogFilter { handle })
}

fn filter_for(level: LogLevel) -> EnvFilter {
    EnvFilter::new(match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Verbose => "info,hubrelay=debug,devhub=debug",
        LogLevel::Debug => "debug,hubrelay=trace,devhub=trace",
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tracing::{debug, error, info, trace, warn};

    use super::*;

    /// Lines written so far.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Lines {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock())).expect("logs are text")
        }
    }

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn log_everything() {
        error!(target: "hubrelay", "own-error");
        warn!(target: "hubrelay", "own-warn");
        info!(target: "hubrelay", "own-info");
        debug!(target: "hubrelay::ingest", "own-debug");
        trace!(target: "hubrelay", "own-trace");
        info!(target: "hyper", "library-info");
        debug!(target: "hyper", "library-debug");
        trace!(target: "hyper", "library-trace");
    }

    #[test]
    fn each_level_lets_through_what_it_documents_and_takes_effect_at_once() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, log_filter) = subscriber(
            LogFormat::Text,
            filter_for(LogLevel::Error),
            false,
            move || writer.clone(),
        );
        let expected: [(LogLevel, &[&str]); 5] = [
            (LogLevel::Error, &["own-error"]),
            (LogLevel::Warn, &["own-error", "own-warn"]),
            (
                LogLevel::Info,
                &["own-error", "own-warn", "own-info", "library-info"],
            ),
            (
                LogLevel::Verbose,
                &[
                    "own-error",
                    "own-warn",
                    "own-info",
                    "own-debug",
                    "library-info",
                ],
            ),
            (
                LogLevel::Debug,
                &[
                    "own-error",
                    "own-warn",
                    "own-info",
                    "own-debug",
                    "own-trace",
                    "library-info",
                    "library-debug",
                ],
            ),
        ];
        tracing::subscriber::with_default(subscriber, || {
            for (level, expected) in expected {
                log_filter.set(level);
                lines.take();
                log_everything();
                let seen = lines.take();
                let messages: Vec<_> = seen
                    .lines()
                    .filter_map(|line| line.rsplit(' ').next())
                    .collect();
                assert_eq!(messages, expected, "{level:?}");
            }
        });
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let lines = Lines::default();
        let writer = lines.clone();
        let (subscriber, _log_filter) = subscriber(
            LogFormat::Json,
            filter_for(LogLevel::Info),
            true,
            move || writer.clone(),
        );
        tracing::subscriber::with_default(subscriber, || {
            info!(session.count = 3, "drained");
        });
        let line: serde_json::Value = serde_json::from_str(lines.take().trim()).unwrap();
        assert_eq!(line["message"], "drained");
        assert_eq!(line["session.count"], 3);
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn a_bad_rust_log_is_refused_by_name() {
        let config = LogConfig {
            level: LogLevel::Info,
            format: LogFormat::Text,
        };
        let error = init(config, Some("hubrelay=loud")).expect_err("no such level");
        assert!(
            error
                .to_string()
                .starts_with("`RUST_LOG` cannot be `hubrelay=loud`: "),
            "{error}"
        );
    }
}
