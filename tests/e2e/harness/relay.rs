//! The relay under test as its own process.

use super::{Hubrelay, Rest};

/// The primary key. It holds every character that keys may hold and careless parsers stumble over.
pub(crate) const PRIMARY_KEY: &str = "primary/key+with=signs==";

/// The secondary key.
pub(crate) const SECONDARY_KEY: &str = "secondary-key";

/// A running `hubrelay serve`.
pub(crate) struct Relay {
    pub(crate) process: Hubrelay,
    pub(crate) rest: Rest,
}

impl Relay {
    /// Starts one that reads `event_hub_connection_string`. Its socket is bound; it may not consume yet.
    pub(crate) async fn start(event_hub_connection_string: &str, options: &[(&str, &str)]) -> Self {
        let mut environment = vec![
            (
                "IOT_HUB_EVENT_HUB_CONNECTION_STRING",
                event_hub_connection_string,
            ),
            ("PRIMARY_ADMIN_SECRET", PRIMARY_KEY),
            ("SECONDARY_ADMIN_SECRET", SECONDARY_KEY),
            ("HUBRELAY_LISTEN", "127.0.0.1:0"),
        ];
        environment.extend_from_slice(options);
        let mut process =
            Hubrelay::start(&["serve", "--json", "--log-format", "json"], &environment);
        let announcement = process.json_line().await;
        let url = announcement["url"]
            .as_str()
            .unwrap_or_else(|| panic!("no url in {announcement}"));
        let rest = Rest::new(url);
        Self { process, rest }
    }
}
