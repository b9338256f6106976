//! What a session does for itself.

use std::time::Duration;

use relay_protocol::{
    DesiredPropertyPatch, DeviceId, DirectMethodRequest, HubResponse, LastValue, MethodParams,
    RawJson, SESSION_ID_HEADER, SessionId, Subscription, SubscriptionRequest, TelemetrySnapshot,
    TelemetryValues, Twin,
};
use reqwest::{Method, header::HeaderValue};

use crate::{
    Error,
    retry::Repeat,
    transport::{Caller, Transport},
};

/// How long IoT Hub waits for a device's answer to a direct method, where the call does not say.
const METHOD_RESPONSE_DEFAULT_S: u32 = 30;

/// What the way to the device and back may add to the times that a direct method names.
const METHOD_MARGIN: Duration = Duration::from_secs(10);

/// A client that acts for one session: it sees what the session was granted, and has no key.
///
/// Made by [`RelayClient::create_session`](crate::RelayClient::create_session) and
/// [`RelayClient::session`](crate::RelayClient::session). Cheap to clone. Dropping it does not end the session.
///
/// Giving rights to itself is not among its methods; that takes an [`AdminClient`](crate::AdminClient):
///
/// ```compile_fail,E0599
/// # use admin_client::SessionClient;
/// # use relay_protocol::GrantRequest;
/// async fn help_yourself(session: SessionClient, request: GrantRequest) {
///     session.grant(&request).await;
/// }
/// ```
#[derive(Clone, Debug)]
pub struct SessionClient {
    id: SessionId,
    caller: Caller,
}

impl SessionClient {
    pub(crate) fn new(transport: Transport, id: SessionId) -> Result<Self, Error> {
        let header =
            HeaderValue::from_str(id.as_str()).map_err(|_| Error::HeaderValue("session id"))?;
        let caller = Caller::new(transport, SESSION_ID_HEADER, header);
        Ok(Self { id, caller })
    }

    /// The id of the session, a secret. Security backends need it to grant; sockets connect with it.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Subscribes to something that was granted; [`Error::Status`] with 403 when it was not, with 404 when the session
    /// is over.
    pub async fn subscribe(
        &self,
        device_id: &DeviceId,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        self.change_subscription(Method::PUT, device_id, subscription)
            .await
    }

    /// Ends a subscription; errors as with [`Self::subscribe`].
    pub async fn unsubscribe(
        &self,
        device_id: &DeviceId,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        self.change_subscription(Method::DELETE, device_id, subscription)
            .await
    }

    /// Subscribes to all of `wanted` that is granted, in one call, and answers what that was.
    pub async fn subscribe_all(
        &self,
        wanted: impl IntoIterator<Item = (DeviceId, Subscription)>,
    ) -> Result<Vec<(DeviceId, Subscription)>, Error> {
        self.change_subscriptions(Method::PUT, wanted).await
    }

    /// Ends all of `unwanted` that is granted, in one call, and answers what that was.
    pub async fn unsubscribe_all(
        &self,
        unwanted: impl IntoIterator<Item = (DeviceId, Subscription)>,
    ) -> Result<Vec<(DeviceId, Subscription)>, Error> {
        self.change_subscriptions(Method::DELETE, unwanted).await
    }

    /// The last value of one telemetry key that was granted. A key that never had one is [`Error::Status`] with 404,
    /// one that was not granted with 403.
    pub async fn last_value(
        &self,
        device_id: &DeviceId,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetryValues>, Error> {
        self.caller
            .last_value(device_id.as_str(), telemetry_key)
            .await
    }

    /// The last values of the telemetry keys of a device that were granted.
    pub async fn last_values(
        &self,
        device_id: &DeviceId,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller.last_values(device_id.as_str()).await
    }

    /// Forgets the last value of one telemetry key for everybody, and answers what it was. Needs the grant for every
    /// key of the device.
    pub async fn delete_last_value(
        &self,
        device_id: &DeviceId,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller
            .delete_last_value(device_id.as_str(), telemetry_key)
            .await
    }

    /// Forgets the last telemetry values of a device for everybody, and answers what they were. Needs the grant for
    /// every key of the device.
    pub async fn delete_last_values(
        &self,
        device_id: &DeviceId,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller.delete_last_values(device_id.as_str()).await
    }

    /// Whether a device is connected.
    pub async fn connection_state(&self, device_id: &DeviceId) -> Result<LastValue<bool>, Error> {
        self.caller.connection_state(device_id.as_str()).await
    }

    /// The twin of a device.
    pub async fn device_twin(&self, device_id: &DeviceId) -> Result<LastValue<Twin>, Error> {
        self.caller.device_twin(device_id.as_str()).await
    }

    /// Calls a direct method of a device, which must be granted, and answers what the device said. The call may take
    /// as long as its own time-outs say, even when that is longer than the client's.
    pub async fn invoke_direct_method(
        &self,
        device_id: &DeviceId,
        method: MethodParams,
    ) -> Result<HubResponse, Error> {
        let seconds = method
            .response_timeout_in_seconds
            .unwrap_or(METHOD_RESPONSE_DEFAULT_S)
            .saturating_add(method.connect_timeout_in_seconds.unwrap_or(0));
        let duration = Duration::from_secs(seconds.into()) + METHOD_MARGIN;
        let request = DirectMethodRequest {
            device_id: device_id.clone(),
            method_params: method,
        };
        let call = self
            .caller
            .call(Repeat::IfUnseen, Method::POST, &["directMethod"])?;
        call.json(&request).takes_up_to(duration).read().await
    }

    /// Changes desired properties of a device's twin, which must be granted; members that are `null` are deleted.
    /// `patch` is an object.
    pub async fn patch_desired_properties(
        &self,
        device_id: &DeviceId,
        patch: RawJson,
    ) -> Result<HubResponse, Error> {
        let request = DesiredPropertyPatch {
            device_id: device_id.clone(),
            desired_property_patch: patch,
        };
        let segments = ["deviceTwinDesiredProperties"];
        let call = self
            .caller
            .call(Repeat::IfUnseen, Method::PATCH, &segments)?;
        call.json(&request).read().await
    }

    async fn change_subscription(
        &self,
        method: Method,
        device_id: &DeviceId,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        let request = SubscriptionRequest {
            session_id: Some(self.id.clone()),
            device_id: device_id.clone(),
            subscription: subscription.clone(),
        };
        let call = self.caller.call(Repeat::Safe, method, &["subscription"])?;
        call.json(&request).acknowledged().await
    }

    /// As a bare array, which both methods take; the header names the session.
    async fn change_subscriptions(
        &self,
        method: Method,
        subscriptions: impl IntoIterator<Item = (DeviceId, Subscription)>,
    ) -> Result<Vec<(DeviceId, Subscription)>, Error> {
        let requests: Vec<_> = subscriptions
            .into_iter()
            .map(|(device_id, subscription)| SubscriptionRequest {
                session_id: None,
                device_id,
                subscription,
            })
            .collect();
        let call = self.caller.call(Repeat::Safe, method, &["subscriptions"])?;
        let applied: Vec<SubscriptionRequest> = call.json(&requests).read().await?;
        Ok(applied
            .into_iter()
            .map(|request| (request.device_id, request.subscription))
            .collect())
    }
}
