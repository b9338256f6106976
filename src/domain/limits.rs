//! Every bound of the domain in one place. What is over a bound is refused or dropped, and counted.

/// Bounds on what sessions may ask for.
#[derive(Clone, Copy, Debug)]
pub struct SessionLimits {
    /// Grants in one session; one more is refused.
    pub grants_max: usize,
    /// Subscriptions in one session; one more is refused.
    pub subscriptions_max: usize,
}

/// Bounds on what one shard remembers.
#[derive(Clone, Copy, Debug)]
pub struct ShardLimits {
    /// Devices with a last value, state, twin or subscription; messages of further ones are dropped.
    pub devices_max: usize,
    /// Telemetry keys with a last value in one device; values of further ones are delivered but not remembered.
    pub keys_per_device_max: usize,
}

/// Bounds on what waits for one client.
#[derive(Clone, Copy, Debug)]
pub struct OutboxLimits {
    /// Updates that queue in order before conflation begins.
    pub frames_max: usize,
    /// Bytes that queue in order before conflation begins, and again that conflated values may take.
    pub bytes_max: usize,
    /// Updates that are remembered after they left, for a client that comes back.
    pub replay_frames_max: usize,
    /// Bytes of updates that are remembered after they left.
    pub replay_bytes_max: usize,
}
