//! The value of every option after all sources have been heard, and the [`Config`] that follows.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use super::address::{EVERY_INTERFACE, parse_address};
use super::error::{Error, Errors, Origin};
use super::grant_tokens::{SIGNING_SECRET_BYTES_MIN, signing_secret, trustworthy_url};
use super::options::{
    Draft, EVENT_HUB_CONNECTION_STRING, GRANT_TOKEN_JWKS_FILE, GRANT_TOKEN_JWKS_URL,
    IOT_HUB_CA_FILE, IOT_HUB_CONNECTION_STRING, Kind, OPTIONS, OptionSpec, Preset, TLS_CERT,
    TLS_KEY, path,
};
use super::secret::Secret;
use super::sources::{Sources, bad_value, shown};
use super::{Config, ConnectionStringError, IotHubApi};

/// The value of every option, with where it came from.
#[derive(Debug)]
pub struct Effective {
    options: Vec<EffectiveOption>,
}

/// The value of one option.
#[derive(Clone, Debug)]
pub struct EffectiveOption {
    spec: &'static OptionSpec,
    text: Text,
    origin: Origin,
}

/// A value as it was written; it may be a secret, so `Debug` hides it.
type Text = Secret;

impl Effective {
    /// Hears all sources. Every value is checked, also one that a source of higher priority replaces.
    pub fn collect(sources: &Sources) -> Result<Self, Errors> {
        let mut errors = Vec::new();
        let mut effective = Self::defaults();
        let mut scratch = Draft::blank();
        for given in sources.read(&mut errors) {
            if let Err(NotAllowed) = given.option.kind.apply(&mut scratch, &given.text) {
                errors.push(bad_value(given.option, &given.text, given.origin));
                continue;
            }
            let option = effective.get_mut(given.option.name);
            option.text = Secret::new(given.text);
            option.origin = given.origin;
        }
        effective.check_together(&mut errors);
        if errors.is_empty() {
            Ok(effective)
        } else {
            Err(Errors(errors))
        }
    }

    /// The configuration, if nothing that is required is missing.
    pub fn config(&self) -> Result<Config, Errors> {
        let missing: Vec<_> = self
            .options
            .iter()
            .filter(|option| {
                matches!(option.spec.default, Preset::Required)
                    && option.text.expose().trim().is_empty()
            })
            .map(|option| Error::Missing {
                option: option.spec.name,
                variable: option.spec.name.to_ascii_uppercase(),
                flag: option.spec.flag(),
            })
            .collect();
        if missing.is_empty() {
            Ok(self.apply())
        } else {
            Err(Errors(missing))
        }
    }

    /// The connection strings that are given but cannot be read. `check-config` refuses them; `serve` starts all the
    /// same, and reports them in `GET /status`.
    pub fn malformed_connection_strings(&self) -> Vec<Error> {
        let config = self.apply();
        let event_hub = config.event_hub.connection_string.err();
        let iot_hub = match config.iot_hub {
            IotHubApi::Malformed(error) => Some(error),
            IotHubApi::Disabled | IotHubApi::Enabled(_) => None,
        };
        [
            (EVENT_HUB_CONNECTION_STRING, event_hub),
            (IOT_HUB_CONNECTION_STRING, iot_hub),
        ]
        .into_iter()
        .filter_map(|(name, error)| {
            let option = self.get(name);
            Some(Error::MalformedConnectionString {
                option: name,
                value: option.shown(),
                origin: option.origin.clone(),
                source: error.filter(|error| *error != ConnectionStringError::Empty)?,
            })
        })
        .collect()
    }

    /// All options, in the order of listing.
    pub fn options(&self) -> &[EffectiveOption] {
        &self.options
    }

    /// All options as TOML, each with its origin in a comment; secrets are masked.
    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        let mut section = None;
        for option in &self.options {
            if section != Some(option.spec.section) {
                let gap = if section.is_some() { "\n" } else { "" };
                let heading = option.spec.section.heading();
                writeln!(toml, "{gap}# {heading}").expect("a string takes any text");
                section = Some(option.spec.section);
            }
            let (name, value, origin) = (option.name(), option.to_toml_value(), &option.origin);
            writeln!(toml, "{name} = {value} # {origin}").expect("a string takes any text");
        }
        toml
    }

    /// Every option at its default.
    pub(super) fn defaults() -> Self {
        let options = OPTIONS
            .iter()
            .map(|spec| EffectiveOption {
                spec,
                text: Secret::new(spec.default.text()),
                origin: Origin::Default,
            })
            .collect();
        Self { options }
    }

    /// The configuration that follows from values that were checked.
    pub(super) fn apply(&self) -> Config {
        let mut draft = Draft::blank();
        for option in &self.options {
            option
                .spec
                .kind
                .apply(&mut draft, option.text.expose())
                .unwrap_or_else(|NotAllowed| {
                    unreachable!("the value of {} was checked", option.spec.name)
                });
        }
        draft.finish()
    }

    fn get(&self, name: &str) -> &EffectiveOption {
        self.options
            .iter()
            .find(|option| option.spec.name == name)
            .expect("every option has a value")
    }

    fn get_mut(&mut self, name: &str) -> &mut EffectiveOption {
        self.options
            .iter_mut()
            .find(|option| option.spec.name == name)
            .expect("every option has a value")
    }

    /// Rules that no single option can check.
    fn check_together(&self, errors: &mut Vec<Error>) {
        let certificate = self.get(TLS_CERT);
        let key = self.get(TLS_KEY);
        for (given, other) in [(certificate, key), (key, certificate)] {
            let Some(file) = path(given.text.expose()) else {
                continue;
            };
            if other.text.is_empty() {
                errors.push(Error::MissingCompanion {
                    given: given.name(),
                    missing: other.name(),
                    origin: given.origin.clone(),
                });
            }
            if let Err(source) = readable(&file) {
                errors.push(Error::NamedFileUnreadable {
                    option: given.name(),
                    path: file,
                    origin: given.origin.clone(),
                    source,
                });
            }
        }
        let authorities = self.get(IOT_HUB_CA_FILE);
        if let Some(file) = path(authorities.text.expose())
            && let Err(source) = readable(&file)
        {
            errors.push(Error::NamedFileUnreadable {
                option: authorities.name(),
                path: file,
                origin: authorities.origin.clone(),
                source,
            });
        }
        let (key_set_url, key_set_file) = (
            self.get(GRANT_TOKEN_JWKS_URL),
            self.get(GRANT_TOKEN_JWKS_FILE),
        );
        if let Some(file) = path(key_set_file.text.expose()) {
            if !key_set_url.text.expose().trim().is_empty() {
                errors.push(Error::Alternatives {
                    given: key_set_url.name(),
                    other: key_set_file.name(),
                    origin: key_set_url.origin.clone(),
                    other_origin: key_set_file.origin.clone(),
                });
            }
            if let Err(source) = readable(&file) {
                errors.push(Error::NamedFileUnreadable {
                    option: key_set_file.name(),
                    path: file,
                    origin: key_set_file.origin.clone(),
                    source,
                });
            }
        }
    }
}

impl EffectiveOption {
    /// Name of the option.
    pub fn name(&self) -> &'static str {
        self.spec.name
    }

    /// Where its value came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The value as it may be shown; secrets are masked.
    pub fn shown(&self) -> String {
        shown(self.spec, self.text.expose())
    }

    fn to_toml_value(&self) -> String {
        match self.spec.kind {
            Kind::Integer { .. } | Kind::Boolean(_) => self.shown().trim().to_owned(),
            Kind::Text(_)
            | Kind::NonEmptyText(_)
            | Kind::Secret(_)
            | Kind::SigningSecret(_)
            | Kind::ConnectionString(_)
            | Kind::Path(_)
            | Kind::Url(_)
            | Kind::Address(_)
            | Kind::Word(..) => toml::Value::String(self.shown()).to_string(),
        }
    }
}

/// A text that a kind of value does not include.
#[derive(Debug)]
pub(super) struct NotAllowed;

impl Kind {
    /// Reads `text` and puts the value into its place, or changes nothing.
    pub(super) fn apply(&self, draft: &mut Draft, text: &str) -> Result<(), NotAllowed> {
        let trimmed = text.trim();
        match self {
            Self::Text(set) => set(&mut draft.config, text),
            Self::NonEmptyText(_) if trimmed.is_empty() => return Err(NotAllowed),
            Self::NonEmptyText(set) => set(&mut draft.config, trimmed),
            Self::Secret(_) if !fits_in_a_header(text) => return Err(NotAllowed),
            Self::Secret(set) => set(draft, Secret::new(text)),
            Self::SigningSecret(set) => {
                set(
                    &mut draft.config,
                    signing_secret(text).map_err(|_| NotAllowed)?,
                );
            }
            Self::ConnectionString(set) => set(&mut draft.config, trimmed),
            Self::Path(set) => set(draft, path(text)),
            Self::Url(set) => set(draft, trustworthy_url(trimmed).map_err(|_| NotAllowed)?),
            Self::Address(set) => {
                let address = parse_address(trimmed, EVERY_INTERFACE).map_err(|_| NotAllowed)?;
                set(&mut draft.config, address);
            }
            Self::Boolean(set) => {
                let on = trimmed.parse().map_err(|_| NotAllowed)?;
                set(&mut draft.config, on);
            }
            Self::Word(words, set) => {
                let index = words.iter().position(|word| *word == trimmed);
                set(&mut draft.config, index.ok_or(NotAllowed)?);
            }
            Self::Integer { min, max, set } => {
                let number: i64 = trimmed.parse().map_err(|_| NotAllowed)?;
                if min.is_some_and(|min| number < min) || number > *max {
                    return Err(NotAllowed);
                }
                set(&mut draft.config, number);
            }
        }
        Ok(())
    }

    /// What values it takes, in words.
    pub fn allowed(&self) -> String {
        match self {
            Self::Text(_) => "any text".to_owned(),
            Self::Secret(_) => {
                "printable ASCII without blanks or line ends around it, as a header can carry it".to_owned()
            }
            Self::NonEmptyText(_) => "a text that is not empty".to_owned(),
            Self::ConnectionString(_) => "a connection string".to_owned(),
            Self::SigningSecret(_) => format!(
                "a text of at least {SIGNING_SECRET_BYTES_MIN} bytes, without blanks or line ends around it"
            ),
            Self::Path(_) => "a path".to_owned(),
            Self::Url(_) => {
                "an `https` URL, or an `http` one of this machine (`localhost` or a loopback address), without user, password and fragment".to_owned()
            }
            Self::Address(_) => {
                "`host:port`, `:port` or a port from 0 to 65535; the host is an IP address or `localhost`".to_owned()
            }
            Self::Boolean(_) => "`true`, `false`".to_owned(),
            Self::Word(words, _) => words
                .iter()
                .map(|word| format!("`{word}`"))
                .collect::<Vec<_>>()
                .join(", "),
            Self::Integer {
                min: Some(min),
                max,
                ..
            } => format!("a whole number from {min} to {max}"),
            Self::Integer { min: None, max, .. } => format!("a whole number up to {max}"),
        }
    }
}

/// Whether a request can present the text in a header: a line end that came along from a file would make a key that nothing equals.
fn fits_in_a_header(text: &str) -> bool {
    text.trim_ascii() == text
        && text
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

impl Preset {
    /// The default as text; empty where there is none.
    pub fn text(&self) -> String {
        match self {
            Self::Is(text) => (*text).to_owned(),
            Self::Required => String::new(),
            Self::Found { find, .. } => find(),
        }
    }
}

fn readable(path: &Path) -> std::io::Result<()> {
    let metadata = File::open(path)?.metadata()?;
    if metadata.is_file() {
        Ok(())
    } else {
        Err(std::io::Error::other("it is not a file"))
    }
}
