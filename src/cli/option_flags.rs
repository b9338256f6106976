//! The flags of `serve` and `check-config`: one for each option of the configuration.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};

use crate::config::Sources;
use crate::config::options::{Kind, OPTIONS, OptionSpec};
use crate::config::{described_default, sentence};

/// The options that are given as flags. What their values mean is checked with those of the other sources.
#[derive(Clone, Default)]
pub(super) struct OptionFlags {
    given: Vec<(&'static OptionSpec, String)>,
}

impl OptionFlags {
    /// Adds the flags to `sources`.
    pub(super) fn add_to(&self, sources: Sources) -> Sources {
        self.given.iter().fold(sources, |sources, (option, text)| {
            sources.with_flag(option.name, text)
        })
    }
}

/// Values may be secrets, so only the names show.
impl std::fmt::Debug for OptionFlags {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = self.given.iter().map(|(option, _)| option.name);
        formatter.debug_set().entries(names).finish()
    }
}

impl Args for OptionFlags {
    fn augment_args(command: Command) -> Command {
        OPTIONS
            .iter()
            .fold(command, |command, option| command.arg(flag(option)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for OptionFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = OPTIONS
            .iter()
            .filter_map(|option| {
                let text = matches.get_one::<String>(option.name)?;
                Some((option, text.clone()))
            })
            .collect();
        Ok(Self { given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

fn flag(option: &'static OptionSpec) -> Arg {
    let flag = Arg::new(option.name)
        .long(option.flag())
        .value_name(value_name(&option.kind))
        .help(help(option))
        .help_heading(option.section.heading())
        .allow_negative_numbers(true)
        .overrides_with(option.name);
    match option.kind {
        // A flag without a value switches on.
        Kind::Boolean(_) => flag.num_args(0..=1).default_missing_value("true"),
        Kind::Text(_)
        | Kind::NonEmptyText(_)
        | Kind::Secret(_)
        | Kind::SigningSecret(_)
        | Kind::ConnectionString(_)
        | Kind::Path(_)
        | Kind::Url(_)
        | Kind::Address(_)
        | Kind::Word(..)
        | Kind::Integer { .. } => flag,
    }
}

fn value_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text(_) | Kind::NonEmptyText(_) => "TEXT",
        Kind::Secret(_) | Kind::SigningSecret(_) => "KEY",
        Kind::ConnectionString(_) => "STRING",
        Kind::Path(_) => "PATH",
        Kind::Url(_) => "URL",
        Kind::Address(_) => "ADDR",
        Kind::Boolean(_) => "BOOL",
        Kind::Word(..) => "WORD",
        Kind::Integer { .. } => "N",
    }
}

/// Meaning, allowed values where the meaning does not say them, default, usual environment name.
fn help(option: &OptionSpec) -> String {
    let allowed = match option.kind {
        Kind::Word(..) | Kind::Integer { .. } | Kind::Boolean(_) | Kind::SigningSecret(_) => {
            format!(" ({})", option.kind.allowed())
        }
        Kind::Text(_)
        | Kind::NonEmptyText(_)
        | Kind::Secret(_)
        | Kind::ConnectionString(_)
        | Kind::Path(_)
        | Kind::Url(_)
        | Kind::Address(_) => String::new(),
    };
    let names = option.environment_names();
    let variable = if option.ux4iot_name.is_some() {
        &names[1]
    } else {
        &names[0]
    };
    format!(
        "{}{allowed} [env: {variable}] [default: {}]",
        sentence(option.meaning),
        described_default(option)
    )
    .replace('`', "")
}
