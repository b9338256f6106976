//! The relay as a client of the IoT hub's service API: direct methods, reads and patches of twins.
//!
//! - Every call ends: connections, answers and repetitions have time limits, and a direct method gets longer than the
//!   device and the hub together may take.
//! - What was sent cannot be called back. So a method or a patch runs to its end when whoever asked for it goes away, and
//!   keeps its place among the calls under way, of which there is a bounded number for each session and in all.
//! - Only what does no harm is repeated: reads, and calls that the hub certainly did not get.
//! - Calls are kept within a budget, shared fairly between sessions, so that the hub need not throttle. Nothing waits.
//! - Values are passed on as they were written.
//! - Nothing of the relay's credentials gets into a log or an error; causes get into the log alone.

mod address;
mod budget;
mod calls_under_way;
mod error;
mod method;
mod refusal;
mod retry;
mod service;
mod tier;
mod token;
mod twin;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use reqwest::Method;
use reqwest::header::HeaderValue;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::address::Address;
use self::budget::{Asker, Budget, Kind, Refused};
use self::calls_under_way::{CallsUnderWay, Place};
pub use self::error::HubError;
pub use self::method::MethodCall;
pub use self::refusal::{Cause, Refusal};
use self::retry::Repeat;
use self::service::{Failure, Request, Service};
use self::tier::{CallsPerSecond, method_cost};
pub use self::twin::TwinSection;
use self::twin::{is_object, parse_twin, patch_to_json};
use crate::clock::SharedClock;
use crate::config::{Config, IotHubUse};
use crate::domain::hub_twin::HubTwin;
use crate::domain::id::{DeviceId, SessionId};
use crate::domain::raw_json::RawJson;
use crate::relay::{ReadTwin, TwinReadError};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{HubCall, HubCallOutcome, IotHubMetrics};

/// Longest answer to a direct method: the hub lets a device answer 128 KiB.
const METHOD_ANSWER_BYTES_MAX: usize = 1 << 20;

/// Longest twin: the hub holds 72 KiB of values, but metadata for each of them.
const TWIN_BYTES_MAX: usize = 4 << 20;

/// Longest body of a request. The hub takes half of it at most, and may break off the connection rather than answer when
/// it gets much more.
const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// How much longer than the device and the hub may take an answer to a direct method is waited for.
    method_margin: Duration,
    /// Longest that one attempt at anything else may take.
    twin_timeout: Duration,
    /// Longest that all attempts at it may take together.
    twin_deadline: Duration,
    /// Time for attempts at a direct method that do not reach the hub, beside the one that does.
    reconnect_margin: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            method_margin: Duration::from_secs(15),
            twin_timeout: Duration::from_secs(10),
            twin_deadline: Duration::from_secs(25),
            reconnect_margin: Duration::from_secs(10),
        }
    }
}

/// A client of one hub. Clones share connections and budget.
#[derive(Clone, Debug)]
pub struct IotHub {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    service: Service,
    timing: Timing,
    /// `None` when the hub alone decides.
    budget: Option<Mutex<Budget>>,
    under_way: CallsUnderWay,
    metrics: Arc<IotHubMetrics>,
    clock: SharedClock,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// One call, with what becomes of it when it fails.
struct Call {
    what: HubCall,
    asker: Asker,
    cost: u32,
    request: Request,
    repeat: Repeat,
    deadline: Duration,
}

impl IotHub {
    /// The client of the configured hub; `None` when none is configured. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// The file with certificate authorities is unusable.
    pub fn from_config(
        config: &Config,
        clock: SharedClock,
        metrics: &Metrics,
    ) -> io::Result<Option<Self>> {
        let Some(connection_string) = config.iot_hub.connection_string() else {
            return Ok(None);
        };
        let service = Service::new(connection_string, &config.iot_hub_use, clock.clone())?;
        let timing = Timing::default();
        let hub = Self::new(service, timing, &config.iot_hub_use, clock, metrics);
        Ok(Some(hub))
    }

    fn new(
        service: Service,
        timing: Timing,
        config: &IotHubUse,
        clock: SharedClock,
        metrics: &Metrics,
    ) -> Self {
        let metrics = metrics.iot_hub.clone();
        let rates = CallsPerSecond::of(config.tier, config.units);
        let budget = rates.map(|rates| Mutex::new(Budget::new(rates, clock.monotonic())));
        let under_way = CallsUnderWay::new(
            config.calls_max,
            config.calls_per_session_max,
            metrics.under_way.clone(),
        );
        Self {
            inner: Arc::new(Inner {
                service,
                timing,
                budget,
                under_way,
                metrics,
                clock,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// Calls a direct method, for at most what its time-outs allow and a little more. Returns what the device answered:
    /// an object with `status` and `payload`.
    pub async fn invoke_method(
        &self,
        asker: SessionId,
        device: &DeviceId,
        call: MethodCall<'_>,
    ) -> Result<RawJson, HubError> {
        let timing = self.inner.timing;
        let what = HubCall::DirectMethod;
        let address = self.address(what, device)?.methods();
        let timeout = call.time_told() + timing.method_margin;
        let call = Call {
            what,
            asker: Some(asker),
            cost: method_cost(call.payload.len()),
            request: Request {
                method: Method::POST,
                address,
                if_match: None,
                body: Some(call.to_json()),
                timeout,
                answer_bytes_max: METHOD_ANSWER_BYTES_MAX,
            },
            repeat: Repeat::IfNotSent,
            deadline: timeout + timing.reconnect_margin,
        };
        let read = |text: String| is_object(&text).then(|| RawJson::from_valid(text));
        self.run_to_the_end(asker, call, read).await
    }

    /// Merges `patch`, the text of a valid JSON object, into a section of a twin. With an etag only when the twin still
    /// has it. Returns the whole twin as it is now.
    pub async fn patch_twin(
        &self,
        asker: SessionId,
        device: &DeviceId,
        section: TwinSection,
        patch: &str,
        if_match: Option<HeaderValue>,
    ) -> Result<HubTwin, HubError> {
        let timing = self.inner.timing;
        let what = match section {
            TwinSection::DesiredProperties => HubCall::DesiredPatch,
            TwinSection::Tags => HubCall::TagsPatch,
        };
        let call = Call {
            what,
            asker: Some(asker),
            cost: 1,
            request: Request {
                method: Method::PATCH,
                address: self.address(what, device)?,
                if_match: Some(if_match.unwrap_or(HeaderValue::from_static("*"))),
                body: Some(patch_to_json(section, patch)),
                timeout: timing.twin_timeout,
                answer_bytes_max: TWIN_BYTES_MAX,
            },
            repeat: Repeat::IfNotSent,
            deadline: timing.twin_deadline,
        };
        self.run_to_the_end(asker, call, parse_twin).await
    }

    /// Reads a twin. `asker` is whose share of the budget it is; `None` for the relay's own or an administrator's.
    pub async fn read_twin(
        &self,
        asker: Option<SessionId>,
        device: &DeviceId,
    ) -> Result<HubTwin, HubError> {
        let timing = self.inner.timing;
        let what = HubCall::TwinRead;
        let call = Call {
            what,
            asker,
            cost: 1,
            request: Request {
                method: Method::GET,
                address: self.address(what, device)?,
                if_match: None,
                body: None,
                timeout: timing.twin_timeout,
                answer_bytes_max: TWIN_BYTES_MAX,
            },
            repeat: Repeat::Always,
            deadline: timing.twin_deadline,
        };
        self.inner.admit(&call)?;
        self.inner.make(&call, parse_twin).await
    }

    /// Cuts off what is under way and waits for its end. Callers hear [`HubError::Stopping`].
    pub async fn stop(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn address(&self, what: HubCall, device: &DeviceId) -> Result<Address, HubError> {
        let address = Address::of_twin(device);
        address.ok_or_else(|| {
            let error = HubError::ImpossibleId;
            self.inner.metrics.calls.inc(what, error.outcome());
            error
        })
    }

    /// Makes a call that must not be lost half-way.
    async fn run_to_the_end<T: Send + 'static>(
        &self,
        asker: SessionId,
        call: Call,
        read: fn(String) -> Option<T>,
    ) -> Result<T, HubError> {
        let inner = self.inner.clone();
        if (call.request.body.as_ref()).is_some_and(|body| body.len() > REQUEST_BYTES_MAX) {
            let error = HubError::TooLarge;
            inner.metrics.calls.inc(call.what, error.outcome());
            return Err(error);
        }
        let place = inner.begin(asker, &call)?;
        inner.admit(&call)?;
        let task = self.inner.tasks.spawn(async move {
            let answer = inner.make(&call, read).await;
            drop(place);
            answer
        });
        match task.await {
            Ok(answer) => answer,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Nobody aborts it; the runtime is being torn down.
                Err(_) => Err(HubError::Stopping),
            },
        }
    }
}

impl ReadTwin for IotHub {
    fn read_twin<'a>(
        &'a self,
        device: &'a DeviceId,
        asker: Option<SessionId>,
    ) -> BoxFuture<'a, Result<HubTwin, TwinReadError>> {
        let read = Self::read_twin(self, asker, device);
        Box::pin(async {
            read.await.map_err(|error| match error {
                HubError::ImpossibleId => TwinReadError::NoSuchDevice,
                HubError::OverBudget { retry_after_s } => {
                    TwinReadError::Throttled { retry_after_s }
                }
                HubError::Refused(refusal) => match (refusal.cause, refusal.status) {
                    // A read has nothing else that the hub could find wrong than the id.
                    (Cause::NoSuchDevice, _) | (Cause::Invalid, 400) => TwinReadError::NoSuchDevice,
                    (_, 429) => TwinReadError::Throttled {
                        retry_after_s: refusal.retry_after_s.unwrap_or(1),
                    },
                    _ => TwinReadError::Unavailable,
                },
                HubError::TooLarge
                | HubError::Unreachable
                | HubError::NoAnswer
                | HubError::TooManyCalls
                | HubError::Stopping => TwinReadError::Unavailable,
            })
        })
    }
}

impl Inner {
    /// A place among the calls under way.
    fn begin(&self, asker: SessionId, call: &Call) -> Result<Place, HubError> {
        self.under_way.begin(asker).ok_or_else(|| {
            let error = HubError::TooManyCalls;
            self.metrics.calls.inc(call.what, error.outcome());
            error
        })
    }

    /// Takes what a call costs from the budget.
    fn admit(&self, call: &Call) -> Result<(), HubError> {
        self.take(call).map_err(|Refused { retry_after_s }| {
            let error = HubError::OverBudget { retry_after_s };
            self.metrics.calls.inc(call.what, error.outcome());
            error
        })
    }

    fn take(&self, call: &Call) -> Result<(), Refused> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let kind = match call.what {
            HubCall::DirectMethod => Kind::DirectMethod,
            HubCall::TwinRead => Kind::TwinRead,
            HubCall::DesiredPatch | HubCall::TagsPatch => Kind::TwinUpdate,
        };
        let now = self.clock.monotonic();
        budget.lock().take(kind, call.asker, call.cost, now)
    }

    /// Makes an admitted call, again where that is safe, and counts it.
    async fn make<T>(&self, call: &Call, read: fn(String) -> Option<T>) -> Result<T, HubError> {
        let begun = self.clock.monotonic();
        let answer = tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(HubError::Stopping),
            answer = self.attempts(call) => answer,
        };
        let answer = answer.and_then(|text| {
            read(text).ok_or_else(|| {
                let cause = "it is not the JSON that is expected";
                tracing::warn!(hub.call = ?call.what, error.message = cause, "the answer of the IoT hub cannot be used");
                HubError::NoAnswer
            })
        });
        let took = self.clock.monotonic().saturating_duration_since(begun);
        self.metrics.durations.observe(call.what, took);
        let outcome = match &answer {
            Ok(_) => HubCallOutcome::Succeeded,
            Err(error) => error.outcome(),
        };
        self.metrics.calls.inc(call.what, outcome);
        answer
    }

    async fn attempts(&self, call: &Call) -> Result<String, HubError> {
        let deadline = Instant::now() + call.deadline;
        let mut attempts = 0;
        loop {
            let sent = timeout_at(deadline, self.service.send(&call.request)).await;
            let failure = match sent {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failure)) => failure,
                Err(_) => Failure::NoAnswer("it took too long".to_owned()),
            };
            attempts += 1;
            let pause = call.repeat.pause(&failure, attempts, rand::random());
            let Some(pause) = pause.filter(|pause| Instant::now() + *pause < deadline) else {
                return Err(report(call.what, failure));
            };
            sleep(pause).await;
            // A repetition is a call of its own to the hub.
            if self.take(call).is_err() {
                return Err(report(call.what, failure));
            }
            self.metrics.retries.inc(call.what);
        }
    }
}

/// Logs why a call failed in the end. What concerns the device alone is for whoever called it.
fn report(what: HubCall, failure: Failure) -> HubError {
    match failure {
        Failure::NotSent(cause) => {
            tracing::warn!(hub.call = ?what, error.message = cause, "the IoT hub cannot be reached");
            HubError::Unreachable
        }
        Failure::NoAnswer(cause) => {
            tracing::warn!(hub.call = ?what, error.message = cause, "the IoT hub gives no usable answer");
            HubError::NoAnswer
        }
        Failure::Refused(refusal) => {
            let status = refusal.status;
            match refusal.cause {
                Cause::Credentials => {
                    tracing::warn!(hub.call = ?what, hub.status = status, "the IoT hub does not accept the policy of `iot_hub_service_connection_string`");
                }
                Cause::Throttled | Cause::HubFailure => {
                    tracing::warn!(hub.call = ?what, hub.status = status, hub.cause = ?refusal.cause, "the IoT hub refuses a call");
                }
                Cause::NoSuchDevice
                | Cause::DeviceOffline
                | Cause::DeviceSilent
                | Cause::Invalid
                | Cause::EtagMismatch => {
                    tracing::debug!(hub.call = ?what, hub.status = status, hub.cause = ?refusal.cause, "the IoT hub refuses a call");
                }
            }
            HubError::Refused(refusal)
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
