//! What can be wrong with a configuration, said so that it can be put right.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::connection_string::ConnectionStringError;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No source gave one.
    Default,
    /// A line of the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// The flag of this name, without dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File { path, line } => write!(formatter, "{} line {line}", path.display()),
            Self::Environment(name) => write!(formatter, "environment variable {name}"),
            Self::Flag(name) => write!(formatter, "flag --{name}"),
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    FileUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The configuration file is not TOML.
    #[error("{} line {line} is not valid TOML: {message}", path.display())]
    FileSyntax {
        /// The file.
        path: PathBuf,
        /// The line, counted from one.
        line: usize,
        /// What the parser says; it quotes nothing from the file.
        message: String,
    },
    /// There is no such option.
    #[error("unknown option `{key}` ({origin}); the nearest valid name is `{nearest}`")]
    UnknownKey {
        /// What was written.
        key: String,
        /// Where.
        origin: Origin,
        /// The valid name that is most like it.
        nearest: String,
    },
    /// A value is not one that the option takes.
    #[error("`{option}` cannot be {value} ({origin}); allowed: {allowed}")]
    BadValue {
        /// The option.
        option: &'static str,
        /// The value as it was written, or a mask when it is secret.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What the option takes.
        allowed: String,
    },
    /// A connection string cannot be read. This does not keep the relay from starting.
    #[error("`{option}` is not a valid connection string (`{value}`, {origin}): {source}")]
    MalformedConnectionString {
        /// The option.
        option: &'static str,
        /// The value, without its secrets.
        value: String,
        /// Where it came from.
        origin: Origin,
        /// What is wrong with it.
        source: ConnectionStringError,
    },
    /// One source gives one option two values.
    #[error("`{option}` is given twice with different values ({first}, {second}); keep one")]
    GivenTwice {
        /// The option.
        option: &'static str,
        /// The first place.
        first: Origin,
        /// The second place.
        second: Origin,
    },
    /// An option that has no default is not given.
    #[error(
        "`{option}` is required; set it in the configuration file, as environment variable {variable}, or with --{flag}"
    )]
    Missing {
        /// The option.
        option: &'static str,
        /// Its usual environment variable.
        variable: String,
        /// Its flag.
        flag: String,
    },
    /// Of two options that belong together one is given.
    #[error("`{given}` needs `{missing}` as well ({origin})")]
    MissingCompanion {
        /// The one that is given.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
        /// Where the first came from.
        origin: Origin,
    },
    /// Two options are given of which only one can hold.
    #[error("`{given}` ({origin}) and `{other}` ({other_origin}) exclude each other; keep one")]
    Alternatives {
        /// One of them.
        given: &'static str,
        /// The other one.
        other: &'static str,
        /// Where the first came from.
        origin: Origin,
        /// Where the other came from.
        other_origin: Origin,
    },
    /// A file that an option names cannot be read.
    #[error("`{option}` names {} ({origin}), which cannot be read: {source}", path.display())]
    NamedFileUnreadable {
        /// The option.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// Where the name came from.
        origin: Origin,
        /// Why.
        source: io::Error,
    },
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug)]
pub struct Errors(pub(super) Vec<Error>);

impl Errors {
    /// The single errors, in the order of the sources.
    pub fn iter(&self) -> impl Iterator<Item = &Error> {
        self.0.iter()
    }
}

impl From<Error> for Errors {
    fn from(error: Error) -> Self {
        Self(vec![error])
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [error] = self.0.as_slice() {
            return write!(formatter, "invalid configuration: {error}");
        }
        formatter.write_str("invalid configuration:")?;
        for error in &self.0 {
            write!(formatter, "\n  - {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Errors {}
