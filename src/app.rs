//! Composition: from a configuration to running parts, and to their end in order.

mod relay_server;
mod stand_in;

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;
use axum::http::HeaderValue;
use serde::Serialize;
use tracing::info;

pub use self::relay_server::Intake;
use self::relay_server::{RelayServer, consume_event_hub};
use self::stand_in::StandIn;
use crate::cli::{DemoOptions, DevhubOptions};
use crate::config::Config;
use crate::demo;
use crate::lifecycle::{Lifecycle, Signals};
use crate::telemetry::LogFilter;

/// Runs the relay until it is told to stop.
pub async fn serve(config: Config, json: bool, log_filter: LogFilter) -> anyhow::Result<()> {
    serve_from(consume_event_hub, config, json, log_filter).await
}

/// The same with device messages from another source than the configured event hub, to measure the relay apart from
/// AMQP. A relay believes what its source says a device sent, so a source must be as trustworthy as an event hub.
///
/// `source` starts tasks that hand messages to [`Intake::relay`] until [`Lifecycle::stop`] is cancelled.
pub async fn serve_from(
    source: impl FnOnce(Intake, &Lifecycle),
    config: Config,
    json: bool,
    log_filter: LogFilter,
) -> anyhow::Result<()> {
    #[derive(Serialize)]
    struct Ready<'a> {
        url: &'a str,
    }

    let signals = Signals::listen().context("cannot listen for signals")?;
    let lifecycle = Lifecycle::new();
    let server = RelayServer::bind(Arc::new(config), log_filter)?;
    if json {
        print_line(&serde_json::to_string(&Ready { url: &server.url() })?)?;
    }
    let grace = server.config().shutdown_grace;
    server.start(&lifecycle, source, |_api| axum::Router::new());
    Ok(lifecycle.run(signals, grace).await?)
}

/// Runs the stand-in, simulated devices, the relay and its live page until told to stop.
pub async fn demo(options: DemoOptions, log_filter: LogFilter) -> anyhow::Result<()> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Ready<'a> {
        #[serde(flatten)]
        stand_in: stand_in::Ready<'a>,
        admin_connection_string: &'a str,
        url: &'a str,
    }

    let signals = Signals::listen().context("cannot listen for signals")?;
    let lifecycle = Lifecycle::new();
    let stand_in = StandIn::start(&options.devhub).await?;
    let config = options.relay_config(
        stand_in.event_hub_connection_string(),
        stand_in.iot_hub_service_connection_string(),
        stand_in.ca_certificate(),
    )?;
    let grace = config.shutdown_grace;
    let server = RelayServer::bind(Arc::new(config), log_filter)?;
    let url = server.url();
    let admin_key = server.config().admin_keys.primary().expose().to_owned();
    let admin_connection_string = format!("Endpoint={url};SharedAccessKey={admin_key}");
    let follow_key = admin_key.clone();
    let backend_key =
        HeaderValue::try_from(admin_key).context("the admin key cannot be sent in a header")?;
    let devices = stand_in.simulated_device_ids().map(str::to_owned).collect();
    let own_device = stand_in.own_device().device_id.clone();
    server.start(&lifecycle, consume_event_hub, |api| {
        demo::router(api, backend_key, devices, own_device)
    });

    if options.devhub.json {
        let ready = Ready {
            stand_in: stand_in.ready(),
            admin_connection_string: &admin_connection_string,
            url: &url,
        };
        print_line(&serde_json::to_string(&ready)?)?;
    } else {
        let follow = stand_in
            .simulated_device_ids()
            .next()
            .map_or_else(String::new, |device| {
                format!(
                    "Follow a device from another terminal:\n  \
                 curl -N -H 'Shared-Access-Key: {follow_key}' '{url}/events?telemetry={device}'\n\n"
                )
            });
        print_line(&format!(
            "The live page is at {url}/\n\n\
             Admin connection string: {admin_connection_string}\n\
             {}\n\
             {follow}Press Ctrl-C to stop.",
            connection_strings(&stand_in),
        ))?;
    }
    let ended = lifecycle.run(signals, grace).await;
    stand_in.stop().await;
    Ok(ended?)
}

/// Runs the stand-in for Event Hubs and IoT Hub until told to stop.
pub async fn devhub(options: DevhubOptions) -> anyhow::Result<()> {
    let signals = Signals::listen().context("cannot listen for signals")?;
    let lifecycle = Lifecycle::new();
    let stand_in = StandIn::start(&options).await?;
    if options.json {
        print_line(&serde_json::to_string(&stand_in.ready())?)?;
    } else {
        print_line(&format!(
            "{}\
             Simulated devices: {}\n\n\
             Press Ctrl-C to stop.",
            connection_strings(&stand_in),
            stand_in.simulated_device_ids().count(),
        ))?;
    }
    let ended = lifecycle.run(signals, stand_in::STOP_GRACE).await;
    stand_in.stop().await;
    Ok(ended?)
}

/// What people need to connect to the stand-in.
fn connection_strings(stand_in: &StandIn) -> String {
    format!(
        "Event Hub connection string: {}\n\
         IoT Hub service connection string: {}\n\
         Device connection string, for a device of your own: {}\n\
         CA certificate to trust with the latter two: {}\n",
        stand_in.event_hub_connection_string(),
        stand_in.iot_hub_service_connection_string(),
        stand_in.own_device().connection_string,
        stand_in.ca_certificate().display(),
    )
}

/// Where a client on this machine reaches a listener.
fn origin(scheme: &str, address: SocketAddr) -> String {
    let mut address = address;
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => {
            address.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            address.set_ip(Ipv6Addr::LOCALHOST.into());
        }
        SocketAddr::V4(_) | SocketAddr::V6(_) => {}
    }
    format!("{scheme}://{address}")
}

/// Writes a result on standard output. Nobody listening there is no reason to stop.
fn print_line(line: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            info!("nobody reads standard output");
            Ok(())
        }
        result => result.context("cannot write to standard output"),
    }
}
