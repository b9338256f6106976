//! Faults to test clients with: what a real event hub or IoT hub does at times, on demand.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crate::{
    amqp::{
        error::{AmqpError, CONNECTION_FORCED},
        server::Connections,
    },
    event_hub::EventHub,
    service_api::{ServiceFault, faults::ServiceFaults},
};

/// The fault switches of a running devhub. Cloned handles mean the same switches.
#[derive(Clone, Debug)]
pub struct Faults {
    pub(crate) service: Arc<ServiceFaults>,
    pub(crate) hub: EventHub,
    pub(crate) switches: Arc<Switches>,
    pub(crate) connections: Arc<Connections>,
}

impl Faults {
    /// Detaches all receivers of a partition with a condition, such as `amqp:link:detach-forced`,
    /// and returns how many there were.
    pub fn detach_receivers(&self, partition: u16, condition: &str, description: &str) -> usize {
        let error = AmqpError::new(condition.to_owned(), description);
        self.hub.readers().detach_all(partition, &error)
    }

    /// Closes all connections with `amqp:connection:forced` and returns how many there were.
    pub fn close_connections(&self) -> usize {
        self.connections.close_all(&AmqpError::new(
            CONNECTION_FORCED,
            "The connection was closed by a fault switch.",
        ))
    }

    /// While set, receivers of the partition stay attached and get nothing, though events still go
    /// in. Whether there is such a partition.
    pub fn stall_partition(&self, partition: u16, stalled: bool) -> bool {
        let partition = self.hub.partition(partition);
        if let Some(partition) = partition {
            partition.set_stalled(stalled);
        }
        partition.is_some()
    }

    /// Has a fault meet requests to the service REST API from now on; the default one ends that.
    pub fn meet_service_requests(&self, fault: ServiceFault) {
        self.service.set(fault);
    }

    /// While set, every attach but those to `$cbs` is refused with `com.microsoft:server-busy`.
    pub fn refuse_attach(&self, refuse: bool) {
        self.switches.refuse_attach.store(refuse, Ordering::Relaxed);
    }

    /// While set, every put-token is answered with status 401.
    pub fn fail_put_token(&self, fail: bool) {
        self.switches.fail_put_token.store(fail, Ordering::Relaxed);
    }
}

/// The switches as connections read them.
#[derive(Debug, Default)]
pub(crate) struct Switches {
    refuse_attach: AtomicBool,
    fail_put_token: AtomicBool,
}

impl Switches {
    pub(crate) fn refuses_attach(&self) -> bool {
        self.refuse_attach.load(Ordering::Relaxed)
    }

    pub(crate) fn fails_put_token(&self) -> bool {
        self.fail_put_token.load(Ordering::Relaxed)
    }
}
