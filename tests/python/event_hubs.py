"""Microsoft's Event Hubs SDK for Python, driven by tests written in Rust.

    python event_hubs.py SCENARIO INPUT

INPUT is a JSON object with `connectionString`, optionally `tls` ({"endpoint", "ca"}), and what the scenario takes.
The outcome is one line of JSON on stdout: the scenario's result, or {"error": {"type", "message"}} when the SDK gave
up.
"""

import json
import sys
import threading
from datetime import datetime, timezone

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient, TransportType
from azure.eventhub.exceptions import EventHubError

DEFAULT_CONSUMER_GROUP = "$Default"


def describe(given):
    """The hub and its partitions, as $management tells them."""
    with producer_client(given) as client:
        hub = client.get_eventhub_properties()
        partitions = [client.get_partition_properties(id) for id in hub["partition_ids"]]
    return {
        "name": hub["eventhub_name"],
        "createdAtMs": milliseconds(hub["created_at"]),
        "partitionIds": hub["partition_ids"],
        "partitions": [
            {
                "partitionId": partition["id"],
                "hubName": partition["eventhub_name"],
                "beginningSequenceNumber": partition["beginning_sequence_number"],
                "lastEnqueuedSequenceNumber": partition["last_enqueued_sequence_number"],
                "lastEnqueuedOffset": partition["last_enqueued_offset"],
                "lastEnqueuedTimeMs": milliseconds(partition["last_enqueued_time_utc"]),
                "isEmpty": partition["is_empty"],
            }
            for partition in partitions
        ],
    }


def send(given):
    """`batches`: [{partitionKey | partitionId, events: [{body, properties, contentType, correlationId, messageId}]}].

    A batch with `"plain": true` sends each event as an ordinary AMQP message instead.
    """
    sent = 0
    with producer_client(given) as client:
        for target in given["batches"]:
            options = {
                "partition_key": target.get("partitionKey"),
                "partition_id": target.get("partitionId"),
            }
            events = [event_data(event) for event in target["events"]]
            if target.get("plain"):
                for event in events:
                    client.send_event(event, **options)
            else:
                batch = client.create_batch(**options)
                for event in events:
                    batch.add(event)
                client.send_batch(batch)
            sent += len(events)
    return {"sent": sent}


def receive(given):
    """The first `count` events from `position`, of one partition, or of all without `partitionId`.

    `position`: "earliest", "latest", {offset | sequenceNumber, isInclusive} or {enqueuedOn: milliseconds}.
    """
    position, inclusive = starting_position(given["position"])
    events = []
    errors = []
    done = threading.Event()

    def on_event(context, event):
        if len(events) < given["count"]:
            events.append(plain_event(event, context.partition_id))
        if len(events) == given["count"]:
            done.set()

    def on_error(_context, error):
        errors.append(error)
        done.set()

    client = EventHubConsumerClient.from_connection_string(
        given["connectionString"],
        consumer_group=given.get("consumerGroup", DEFAULT_CONSUMER_GROUP),
        **client_options(given),
    )
    with client:
        receiving = threading.Thread(
            target=client.receive,
            kwargs={
                "on_event": on_event,
                "on_error": on_error,
                "partition_id": given.get("partitionId"),
                "owner_level": given.get("ownerLevel"),
                "starting_position": position,
                "starting_position_inclusive": inclusive,
            },
        )
        receiving.start()
        done.wait()
    receiving.join()
    if errors:
        raise errors[0]
    return {"events": events}


def producer_client(given):
    return EventHubProducerClient.from_connection_string(given["connectionString"], **client_options(given))


def client_options(given):
    # A refusal shall surface at once; by default the SDK tries for minutes.
    options = {"retry_total": 1, "retry_backoff_factor": 0.1}
    if "tls" in given:
        options |= {
            "transport_type": TransportType.Amqp,
            "custom_endpoint_address": given["tls"]["endpoint"],
            "connection_verify": given["tls"]["ca"],
        }
    return options


def event_data(given):
    event = EventData(json.dumps(given["body"]))
    event.properties = given.get("properties", {})
    if "contentType" in given:
        event.content_type = given["contentType"]
    if "correlationId" in given:
        event.correlation_id = given["correlationId"]
    if "messageId" in given:
        event.message_id = given["messageId"]
    return event


def starting_position(given):
    """The SDK tells positions apart by their Python types."""
    if given == "earliest":
        return "-1", False
    if given == "latest":
        return "@latest", False
    inclusive = given.get("isInclusive", False)
    if "offset" in given:
        return given["offset"], inclusive
    if "sequenceNumber" in given:
        return given["sequenceNumber"], inclusive
    return datetime.fromtimestamp(given["enqueuedOn"] / 1000, timezone.utc), inclusive


def plain_event(event, partition_id):
    return {
        "partitionId": partition_id,
        "sequenceNumber": event.sequence_number,
        "offset": event.offset,
        "enqueuedTimeMs": milliseconds(event.enqueued_time),
        "partitionKey": plain(event.partition_key),
        "body": json.loads(event.body_as_str()),
        "properties": plain(event.properties),
        "systemProperties": plain(event.system_properties),
        "contentType": event.content_type,
        "correlationId": event.correlation_id,
        "messageId": event.message_id,
    }


def plain(value):
    """The SDK gives names and strings as bytes."""
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, bytes):
        return value.decode()
    return value


def milliseconds(time):
    return round(time.timestamp() * 1000)


SCENARIOS = {"describe": describe, "send": send, "receive": receive}


def main():
    if len(sys.argv) != 3 or sys.argv[1] not in SCENARIOS:
        sys.exit(f"usage: python event_hubs.py {'|'.join(SCENARIOS)} INPUT")
    try:
        outcome = SCENARIOS[sys.argv[1]](json.loads(sys.argv[2]))
    except EventHubError as error:
        outcome = {"error": {"type": type(error).__name__, "message": error.message}}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
