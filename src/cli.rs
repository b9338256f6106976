//! The command line: `demo`, `serve`, `devhub`, `check-config`.
//!
//! Results go to standard output, everything else to standard error. The exit code is 0 when all went well, 1 when
//! something failed while running (for `check-config`: a malformed connection string), 2 when the command line or the
//! configuration is wrong.

mod option_flags;

use std::fmt::Display;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tracing::{error, warn};

use crate::app::{self, Intake};
use crate::config::address::{AddressError, LOOPBACK, parse_address};
use crate::config::{
    Config, Effective, Errors, EventHubStart, LogConfig, LogFormat, LogLevel, Sources, options,
};
use crate::lifecycle::Lifecycle;
use crate::telemetry::{LogFilter, logging};

use option_flags::OptionFlags;

const EXIT_OK: u8 = 0;
const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Realtime subscription and grant relay for IoT device data.
#[derive(Debug, Parser)]
#[command(name = "hubrelay", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run everything on this machine: a stand-in for Azure's hubs, simulated devices, the relay and a live page
    ///
    /// Prints where the page is and the connection strings to try the relay with. Nothing is kept, and nothing outside
    /// of this machine is reached.
    Demo(DemoArgs),
    /// Run the relay
    ///
    /// Needs an Event Hub connection string. Options come, in rising priority, from defaults, the file of --config, the
    /// environment, and flags.
    Serve(ServeArgs),
    /// Run the local stand-in for Event Hubs and IoT Hub alone, with simulated devices
    ///
    /// Microsoft's SDKs for Event Hubs, devices and services connect to it with the connection strings that it prints.
    Devhub(DevhubArgs),
    /// Check the configuration of `serve` and print it, secrets masked
    ///
    /// Takes the same sources as `serve`. Prints TOML that says where each value came from. Exits with 1 when a
    /// connection string is malformed, and with 2 when anything else is wrong.
    CheckConfig(ConfigArgs),
}

/// The sources of a configuration that are on the command line.
#[derive(Args, Debug)]
struct ConfigArgs {
    /// TOML file with options; `HUBRELAY_CONFIG` names one too
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: OptionFlags,
}

/// What `serve` takes.
#[derive(Args, Debug)]
struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// Print one line of JSON on standard output when ready
    #[arg(long)]
    json: bool,
}

/// What `demo` takes.
#[derive(Args, Debug)]
struct DemoArgs {
    /// Address of the relay and its page; port 0 takes a free one
    #[arg(long, env = "HUBRELAY_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = local_address)]
    listen: SocketAddr,

    #[command(flatten)]
    devhub: DevhubArgs,
}

/// What `devhub` takes.
///
/// ADDR is `host:port`, `:port` or a port, where the latter two listen on 127.0.0.1; port 0 takes a free one.
#[derive(Args, Debug)]
struct DevhubArgs {
    /// Address of Event Hubs over AMQP without TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5672", value_parser = local_address)]
    amqp: SocketAddr,

    /// Address of Event Hubs over AMQP with TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5671", value_parser = local_address)]
    amqps: SocketAddr,

    /// Address of the IoT hub's service API (HTTPS)
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8443", value_parser = local_address)]
    rest: SocketAddr,

    /// Address of the IoT hub for devices: MQTT without TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:1883", value_parser = local_address)]
    mqtt: SocketAddr,

    /// Address of the IoT hub for devices: MQTT with TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8883", value_parser = local_address)]
    mqtts: SocketAddr,

    /// Number of partitions of the event hub
    #[arg(long, value_name = "N", default_value_t = PARTITIONS_DEFAULT, value_parser = clap::value_parser!(u16).range(1..=PARTITIONS_MAX))]
    partitions: u16,

    /// Number of simulated devices; 0 means none [default: 12 for demo, 8 for devhub]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=DEVICES_MAX))]
    devices: Option<u32>,

    /// Messages per second of all simulated devices together [default: each device at its own pace]
    #[arg(long, value_name = "MSGS_PER_S", value_parser = message_rate)]
    rate: Option<NonZeroU32>,

    /// Directory for the generated certificate authority, certificates and shared access keys, kept for the next start
    /// [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    tls_dir: Option<PathBuf>,

    /// Print one line of JSON on standard output when ready
    #[arg(long)]
    json: bool,

    /// How much is logged: error, warn, info, verbose or debug
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL", default_value = "info", value_parser = log_level)]
    log_level: LogLevel,

    /// The form of a log line: text or json
    #[arg(long, env = "HUBRELAY_LOG_FORMAT", value_name = "FORMAT", default_value = "text", value_parser = log_format)]
    log_format: LogFormat,
}

const PARTITIONS_DEFAULT: u16 = 4;

/// As many as an event hub of the dedicated tier has.
const PARTITIONS_MAX: i64 = 1024;

const DEMO_DEVICES: u32 = 12;
const DEVHUB_DEVICES: u32 = 8;
/// Each holds a connection of its own.
const DEVICES_MAX: i64 = 10_000;
const RATE_MAX: u32 = 1_000_000;

/// What the demo is to run.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Address of the relay and its page.
    pub listen: SocketAddr,
    /// The stand-in and its devices; its `json` is that of the demo.
    pub devhub: DevhubOptions,
    /// What the environment says about the relay.
    relay: Sources,
}

impl DemoOptions {
    /// The configuration of the demo's relay: that of the environment, but with the demo's own address and hubs. The
    /// connection strings are those of the stand-in, `ca_certificate` is the file that holds its authority.
    pub fn relay_config(
        &self,
        event_hub: &str,
        iot_hub: &str,
        ca_certificate: &Path,
    ) -> Result<Config, Errors> {
        let ca_certificate = ca_certificate.display().to_string();
        Config::load(&self.relay_sources(event_hub, iot_hub, &ca_certificate))
    }

    fn relay_sources(&self, event_hub: &str, iot_hub: &str, ca_certificate: &str) -> Sources {
        self.relay
            .clone()
            .with_flag(options::LISTEN, self.listen.to_string())
            .with_flag(options::EVENT_HUB_CONNECTION_STRING, event_hub)
            .with_flag(options::IOT_HUB_CONNECTION_STRING, iot_hub)
            .with_flag(options::IOT_HUB_CA_FILE, ca_certificate)
            // The stand-in begins empty; what its devices say first is part of what there is to see.
            .with_flag(options::EVENT_HUB_START, EventHubStart::Earliest.as_str())
    }
}

/// What the stand-in is to run. Port 0 takes a free one; the connection strings name the real one.
#[derive(Clone, Debug, PartialEq)]
pub struct DevhubOptions {
    /// Address of Event Hubs over AMQP without TLS.
    pub amqp: SocketAddr,
    /// Address of Event Hubs over AMQP with TLS.
    pub amqps: SocketAddr,
    /// Address of the IoT hub's service API (HTTPS).
    pub rest: SocketAddr,
    /// Address of device MQTT without TLS.
    pub mqtt: SocketAddr,
    /// Address of device MQTT with TLS.
    pub mqtts: SocketAddr,
    /// Number of partitions of the event hub.
    pub partitions: u16,
    /// Number of simulated devices.
    pub devices: u32,
    /// Messages per second of all simulated devices together; `None` leaves each its own pace.
    pub rate: Option<NonZeroU32>,
    /// Where the certificate authority and certificates are kept; `None` is a temporary directory.
    pub tls_dir: Option<PathBuf>,
    /// Whether to print one line of JSON on standard output when ready.
    pub json: bool,
}

/// Does what the command line says, and returns the exit code.
pub fn run(cli: Cli) -> ExitCode {
    let code = match cli.command {
        Command::Demo(args) => demo(args),
        Command::Serve(args) => serve(&args),
        Command::Devhub(args) => devhub(args),
        Command::CheckConfig(args) => {
            check_config(&args.sources(), &mut io::stdout(), &mut io::stderr())
        }
    };
    ExitCode::from(code)
}

fn demo(args: DemoArgs) -> u8 {
    let log = args.devhub.log_config();
    let options = DemoOptions {
        listen: args.listen,
        devhub: args.devhub.options(DEMO_DEVICES),
        relay: Sources::from_process_environment(),
    };
    // What the environment says must be right before the stand-in starts; the real connection strings come later.
    if let Err(errors) = Effective::collect(&options.relay_sources("", "", "")) {
        return refuse(&errors);
    }
    run_logging(log, |log_filter| app::demo(options, log_filter))
}

/// Runs `serve` with the configuration of the environment, but with device messages from `source` rather than from an
/// event hub: see [`app::serve_from`]. No command line leads here.
pub fn serve_from(source: impl FnOnce(Intake, &Lifecycle)) -> ExitCode {
    let sources = Sources::from_process_environment();
    ExitCode::from(serve_configured(&sources, |config, log_filter| {
        app::serve_from(source, config, true, log_filter)
    }))
}

fn serve(args: &ServeArgs) -> u8 {
    serve_configured(&args.config.sources(), |config, log_filter| {
        app::serve(config, args.json, log_filter)
    })
}

fn serve_configured<F>(sources: &Sources, serve: impl FnOnce(Config, LogFilter) -> F) -> u8
where
    F: Future<Output = anyhow::Result<()>>,
{
    let effective = match Effective::collect(sources) {
        Ok(effective) => effective,
        Err(errors) => return refuse(&errors),
    };
    let config = match effective.config() {
        Ok(config) => config,
        Err(errors) => return refuse(&errors),
    };
    run_logging(config.log, |log_filter| {
        for error in effective.malformed_connection_strings() {
            error!(error.message = %error, "started with a malformed connection string; GET /status says so");
        }
        report(&config);
        serve(config, log_filter)
    })
}

fn devhub(args: DevhubArgs) -> u8 {
    let log = args.log_config();
    let options = args.options(DEVHUB_DEVICES);
    run_logging(log, |_| app::devhub(options))
}

/// Prints the configuration to `results` and what is wrong with it to `complaints`.
fn check_config(sources: &Sources, results: &mut dyn Write, complaints: &mut dyn Write) -> u8 {
    let effective = match Effective::collect(sources) {
        Ok(effective) => effective,
        Err(errors) => return complain(complaints, &errors, EXIT_USAGE),
    };
    if write!(results, "{}", effective.to_toml()).is_err() {
        return EXIT_FAILURE;
    }
    if let Err(errors) = effective.config() {
        return complain(complaints, &errors, EXIT_USAGE);
    }
    let malformed = effective.malformed_connection_strings();
    malformed.iter().fold(EXIT_OK, |_, error| {
        complain(complaints, error, EXIT_FAILURE)
    })
}

/// Says in the log what an operator should know about a configuration that is valid.
fn report(config: &Config) {
    let keys = [
        (
            options::PRIMARY_ADMIN_SECRET,
            config.admin_keys.primary_is_generated(),
        ),
        (
            options::SECONDARY_ADMIN_SECRET,
            config.admin_keys.secondary_is_generated(),
        ),
    ];
    for (option, _) in keys.iter().filter(|(_, generated)| *generated) {
        warn!(
            config.option = option,
            "no admin key is configured; generated one that nobody knows"
        );
    }
    if let Some(data_dir) = &config.data_dir {
        warn!(
            config.data_dir = %data_dir.display(),
            "the data directory is reserved for a later release; nothing is kept there yet"
        );
    }
}

/// Sets up logging and runs a command to its end.
fn run_logging<F>(log: LogConfig, command: impl FnOnce(LogFilter) -> F) -> u8
where
    F: Future<Output = anyhow::Result<()>>,
{
    let rust_log = std::env::var("RUST_LOG").ok();
    let log_filter = match logging::init(log, rust_log.as_deref()) {
        Ok(log_filter) => log_filter,
        Err(error) => return refuse(&error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            error!(error.message = %error, "cannot start the runtime");
            return EXIT_FAILURE;
        }
    };
    let result = runtime.block_on(command(log_filter));
    // What still runs was given its time; it must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => EXIT_OK,
        Err(error) => {
            error!(
                error.message = format!("{error:#}"),
                "stopped with a failure"
            );
            if error.is::<Errors>() {
                EXIT_USAGE
            } else {
                EXIT_FAILURE
            }
        }
    }
}

/// Says on standard error why the command does not start.
fn refuse(reason: &dyn Display) -> u8 {
    complain(&mut io::stderr(), reason, EXIT_USAGE)
}

fn complain(complaints: &mut dyn Write, reason: &dyn Display, code: u8) -> u8 {
    // Without a standard error the exit code has to say it.
    let _ = writeln!(complaints, "error: {reason}");
    code
}

impl ConfigArgs {
    fn sources(&self) -> Sources {
        self.sources_over(Sources::from_process_environment())
    }

    fn sources_over(&self, mut sources: Sources) -> Sources {
        if let Some(file) = &self.config {
            sources = sources.with_file(file);
        }
        self.flags.add_to(sources)
    }
}

impl DevhubArgs {
    fn log_config(&self) -> LogConfig {
        LogConfig {
            level: self.log_level,
            format: self.log_format,
        }
    }

    fn options(self, devices_default: u32) -> DevhubOptions {
        DevhubOptions {
            amqp: self.amqp,
            amqps: self.amqps,
            rest: self.rest,
            mqtt: self.mqtt,
            mqtts: self.mqtts,
            partitions: self.partitions,
            devices: self.devices.unwrap_or(devices_default),
            rate: self.rate,
            tls_dir: self.tls_dir,
            json: self.json,
        }
    }
}

fn local_address(text: &str) -> Result<SocketAddr, AddressError> {
    parse_address(text, LOOPBACK)
}

fn message_rate(text: &str) -> Result<NonZeroU32, String> {
    text.parse()
        .ok()
        .filter(|rate: &NonZeroU32| rate.get() <= RATE_MAX)
        .ok_or_else(|| format!("expected a whole number from 1 to {RATE_MAX}"))
}

fn log_level(text: &str) -> Result<LogLevel, String> {
    LogLevel::from_word(text).ok_or_else(|| format!("expected {}", LogLevel::WORDS.join(", ")))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    LogFormat::from_word(text).ok_or_else(|| format!("expected {}", LogFormat::WORDS.join(", ")))
}

#[cfg(test)]
mod tests;
