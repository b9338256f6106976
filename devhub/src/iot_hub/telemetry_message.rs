//! A device-to-cloud message as its transport took it in.

use bytes::Bytes;

/// What a device or module sends. Who it is from is not in it: that is stamped on by the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TelemetryMessage {
    /// What the device says about the message in the names that the hub knows.
    pub system: SystemProperties,
    /// The device's own properties, in its order.
    pub properties: Vec<(String, String)>,
    /// At most 256 KB together with the properties.
    pub body: Bytes,
}

impl TelemetryMessage {
    /// A message with a JSON body in UTF-8, and no properties.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self {
            system: SystemProperties {
                content_type: Some("application/json".to_owned()),
                content_encoding: Some("utf-8".to_owned()),
                ..SystemProperties::default()
            },
            properties: Vec::new(),
            body: body.into(),
        }
    }

    /// What counts towards the limit of a message.
    pub(super) fn size_bytes(&self) -> usize {
        let own = self.properties.iter();
        self.body.len()
            + own
                .map(|(key, value)| key.len() + value.len())
                .sum::<usize>()
    }
}

/// The system properties that a sender may set (see "Create and read IoT Hub messages" in the Azure documentation).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemProperties {
    /// `$.mid`
    pub message_id: Option<String>,
    /// `$.cid`
    pub correlation_id: Option<String>,
    /// `$.uid`
    pub user_id: Option<String>,
    /// `$.to`
    pub to: Option<String>,
    /// `$.ct`
    pub content_type: Option<String>,
    /// `$.ce`
    pub content_encoding: Option<String>,
    /// `$.ctime`, in milliseconds since the Unix epoch.
    pub creation_time_ms: Option<i64>,
    /// `$.exp`, in milliseconds since the Unix epoch.
    pub absolute_expiry_time_ms: Option<i64>,
    /// `$.sub`: the component of a Plug-and-Play device.
    pub subject: Option<String>,
    /// `$.ifid`
    pub interface_id: Option<String>,
    /// The model id that the device told when it connected.
    pub data_schema: Option<String>,
}
