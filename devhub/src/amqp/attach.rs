//! Which links are let in: address, token, role, position and epoch of an attach.

use std::collections::VecDeque;

use super::{
    error::{
        ARGUMENT_ERROR, AmqpError, NOT_ALLOWED, NOT_FOUND, RESOURCE_LIMIT_EXCEEDED, SERVER_BUSY,
        UNAUTHORIZED_ACCESS,
    },
    link::{
        Destination, Feed, Incoming, Link, Outgoing, RequestNode, SENDER_CREDIT, Seat, Subscription,
    },
    performative::Attach,
    session::Context,
};
use crate::{
    address::{Address, Entity},
    event_hub::EventHub,
    partition_log::StartPosition,
    selector,
};

/// Links that one connection may have at a time, over all its sessions.
pub(crate) const LINKS_MAX: usize = 1024;

/// Opens the link that an attach asks for, or says why not.
pub(crate) fn open(attach: &Attach<'_>, cx: &Context<'_>) -> Result<Link, AmqpError> {
    if cx.link_count >= LINKS_MAX {
        return Err(AmqpError::new(
            RESOURCE_LIMIT_EXCEEDED,
            format!("a connection has at most {LINKS_MAX} links"),
        ));
    }
    let text = attach
        .node_address()
        .ok_or_else(|| AmqpError::new(NOT_ALLOWED, "the attach names no node"))?;
    let address = Address::parse(text);
    let hub = &cx.shared.hub;
    let now_ms = hub.now_ms();
    if address.entity() != Entity::Cbs && cx.shared.faults.refuses_attach() {
        return Err(AmqpError::new(
            SERVER_BUSY,
            "The request was terminated because the entity is being throttled.",
        ));
    }
    let (scope, authorized) = match address.entity() {
        Entity::Cbs => (None, true),
        // The node serves the whole namespace, so each request is checked for the hub that it names.
        Entity::Management => (None, cx.tokens.any(now_ms)),
        _ => {
            let authorized = cx.tokens.open(&address, now_ms);
            (Some(address.clone()), authorized)
        }
    };
    if !authorized {
        return Err(AmqpError::new(
            UNAUTHORIZED_ACCESS,
            format!("Unauthorized access. A token for '{text}' is required."),
        ));
    }
    if attach.is_receiver {
        let feed = match address.entity() {
            Entity::Cbs => replies(RequestNode::Cbs),
            Entity::Management => replies(RequestNode::Management),
            Entity::Consumer {
                hub: name,
                group,
                partition,
            } => {
                let partition = find_partition(hub, name, partition, text)?;
                if !hub.has_consumer_group(group) {
                    return Err(not_found(text));
                }
                Feed::Events(subscribe(attach, group, partition, cx)?)
            }
            _ => return Err(not_found(text)),
        };
        let names = [Some(attach.name), attach.target_address()];
        let names = names.into_iter().flatten().map(str::to_owned).collect();
        Ok(Link::Outgoing(Outgoing::new(
            attach.handle,
            names,
            scope,
            feed,
        )))
    } else {
        let destination = match address.entity() {
            Entity::Cbs => Destination::Requests(RequestNode::Cbs),
            Entity::Management => Destination::Requests(RequestNode::Management),
            Entity::Hub { hub: name } if is_hub(hub, name) => Destination::Hub,
            Entity::Partition {
                hub: name,
                partition,
            } => Destination::Partition(find_partition(hub, name, partition, text)?),
            _ => return Err(not_found(text)),
        };
        Ok(Link::Incoming(Incoming {
            destination,
            scope,
            delivery_count: attach.initial_delivery_count.unwrap_or(0),
            credit: SENDER_CREDIT,
            unfinished: None,
        }))
    }
}

/// Why a link is detached that was let in once.
pub(crate) fn token_lapsed() -> AmqpError {
    AmqpError::new(
        UNAUTHORIZED_ACCESS,
        "ExpiredToken: The token is expired. Put a new one before the old one lapses.",
    )
}

fn replies(node: RequestNode) -> Feed {
    Feed::Replies {
        node,
        queue: VecDeque::new(),
    }
}

fn subscribe(
    attach: &Attach<'_>,
    group: &str,
    partition: u16,
    cx: &Context<'_>,
) -> Result<Subscription, AmqpError> {
    let hub = &cx.shared.hub;
    let start = match attach.selector(selector::FILTER_KEY)? {
        Some(text) => selector::parse(text)
            .map_err(|error| AmqpError::new(ARGUMENT_ERROR, error.to_string()))?,
        None => StartPosition::Earliest,
    };
    let next_sequence = {
        let partition = hub.partition(partition).ok_or_else(|| not_found(group))?;
        let log = partition.log.lock();
        log.resolve(start)
            .ok_or_else(|| past_the_end(start, &log.properties()))?
    };
    let property = |key| attach.properties.and_then(|map| map.get(key));
    let epoch = property("com.microsoft:epoch").and_then(|value| value.integer());
    let name = property("com.microsoft:receiver-name").and_then(|value| value.text());
    Ok(Subscription {
        seat: Seat::take(hub, group, partition, epoch, name, cx.mailbox)?,
        next_sequence,
        with_metrics: attach.desires("com.microsoft:enable-receiver-runtime-metric"),
    })
}

fn is_hub(hub: &EventHub, name: &str) -> bool {
    hub.name().eq_ignore_ascii_case(name)
}

fn find_partition(
    hub: &EventHub,
    name: &str,
    partition: &str,
    address: &str,
) -> Result<u16, AmqpError> {
    partition
        .parse()
        .ok()
        .filter(|id| is_hub(hub, name) && hub.partition(*id).is_some())
        .ok_or_else(|| not_found(address))
}

fn not_found(address: &str) -> AmqpError {
    AmqpError::new(
        NOT_FOUND,
        format!("The messaging entity '{address}' could not be found."),
    )
}

fn past_the_end(
    start: StartPosition,
    properties: &crate::partition_log::PartitionProperties,
) -> AmqpError {
    let text = match start {
        StartPosition::Offset { offset, .. } => format!(
            "The supplied offset '{offset}' is invalid. The last offset in the system is '{}'",
            properties.last_enqueued_offset
        ),
        StartPosition::Sequence { number, .. } => format!(
            "The supplied sequence number '{number}' is invalid. The last sequence number in the \
             system is '{}'",
            properties.last_enqueued_sequence_number
        ),
        StartPosition::Earliest | StartPosition::Latest | StartPosition::EnqueuedTime { .. } => {
            "The supplied position is invalid.".to_owned()
        }
    };
    AmqpError::new(ARGUMENT_ERROR, text)
}
