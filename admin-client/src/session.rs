//! What a session does for itself.

use std::time::Duration;

use relay_protocol::{
    DesiredPropertyPatch, DirectMethodRequest, HubResponse, Identity, LastValue, MethodParams,
    SESSION_ID_HEADER, SessionId, Subscription, SubscriptionRequest, TagPatch, TelemetrySnapshot,
    TelemetryValues, Twin,
};
use reqwest::{Method, header::HeaderValue};
use serde::Serialize;

use crate::{
    Error, TwinChange,
    retry::Repeat,
    transport::{Caller, Transport},
};

/// How long IoT Hub waits for a device's answer to a direct method, where the call does not say.
const METHOD_RESPONSE_DEFAULT_S: u32 = 30;

/// What the way to the device and back may add to the times that a direct method names: longer than the relay waits for
/// an IoT hub that is silent, so that its answer says so.
const METHOD_MARGIN: Duration = Duration::from_secs(30);

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
        to: impl Into<Identity>,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        self.change_subscription(Method::PUT, to.into(), subscription)
            .await
    }

    /// Ends a subscription; errors as with [`Self::subscribe`].
    pub async fn unsubscribe(
        &self,
        to: impl Into<Identity>,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        self.change_subscription(Method::DELETE, to.into(), subscription)
            .await
    }

    /// Subscribes to all of `wanted` that is granted, in one call, and answers what that was.
    pub async fn subscribe_all<I: Into<Identity>>(
        &self,
        wanted: impl IntoIterator<Item = (I, Subscription)>,
    ) -> Result<Vec<(Identity, Subscription)>, Error> {
        self.change_subscriptions(Method::PUT, wanted).await
    }

    /// Ends all of `unwanted` that is granted, in one call, and answers what that was.
    pub async fn unsubscribe_all<I: Into<Identity>>(
        &self,
        unwanted: impl IntoIterator<Item = (I, Subscription)>,
    ) -> Result<Vec<(Identity, Subscription)>, Error> {
        self.change_subscriptions(Method::DELETE, unwanted).await
    }

    /// The last value of one telemetry key that was granted. A key that never had one is [`Error::Status`] with 404,
    /// one that was not granted with 403.
    pub async fn last_value(
        &self,
        of: impl Into<Identity>,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetryValues>, Error> {
        self.caller.last_value(&of.into(), telemetry_key).await
    }

    /// The last values of the telemetry keys of a device that were granted.
    pub async fn last_values(
        &self,
        of: impl Into<Identity>,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller.last_values(&of.into()).await
    }

    /// Forgets the last value of one telemetry key for everybody, and answers what it was. Needs the grant for every
    /// key of the device.
    pub async fn delete_last_value(
        &self,
        of: impl Into<Identity>,
        telemetry_key: &str,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller
            .delete_last_value(&of.into(), telemetry_key)
            .await
    }

    /// Forgets the last telemetry values of a device for everybody, and answers what they were. Needs the grant for
    /// every key of the device.
    pub async fn delete_last_values(
        &self,
        of: impl Into<Identity>,
    ) -> Result<LastValue<TelemetrySnapshot>, Error> {
        self.caller.delete_last_values(&of.into()).await
    }

    /// Whether a device is connected. Where the relay has to ask the IoT hub, [`Error::device_failure`] tells a device that
    /// is unknown from too many questions.
    pub async fn connection_state(
        &self,
        of: impl Into<Identity>,
    ) -> Result<LastValue<bool>, Error> {
        self.caller.connection_state(&of.into()).await
    }

    /// The twin of a device, as far as it was granted; errors as with [`Self::connection_state`].
    pub async fn device_twin(&self, of: impl Into<Identity>) -> Result<LastValue<Twin>, Error> {
        self.caller.device_twin(&of.into()).await
    }

    /// Calls a direct method of a device or module, which must be granted for this payload, and answers what it said.
    ///
    /// The call may take as long as its own time-outs say, even when that is longer than the client's. It is made once,
    /// whatever happens: nobody but the caller knows whether a method may be called twice.
    /// [`Error::device_failure`] tells a device that is unknown, offline or silent apart.
    pub async fn invoke_direct_method(
        &self,
        of: impl Into<Identity>,
        method: MethodParams,
    ) -> Result<HubResponse, Error> {
        let seconds = method
            .response_timeout_in_seconds
            .unwrap_or(METHOD_RESPONSE_DEFAULT_S)
            .saturating_add(method.connect_timeout_in_seconds.unwrap_or(0));
        let duration = Duration::from_secs(seconds.into()) + METHOD_MARGIN;
        let request = DirectMethodRequest::new(of, method);
        let call = self
            .caller
            .call(Repeat::Never, Method::POST, &["directMethod"])?;
        call.json(&request).takes_up_to(duration).read().await
    }

    /// Changes desired properties of the twin of a device or module, as far as they were granted, and answers the twin
    /// after the change.
    ///
    /// ```no_run
    /// use admin_client::{Error, SessionClient};
    /// use relay_protocol::DeviceId;
    /// use serde_json::json;
    ///
    /// # async fn example(session: SessionClient) -> Result<(), Error> {
    /// let press = DeviceId::from("press-01");
    /// session.patch_desired_properties(&press, json!({"telemetryInterval": 5000})).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn patch_desired_properties(
        &self,
        of: impl Into<Identity>,
        change: impl Into<TwinChange>,
    ) -> Result<HubResponse, Error> {
        let Identity {
            device_id,
            module_id,
        } = of.into();
        let TwinChange { patch, if_match } = change.into();
        let request = DesiredPropertyPatch {
            device_id,
            module_id,
            desired_property_patch: patch,
            if_match,
        };
        self.patch("deviceTwinDesiredProperties", &request).await
    }

    /// Changes tags of the twin of a device or module, as far as they were granted, and answers the twin after the
    /// change. A device never sees its tags.
    pub async fn patch_tags(
        &self,
        of: impl Into<Identity>,
        change: impl Into<TwinChange>,
    ) -> Result<HubResponse, Error> {
        let Identity {
            device_id,
            module_id,
        } = of.into();
        let TwinChange { patch, if_match } = change.into();
        let request = TagPatch {
            device_id,
            module_id,
            tag_patch: patch,
            if_match,
        };
        self.patch("deviceTwinTags", &request).await
    }

    async fn patch(&self, path: &str, request: &impl Serialize) -> Result<HubResponse, Error> {
        let call = self.caller.call(Repeat::IfUnseen, Method::PATCH, &[path])?;
        call.json(request).read().await
    }

    async fn change_subscription(
        &self,
        method: Method,
        of: Identity,
        subscription: &Subscription,
    ) -> Result<(), Error> {
        let request = SubscriptionRequest::new(of, subscription.clone());
        let call = self.caller.call(Repeat::Safe, method, &["subscription"])?;
        call.json(&request).acknowledged().await
    }

    /// As a bare array, which both methods take; the header names the session.
    async fn change_subscriptions<I: Into<Identity>>(
        &self,
        method: Method,
        subscriptions: impl IntoIterator<Item = (I, Subscription)>,
    ) -> Result<Vec<(Identity, Subscription)>, Error> {
        let requests: Vec<_> = subscriptions
            .into_iter()
            .map(|(of, subscription)| SubscriptionRequest::new(of, subscription))
            .collect();
        let call = self.caller.call(Repeat::Safe, method, &["subscriptions"])?;
        let applied: Vec<SubscriptionRequest> = call.json(&requests).read().await?;
        Ok(applied
            .into_iter()
            .map(|request| {
                let of = Identity {
                    device_id: request.device_id,
                    module_id: request.module_id,
                };
                (of, request.subscription)
            })
            .collect())
    }
}
