//! Every metric of the relay, by name.
//!
//! [`Metrics`] is made once and shared; there is no global. A metric is one line below: field, kind, name and help;
//! registration and `docs/metrics.md` follow from it. Names are `hubrelay_<noun>_<unit>`, counters end in `_total`.
//! Labels have few, fixed values, never a device or session id. Counting is one relaxed atomic addition: labelled
//! counters are resolved when they are made, not when they are counted.

mod instrument;
mod reference;

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

pub use instrument::{
    Counter, CounterBy, CounterByTwo, DurationsBy, Gauge, GaugeBy, GaugeByPartition, Label,
    MetricKind, MetricSpec, RequestCounter,
};
pub use reference::reference_markdown;

use instrument::{Instrument, label, metrics};

/// Media type of [`Metrics::render`].
pub const OPENMETRICS_CONTENT_TYPE: &str =
    "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, in the groups that write them. Clones count into the same metrics.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Device messages in.
    pub ingest: Arc<IngestMetrics>,
    /// What becomes of them.
    pub relay: Arc<RelayMetrics>,
    /// Sessions, grants, subscriptions.
    pub sessions: Arc<SessionMetrics>,
    /// Connections and updates out.
    pub push: Arc<PushMetrics>,
    /// Grant tokens.
    pub grant_tokens: Arc<GrantTokenMetrics>,
    /// Calls to the IoT hub.
    pub iot_hub: Arc<IotHubMetrics>,
    /// REST calls and the HTTP listener.
    pub api: Arc<ApiMetrics>,
    registry: Arc<Registry>,
}

metrics! {
    /// Device messages in.
    IngestMetrics {
        messages: CounterBy<MessageClass> = "hubrelay_ingest_messages_total", "device messages received";
        body_bytes: Counter = "hubrelay_ingest_body_bytes_total", "bytes in the bodies of device messages";
        dropped: CounterBy<MessageDrop> = "hubrelay_ingest_dropped_messages_total", "device messages that were dropped";
        missing_events: Counter = "hubrelay_ingest_missing_events_total", "events that the event hub gave up before they were read";
        decode_failures: Counter = "hubrelay_ingest_decode_failures_total", "bodies that are not JSON; they still reach D2C subscribers";
        connected: Gauge = "hubrelay_ingest_connected_partitions", "partitions that are being read";
        reconnects: Counter = "hubrelay_ingest_reconnects_total", "connections to the event hub made again after a loss";
        stalled_links: Counter = "hubrelay_ingest_stalled_links_total", "links rebuilt because they were silent while their partition moved on";
        token_renewals: Counter = "hubrelay_ingest_token_renewals_total", "tokens renewed with the event hub";
        last_sequence: GaugeByPartition = "hubrelay_ingest_last_sequence_number", "sequence number of the last event received";
        lag_messages: GaugeByPartition = "hubrelay_ingest_lag_messages", "events that the partition holds beyond the last one received";
    }
}

metrics! {
    /// What becomes of device messages.
    RelayMetrics {
        delivered: Counter = "hubrelay_relay_delivered_updates_total", "updates put into an outbox, counted for each session";
        conflated: Counter = "hubrelay_relay_conflated_values_total", "values replaced by newer ones because a client was slow";
        dropped: Counter = "hubrelay_relay_dropped_updates_total", "D2C messages lost because a client was slow";
        throttled: Counter = "hubrelay_relay_throttled_updates_total", "telemetry updates merged into a later one by the throttling interval";
        devices: Gauge = "hubrelay_relay_known_devices", "devices whose state is kept";
        last_values: Gauge = "hubrelay_relay_last_values", "last values kept";
        dropped_values: Counter = "hubrelay_relay_dropped_values_total", "values not kept because their device has too many telemetry keys";
        dropped_messages: Counter = "hubrelay_relay_dropped_messages_total", "messages dropped because there are too many devices, or because their twin is none";
        cut_connections: Counter = "hubrelay_relay_cut_connections_total", "connections cut because their stuck write held up a revocation";
    }
}

metrics! {
    /// Sessions, grants, subscriptions.
    SessionMetrics {
        created: Counter = "hubrelay_sessions_created_total", "sessions created";
        retired: Counter = "hubrelay_sessions_retired_total", "sessions ended, for whatever reason";
        active: Gauge = "hubrelay_sessions_active", "sessions that are not retired";
        bound: Gauge = "hubrelay_sessions_bound", "sessions with a connection";
        grants: Gauge = "hubrelay_sessions_grants", "grants of all sessions";
        subscriptions: Gauge = "hubrelay_sessions_subscriptions", "subscriptions of all sessions";
        refused: CounterBy<SessionRefusal> = "hubrelay_sessions_refusals_total", "sessions, grants and subscriptions refused because of a limit";
    }
}

metrics! {
    /// Connections and updates out.
    PushMetrics {
        connections: GaugeBy<TransportKind> = "hubrelay_push_connections", "open connections of clients";
        opened: CounterBy<TransportKind> = "hubrelay_push_opened_connections_total", "connections of clients opened";
        frames: Counter = "hubrelay_push_written_frames_total", "frames written to clients";
        bytes: Counter = "hubrelay_push_written_bytes_total", "bytes written to clients";
        writes: Counter = "hubrelay_push_writes_total", "writes to client sockets; frames divided by writes is the batching";
        slow_closes: Counter = "hubrelay_push_slow_closes_total", "connections closed because they stayed stuck";
        ping_timeouts: Counter = "hubrelay_push_ping_timeouts_total", "connections closed because a ping was not answered";
        native_errors: CounterBy<NativeError> = "hubrelay_push_native_errors_total", "errors told to clients of the native protocol";
        refused: CounterBy<ConnectionRefusal> = "hubrelay_push_refused_connections_total", "connections refused";
    }
}

metrics! {
    /// Grant tokens.
    GrantTokenMetrics {
        accepted: Counter = "hubrelay_grant_token_accepted_total", "grant tokens accepted";
        refused: CounterBy<TokenRefusal> = "hubrelay_grant_token_refused_total", "grant tokens refused";
        key_fetches: CounterBy<KeyFetch> = "hubrelay_grant_token_key_fetches_total", "times that the key set of grant tokens was fetched";
        keys: Gauge = "hubrelay_grant_token_keys", "public keys with which grant tokens can be verified";
    }
}

metrics! {
    /// Calls to the IoT hub.
    IotHubMetrics {
        calls: CounterByTwo<HubCall, HubCallOutcome> = "hubrelay_iot_hub_calls_total", "calls to the IoT hub's service API, by how they ended; those that were never made included";
        durations: DurationsBy<HubCall> = "hubrelay_iot_hub_call_duration_seconds", "how long calls to the IoT hub took, repetitions included";
        retries: CounterBy<HubCall> = "hubrelay_iot_hub_retries_total", "repetitions of calls that had failed";
        under_way: Gauge = "hubrelay_iot_hub_calls_under_way", "direct methods and twin patches that the IoT hub has not answered yet";
    }
}

metrics! {
    /// REST calls and the HTTP listener.
    ApiMetrics {
        requests: RequestCounter = "hubrelay_api_requests_total", "requests answered";
        rejected: CounterBy<RequestRejection> = "hubrelay_api_rejected_requests_total", "requests rejected before their handler ran";
        open_sockets: Gauge = "hubrelay_http_open_sockets", "sockets that the HTTP listener holds";
        refused_sockets: Counter = "hubrelay_http_refused_sockets_total", "sockets closed at once because there were too many";
        accept_failures: Counter = "hubrelay_http_accept_failures_total", "times that the operating system failed to accept a socket";
        tls_failures: Counter = "hubrelay_http_tls_failures_total", "TLS handshakes that failed";
    }
}

label! {
    /// What a device message is about.
    MessageClass in "class" {
        /// Values of telemetry keys.
        Telemetry = "telemetry",
        /// A device connected or disconnected.
        ConnectionState = "connection_state",
        /// A twin changed.
        DeviceTwin = "device_twin",
        /// Something that is of no use here.
        Ignored = "ignored",
    }
}

label! {
    /// Why a device message was dropped.
    MessageDrop in "reason" {
        /// Nothing says which device it is from.
        NoDeviceId = "no_device_id",
        /// Its body is longer than allowed.
        TooLarge = "too_large",
        /// Its JSON is nested deeper than allowed.
        TooDeep = "too_deep",
        /// Its sections or properties cannot be understood.
        Malformed = "malformed",
    }
}

label! {
    /// Which limit refused a session, grant or subscription.
    SessionRefusal in "reason" {
        /// There are too many sessions.
        SessionsFull = "sessions_full",
        /// There are too many sessions without a connection.
        UnboundSessionsFull = "unbound_sessions_full",
        /// One address creates sessions too fast.
        Rate = "rate",
        /// The session has too many grants.
        GrantsFull = "grants_full",
        /// The session has too many subscriptions.
        SubscriptionsFull = "subscriptions_full",
        /// The snapshot that was asked for is too large.
        SnapshotTooLarge = "snapshot_too_large",
    }
}

label! {
    /// How a client is connected.
    TransportKind in "transport" {
        /// Socket.IO over WebSocket.
        SocketIoWebSocket = "socket_io_websocket",
        /// Socket.IO over long-polling.
        SocketIoPolling = "socket_io_polling",
        /// The native protocol over WebSocket.
        NativeWebSocket = "native_websocket",
        /// Server-sent events.
        ServerSentEvents = "server_sent_events",
    }
}

label! {
    /// What was wrong with a message of a native client; its codes, gathered.
    NativeError in "reason" {
        /// It is not JSON, or not a message.
        Malformed = "malformed",
        /// It came out of order, or its id did.
        Order = "order",
        /// A name, pattern or selector is impossible.
        Invalid = "invalid",
        /// It is over a limit.
        Limit = "limit",
        /// No grant covers it.
        NotGranted = "not_granted",
        /// There is no such session.
        Session = "session",
        /// Its token was refused.
        Token = "token",
    }
}

label! {
    /// Why a connection was refused.
    ConnectionRefusal in "reason" {
        /// There are too many connections.
        ConnectionsFull = "connections_full",
        /// The client speaks another version of the protocol.
        ProtocolVersion = "protocol_version",
        /// The handshake makes no sense.
        BadHandshake = "bad_handshake",
        /// The session is unknown or retired.
        Session = "session",
    }
}

label! {
    /// Why a grant token was refused.
    TokenRefusal in "reason" {
        /// No grant tokens are accepted.
        NotAccepted = "not_accepted",
        /// It is not a JWT in compact form, or too long.
        Malformed = "malformed",
        /// It is signed with another algorithm.
        Algorithm = "algorithm",
        /// Its key is not in the key set.
        KeyUnknown = "key_unknown",
        /// The key set could not be fetched yet.
        KeysUnavailable = "keys_unavailable",
        /// Its signature is wrong.
        Signature = "signature",
        /// It is over.
        Expired = "expired",
        /// It is for later.
        NotYetValid = "not_yet_valid",
        /// Another claim is missing, malformed or not what is required.
        Claims = "claims",
    }
}

label! {
    /// How a fetch of the key set ended.
    KeyFetch in "outcome" {
        /// The keys are in use.
        Succeeded = "succeeded",
        /// The keys from before stay in use.
        Failed = "failed",
    }
}

label! {
    /// What is asked of the IoT hub.
    HubCall in "call" {
        /// A direct method.
        DirectMethod = "direct_method",
        /// A read of a twin.
        TwinRead = "twin_read",
        /// A patch of desired properties.
        DesiredPatch = "desired_patch",
        /// A patch of tags.
        TagsPatch = "tags_patch",
    }
}

label! {
    /// How a call to the IoT hub ended.
    HubCallOutcome in "outcome" {
        /// The hub did it.
        Succeeded = "succeeded",
        /// There is no such device or module.
        NoSuchDevice = "no_such_device",
        /// The device is not connected, or does not listen for methods.
        DeviceOffline = "device_offline",
        /// The device did not answer in time.
        DeviceSilent = "device_silent",
        /// The hub does not accept what was asked.
        Invalid = "invalid",
        /// The twin is another by now than the caller took it for.
        EtagMismatch = "etag_mismatch",
        /// The hub asks to slow down.
        Throttled = "throttled",
        /// The hub does not accept the relay's own credentials.
        Credentials = "credentials",
        /// The hub failed.
        HubFailure = "hub_failure",
        /// The hub cannot be reached, or not trusted.
        Unreachable = "unreachable",
        /// The hub gave no answer, or none that can be understood.
        NoAnswer = "no_answer",
        /// Never made: the budget for the hub is used up.
        OverBudget = "over_budget",
        /// Never made: too many calls were under way.
        TooMany = "too_many",
        /// Cut off because the relay stops.
        Stopped = "stopped",
    }
}

label! {
    /// Why a request was rejected before its handler ran.
    RequestRejection in "reason" {
        /// Its key is missing or wrong.
        Unauthorized = "unauthorized",
        /// Its body is longer than allowed.
        BodyTooLarge = "body_too_large",
        /// Its body is not what the call takes.
        Malformed = "malformed",
        /// It did not arrive in time.
        Timeout = "timeout",
    }
}

impl Metrics {
    /// Registers every metric; all start at zero.
    pub fn new() -> Self {
        let mut registry = Registry::default();
        Self {
            ingest: Arc::new(IngestMetrics::register(&mut registry)),
            relay: Arc::new(RelayMetrics::register(&mut registry)),
            sessions: Arc::new(SessionMetrics::register(&mut registry)),
            push: Arc::new(PushMetrics::register(&mut registry)),
            grant_tokens: Arc::new(GrantTokenMetrics::register(&mut registry)),
            iot_hub: Arc::new(IotHubMetrics::register(&mut registry)),
            api: Arc::new(ApiMetrics::register(&mut registry)),
            registry: Arc::new(registry),
        }
    }

    /// What every metric is, in the order of listing.
    pub fn specs() -> impl Iterator<Item = &'static MetricSpec> {
        [
            IngestMetrics::SPECS,
            RelayMetrics::SPECS,
            SessionMetrics::SPECS,
            PushMetrics::SPECS,
            GrantTokenMetrics::SPECS,
            IotHubMetrics::SPECS,
            ApiMetrics::SPECS,
        ]
        .into_iter()
        .flatten()
    }

    /// The metrics of this moment in the `OpenMetrics` text format ([`OPENMETRICS_CONTENT_TYPE`]).
    pub fn render(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
