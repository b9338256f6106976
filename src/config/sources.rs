//! What the file, the environment and the flags say, before it is known whether it makes sense.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::connection_string;
use super::error::{Error, Origin};
use super::options::{CONFIG_FILE_VARIABLE, ENVIRONMENT_PREFIX, Kind, OPTIONS, OptionSpec};
use super::secret::MASK;

/// The sources of a configuration beside its defaults.
#[derive(Clone, Default)]
pub struct Sources {
    file: Option<PathBuf>,
    environment: Vec<(OsString, OsString)>,
    flags: Vec<(&'static OptionSpec, String)>,
}

/// One value of one option; it may be a secret.
pub(super) struct Given {
    pub(super) option: &'static OptionSpec,
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl Sources {
    /// No source at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// With the environment of this process.
    pub fn from_process_environment() -> Self {
        Self::new().with_environment(std::env::vars_os())
    }

    /// With these environment variables in place of any others. An empty `HUBRELAY_CONFIG` names no file.
    #[must_use]
    pub fn with_environment<N, V>(mut self, variables: impl IntoIterator<Item = (N, V)>) -> Self
    where
        N: Into<OsString>,
        V: Into<OsString>,
    {
        self.environment = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        self
    }

    /// With this configuration file, rather than the one that `HUBRELAY_CONFIG` names.
    #[must_use]
    pub fn with_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// With one more flag; the last one of a name holds.
    ///
    /// # Panics
    ///
    /// Without an option of this name: names of flags are part of the program.
    #[must_use]
    pub fn with_flag(mut self, name: &str, value: impl Into<String>) -> Self {
        let option = OptionSpec::by_key(name).expect("the flag is one of the options");
        self.flags.push((option, value.into()));
        self
    }

    /// All values that are given, in rising priority. What is wrong goes to `errors`.
    pub(super) fn read(&self, errors: &mut Vec<Error>) -> Vec<Given> {
        let mut given = Vec::new();
        if let Some(path) = self.config_file() {
            read_file(&path, &mut given, errors);
        }
        self.read_environment(&mut given, errors);
        for (option, text) in &self.flags {
            given.push(Given {
                option,
                text: text.clone(),
                origin: Origin::Flag(option.flag()),
            });
        }
        given
    }

    fn config_file(&self) -> Option<PathBuf> {
        self.file.clone().or_else(|| {
            self.variable(CONFIG_FILE_VARIABLE)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        })
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment
            .iter()
            .find(|(candidate, _)| candidate == name)
            .map(|(_, value)| value.as_os_str())
    }

    fn read_environment(&self, given: &mut Vec<Given>, errors: &mut Vec<Error>) {
        for option in OPTIONS {
            let mut found: Option<Given> = None;
            for name in option.environment_names() {
                let Some(value) = self.variable(&name) else {
                    continue;
                };
                let origin = Origin::Environment(name);
                let Some(text) = value.to_str() else {
                    errors.push(bad_value(option, &value.to_string_lossy(), origin));
                    continue;
                };
                if text.is_empty() && !option.kind.takes_empty_text() {
                    continue;
                }
                match &found {
                    None => {
                        found = Some(Given {
                            option,
                            text: text.to_owned(),
                            origin,
                        });
                    }
                    Some(preferred) if preferred.text == text => {}
                    Some(preferred) => errors.push(Error::GivenTwice {
                        option: option.name,
                        first: preferred.origin.clone(),
                        second: origin,
                    }),
                }
            }
            given.extend(found);
        }
        self.refuse_unknown_variables(errors);
    }

    fn refuse_unknown_variables(&self, errors: &mut Vec<Error>) {
        let mut unknown: Vec<_> = self
            .environment
            .iter()
            .filter_map(|(name, _)| name.to_str())
            .filter_map(|name| Some((name, name.strip_prefix(ENVIRONMENT_PREFIX)?)))
            .filter(|(name, suffix)| {
                *name != CONFIG_FILE_VARIABLE
                    && !OPTIONS
                        .iter()
                        .any(|option| option.name.to_ascii_uppercase() == *suffix)
            })
            .collect();
        unknown.sort_unstable();
        for (name, suffix) in unknown {
            let nearest = nearest_option(suffix).name.to_ascii_uppercase();
            errors.push(Error::UnknownKey {
                key: name.to_owned(),
                origin: Origin::Environment(name.to_owned()),
                nearest: format!("{ENVIRONMENT_PREFIX}{nearest}"),
            });
        }
    }
}

/// Values may be secrets, so only names show.
impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags: Vec<_> = self.flags.iter().map(|(option, _)| option.name).collect();
        formatter
            .debug_struct("Sources")
            .field("file", &self.file)
            .field("flags", &flags)
            .finish_non_exhaustive()
    }
}

impl Kind {
    /// Whether an empty text says something other than "not given".
    fn takes_empty_text(&self) -> bool {
        match self {
            Self::Text(_)
            | Self::Secret(_)
            | Self::SigningSecret(_)
            | Self::ConnectionString(_)
            | Self::Path(_)
            | Self::Url(_) => true,
            Self::NonEmptyText(_)
            | Self::Address(_)
            | Self::Boolean(_)
            | Self::Word(..)
            | Self::Integer { .. } => false,
        }
    }
}

/// The error for a value that `option` does not take.
pub(super) fn bad_value(option: &OptionSpec, text: &str, origin: Origin) -> Error {
    Error::BadValue {
        option: option.name,
        value: format!("`{}`", shown(option, text).escape_debug()),
        origin,
        allowed: option.kind.allowed(),
    }
}

/// A value as it may be shown: secrets are masked.
pub(super) fn shown(option: &OptionSpec, text: &str) -> String {
    match option.kind {
        Kind::Secret(_) | Kind::SigningSecret(_) | Kind::ConnectionString(_) if text.is_empty() => {
            String::new()
        }
        Kind::Secret(_) | Kind::SigningSecret(_) => MASK.to_owned(),
        Kind::ConnectionString(_) => connection_string::masked(text),
        Kind::Text(_)
        | Kind::NonEmptyText(_)
        | Kind::Path(_)
        | Kind::Url(_)
        | Kind::Address(_)
        | Kind::Boolean(_)
        | Kind::Word(..)
        | Kind::Integer { .. } => text.to_owned(),
    }
}

fn read_file(path: &Path, given: &mut Vec<Given>, errors: &mut Vec<Error>) {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(source) => {
            errors.push(Error::FileUnreadable {
                path: path.to_owned(),
                source,
            });
            return;
        }
    };
    let table = match DeTable::parse(&text) {
        Ok(table) => table,
        Err(error) => {
            errors.push(Error::FileSyntax {
                path: path.to_owned(),
                line: line_at(&text, error.span().map_or(0, |span| span.start)),
                message: error.message().replace('\n', " "),
            });
            return;
        }
    };
    let mut entries: Vec<_> = table.get_ref().iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);

    let mut seen: BTreeMap<&str, Origin> = BTreeMap::new();
    for (key, value) in entries {
        let origin = Origin::File {
            path: path.to_owned(),
            line: line_at(&text, key.span().start),
        };
        let key = key.get_ref().as_ref();
        let Some(option) = OptionSpec::by_key(key) else {
            errors.push(Error::UnknownKey {
                key: key.to_owned(),
                origin,
                nearest: nearest_option(key).name.to_owned(),
            });
            continue;
        };
        if let Some(first) = seen.insert(option.name, origin.clone()) {
            errors.push(Error::GivenTwice {
                option: option.name,
                first,
                second: origin,
            });
            continue;
        }
        match text_of(option.kind, value.get_ref()) {
            Ok(text) => given.push(Given {
                option,
                text,
                origin,
            }),
            Err(value) => errors.push(Error::BadValue {
                option: option.name,
                value: if option.is_secret() {
                    format!("`{MASK}`")
                } else {
                    value
                },
                origin,
                allowed: option.kind.allowed(),
            }),
        }
    }
}

/// The text of a TOML value of the right type; of a wrong one how an error message shows it.
fn text_of(kind: Kind, value: &DeValue<'_>) -> Result<String, String> {
    match (kind, value) {
        (
            Kind::Text(_)
            | Kind::NonEmptyText(_)
            | Kind::Secret(_)
            | Kind::SigningSecret(_)
            | Kind::ConnectionString(_)
            | Kind::Path(_)
            | Kind::Url(_)
            | Kind::Address(_)
            | Kind::Word(..),
            DeValue::String(text),
        ) => Ok(text.to_string()),
        (Kind::Boolean(_), DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Integer { .. } | Kind::Address(_), DeValue::Integer(integer)) => {
            i128::from_str_radix(integer.as_str(), integer.radix())
                .map(|number| number.to_string())
                .map_err(|_| format!("`{integer}`"))
        }
        (_, DeValue::String(text)) => Err(format!("the text `{text}`")),
        (_, DeValue::Boolean(on)) => Err(format!("`{on}`")),
        (_, DeValue::Integer(integer)) => Err(format!("`{integer}`")),
        (_, DeValue::Float(float)) => Err(format!("`{float}`")),
        (_, DeValue::Datetime(time)) => Err(format!("`{time}`")),
        (_, DeValue::Array(_)) => Err("an array".to_owned()),
        (_, DeValue::Table(_)) => Err("a table".to_owned()),
    }
}

/// The option whose name, in either spelling, takes the fewest edits to get from `key`.
fn nearest_option(key: &str) -> &'static OptionSpec {
    let key = key.to_ascii_lowercase().replace('-', "_");
    let edits = |option: &&OptionSpec| {
        let of_name = strsim::damerau_levenshtein(&key, option.name);
        option.ux4iot_name.map_or(of_name, |ux4iot_name| {
            of_name.min(strsim::damerau_levenshtein(
                &key,
                &ux4iot_name.to_ascii_lowercase(),
            ))
        })
    };
    OPTIONS.iter().min_by_key(edits).expect("there are options")
}

fn line_at(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or(text);
    1 + before.matches('\n').count()
}
