//! Serves one event hub until it is interrupted, and prints how to reach it.
//!
//! `cargo run -p devhub --example event_hub -- [PORT [TLS_PORT]]`

use std::{env, net::Ipv4Addr};

use anyhow::Context;
use devhub::{Devhub, Options};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let mut ports = env::args().skip(1).map(|port| {
        port.parse::<u16>()
            .with_context(|| format!("{port} is not a port"))
    });
    let mut next_port = || ports.next().transpose().map(Option::unwrap_or_default);
    let directory = env::temp_dir().join("devhub-tls");
    let devhub = Devhub::start(Options {
        amqp: (Ipv4Addr::LOCALHOST, next_port()?).into(),
        amqp_tls: Some((Ipv4Addr::LOCALHOST, next_port()?).into()),
        tls_dir: Some(directory),
        ..Options::default()
    })
    .await?;
    print(&devhub);
    tokio::signal::ctrl_c().await?;
    devhub.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn print(devhub: &Devhub) {
    println!("{}", devhub.event_hub_connection_string());
    if let (Some(tls), Some(ca)) = (devhub.tls_connection_string(), devhub.ca_path()) {
        println!("{tls}");
        println!("{}", ca.display());
    }
}
