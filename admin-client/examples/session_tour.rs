//! A tour of one session, as its user's browser and the security backend would go it together.
//!
//! ```sh
//! cargo run -p hubrelay -- demo                # prints a connection string and the ids of its devices
//! RELAY_CONNECTION_STRING='Endpoint=…;SharedAccessKey=…' cargo run -p admin-client --example session_tour -- press-01
//! ```

#![expect(clippy::print_stdout, reason = "this is what the tour shows")]

use std::env;

use admin_client::{AdminClient, ConnectionString, Error};
use anyhow::Context as _;
use relay_protocol::{DeviceId, Grant, GrantRequest, Subscription};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let connection: ConnectionString = env::var("RELAY_CONNECTION_STRING")
        .context("RELAY_CONNECTION_STRING is not set")?
        .parse()?;
    let device = env::args().nth(1).context("name a device")?;
    let device_id = DeviceId::from(device);

    let admin = AdminClient::new(&connection)?;
    println!("relay {}", admin.relay().version().await?);

    // The browser's part: a session, which may see nothing yet.
    let session = admin.relay().create_session().await?;
    let everything = Subscription::Telemetry {
        telemetry_key: None,
    };
    match session.subscribe(&device_id, &everything).await {
        Err(Error::Status {
            status: 403,
            message,
            ..
        }) => println!("refused: {message}"),
        other => anyhow::bail!("expected a refusal, got {other:?}"),
    }

    // The backend's part: it has decided that its user may see the device.
    let grant = GrantRequest::new(session.id(), &device_id, Grant::every_telemetry_key());
    admin.grant(&grant).await?;

    // The browser again: what is known, then whatever comes.
    session.subscribe(&device_id, &everything).await?;
    for (key, last) in session.last_values(&device_id).await?.data {
        println!("{key} = {} at {}", last.value, last.timestamp);
    }

    admin.revoke(&grant).await?;
    let refused = session.last_values(&device_id).await;
    println!(
        "after the revocation: {:?}",
        refused.err().and_then(|error| error.status())
    );
    admin.delete_session(session.id()).await?;
    Ok(())
}
