//! The management node (`$management`): what an event hub and its partitions say about themselves.

use bytes::{Bytes, BytesMut};

use crate::{
    address::Address,
    amqp::{
        codec::{
            put_bool, put_int, put_long, put_map, put_string, put_string_array, put_timestamp,
        },
        error::{ARGUMENT_ERROR, NOT_FOUND},
        message::{Message, Reply},
    },
    cbs::{Refusal, Tokens},
    event_hub::EventHub,
};

/// Answers a request of a connection that holds these tokens.
pub(crate) fn answer(request: &Message<'_>, hub: &EventHub, tokens: &Tokens) -> Bytes {
    let correlation_id = request.message_id();
    match read(request, hub, tokens) {
        Ok(body) => Reply {
            correlation_id,
            status_code: 200,
            status_description: "OK",
            error_condition: None,
            body: &body,
        }
        .encode(),
        Err(refusal) => refusal.reply(correlation_id).encode(),
    }
}

fn read(request: &Message<'_>, hub: &EventHub, tokens: &Tokens) -> Result<BytesMut, Refusal> {
    let properties = request
        .application_properties
        .ok_or_else(|| bad_request("the request has no application properties"))?;
    if properties.text("operation") != Some("READ") {
        return Err(bad_request("the operation must be READ"));
    }
    let name = properties
        .text("name")
        .ok_or_else(|| bad_request("the request has no name"))?;
    if !name.eq_ignore_ascii_case(hub.name()) {
        return Err(not_found(name));
    }
    if !tokens.open(&Address::management(hub.name()), hub.now_ms()) {
        return Err(Refusal::unauthorized(format!(
            "Unauthorized access. A token for '{name}' is required."
        )));
    }
    match properties.text("type") {
        Some("com.microsoft:eventhub") => Ok(describe_hub(hub)),
        Some("com.microsoft:partition") => {
            let partition = properties
                .text("partition")
                .ok_or_else(|| bad_request("the request has no partition"))?;
            describe_partition(hub, partition)
                .ok_or_else(|| not_found(&format!("{name}/Partitions/{partition}")))
        }
        _ => Err(bad_request(
            "the type must be com.microsoft:eventhub or com.microsoft:partition",
        )),
    }
}

fn describe_hub(hub: &EventHub) -> BytesMut {
    let count = hub.partition_count();
    let ids: Vec<String> = (0..count).map(|id| id.to_string()).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let mut out = BytesMut::new();
    put_map(&mut out, |out| {
        put_string(out, "name");
        put_string(out, hub.name());
        put_string(out, "type");
        put_string(out, "com.microsoft:eventhub");
        put_string(out, "created_at");
        put_timestamp(out, hub.created_at_ms());
        put_string(out, "partition_count");
        put_int(out, count.into());
        put_string(out, "partition_ids");
        put_string_array(out, &ids);
        put_string(out, "georeplication_factor");
        put_int(out, 1);
        6
    });
    out
}

fn describe_partition(hub: &EventHub, partition: &str) -> Option<BytesMut> {
    let properties = hub.partition_properties(partition.parse().ok()?)?;
    let mut out = BytesMut::new();
    put_map(&mut out, |out| {
        put_string(out, "name");
        put_string(out, hub.name());
        put_string(out, "type");
        put_string(out, "com.microsoft:partition");
        put_string(out, "partition");
        put_string(out, partition);
        put_string(out, "begin_sequence_number");
        put_long(out, properties.begin_sequence_number);
        put_string(out, "last_enqueued_sequence_number");
        put_long(out, properties.last_enqueued_sequence_number);
        put_string(out, "last_enqueued_offset");
        put_string(out, &properties.last_enqueued_offset.to_string());
        put_string(out, "last_enqueued_time_utc");
        put_timestamp(out, properties.last_enqueued_time_ms);
        put_string(out, "is_partition_empty");
        put_bool(out, properties.is_empty);
        8
    });
    Some(out)
}

fn bad_request(description: &str) -> Refusal {
    Refusal {
        status_code: 400,
        condition: ARGUMENT_ERROR,
        description: description.to_owned(),
    }
}

fn not_found(entity: &str) -> Refusal {
    Refusal {
        status_code: 404,
        condition: NOT_FOUND,
        description: format!("The messaging entity '{entity}' could not be found."),
    }
}
