//! The reference of all options, written from the table.

use std::fmt::Write as _;

use super::options::{
    CONFIG_FILE_VARIABLE, ENVIRONMENT_PREFIX, OPTIONS, OptionSpec, Preset, Section,
};

/// The text of `docs/configuration.md`.
pub fn reference_markdown() -> String {
    let mut text = format!(
        "# Configuration\n\n\
         <!-- Written from `src/config/options/table.rs`; after a change there run `UPDATE_DOCS=1 cargo test -p hubrelay committed`. -->\n\n\
         `hubrelay serve` reads, in rising priority: defaults, a TOML file (`--config FILE` or `{CONFIG_FILE_VARIABLE}`), the environment, flags.\n\
         `hubrelay check-config` takes the same sources, checks them, and prints the result with secrets masked.\n\n\
         - TOML keys are the option names below; the camelCase names of ux4iot work too. Unknown keys are errors.\n\
         - Every option is an environment variable `{ENVIRONMENT_PREFIX}` plus its name in upper case. The options of ux4iot also have their own names \
         there, in upper snake case and in camelCase. Two names of one option must not disagree. Unknown variables that begin with `{ENVIRONMENT_PREFIX}` are errors. An empty variable counts as not set where the \
         option cannot be empty.\n\
         - Every option is a flag: its name with dashes. Other users of the machine can read flags; keep secrets in the environment or in the file.\n\
         - A malformed connection string does not stop `serve`: `GET /status` then answers 500 and says which one. `check-config` exits with 1.\n\
         - Certificates of the hubs, and of the server of a key set, are checked against the trust store of the operating system; `SSL_CERT_FILE` replaces it.\n"
    );
    for section in Section::ALL {
        write!(text, "\n## {}\n", section.heading()).expect("a string takes any text");
        let options = OPTIONS.iter().filter(|option| option.section == *section);
        for option in options {
            write_option(&mut text, option).expect("a string takes any text");
        }
    }
    text
}

fn write_option(text: &mut String, option: &OptionSpec) -> std::fmt::Result {
    write!(text, "\n### `{}`\n\n", option.name)?;
    writeln!(text, "{}.\n", sentence(option.meaning))?;
    writeln!(text, "- Default: {}", described_default(option))?;
    writeln!(text, "- Allowed: {}", option.kind.allowed())?;
    let variables: Vec<_> = option
        .environment_names()
        .iter()
        .map(|name| format!("`{name}`"))
        .collect();
    writeln!(text, "- Environment: {}", variables.join(", "))?;
    writeln!(text, "- Flag: `--{}`", option.flag())
}

/// The default of an option, in words or as a literal.
pub(crate) fn described_default(option: &OptionSpec) -> String {
    match option.default {
        Preset::Is("") => "empty".to_owned(),
        Preset::Is(text) => format!("`{text}`"),
        Preset::Required => "none; required".to_owned(),
        Preset::Found { described, .. } => described.to_owned(),
    }
}

/// A text with its first letter in upper case.
pub(crate) fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}
