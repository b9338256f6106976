// Microsoft's Event Hubs SDK for JavaScript, driven by tests written in Rust.
//
//   node event_hubs.mjs SCENARIO INPUT
//
// INPUT is a JSON object with `connectionString` and what the scenario takes. The outcome is one line of JSON on
// stdout: the scenario's result, or {"error": {"code", "message"}} when the SDK gave up.

import {
  EventHubConsumerClient,
  EventHubProducerClient,
  earliestEventPosition,
  latestEventPosition,
} from "@azure/event-hubs";

// A refusal shall surface at once; by default the SDK tries for minutes.
const clientOptions = { retryOptions: { maxRetries: 1, retryDelayInMs: 100, timeoutInMs: 10_000 } };

const scenarios = {
  // The hub and its partitions, as $management tells them.
  async describe({ connectionString }) {
    const client = new EventHubProducerClient(connectionString, clientOptions);
    try {
      const hub = await client.getEventHubProperties();
      const partitions = [];
      for (const id of hub.partitionIds) {
        const partition = await client.getPartitionProperties(id);
        partitions.push({
          partitionId: partition.partitionId,
          hubName: partition.eventHubName,
          beginningSequenceNumber: partition.beginningSequenceNumber,
          lastEnqueuedSequenceNumber: partition.lastEnqueuedSequenceNumber,
          lastEnqueuedOffset: partition.lastEnqueuedOffset,
          lastEnqueuedTimeMs: partition.lastEnqueuedOnUtc.getTime(),
          isEmpty: partition.isEmpty,
        });
      }
      return {
        name: hub.name,
        createdAtMs: hub.createdOn.getTime(),
        partitionIds: hub.partitionIds,
        partitions,
      };
    } finally {
      await client.close();
    }
  },

  // `batches`: [{ partitionKey | partitionId, events: [{ body, properties, contentType, correlationId, messageId }] }]
  async send({ connectionString, batches }) {
    const client = new EventHubProducerClient(connectionString, clientOptions);
    try {
      let sent = 0;
      for (const { events, ...target } of batches) {
        const batch = await client.createBatch(target);
        for (const event of events) {
          if (!batch.tryAdd(event)) {
            throw new Error("the batch is full");
          }
        }
        await client.sendBatch(batch);
        sent += batch.count;
      }
      return { sent };
    } finally {
      await client.close();
    }
  },

  // The first `count` events from `position`, of one partition, or of all without `partitionId`.
  // `position`: "earliest", "latest", { offset | sequenceNumber, isInclusive } or { enqueuedOn: milliseconds }
  async receive({ connectionString, consumerGroup, partitionId, position, count, ownerLevel }) {
    const client = consumerClient(connectionString, consumerGroup);
    const events = [];
    let subscription;
    try {
      await new Promise((resolve, reject) => {
        const handlers = {
          async processEvents(received, context) {
            events.push(...received.map((event) => plain(event, context.partitionId)));
            if (events.length >= count) {
              resolve();
            }
          },
          async processError(error) {
            reject(error);
          },
        };
        const options = {
          startPosition: startPosition(position),
          maxBatchSize: 50,
          maxWaitTimeInSeconds: 1,
          ownerLevel,
        };
        subscription =
          partitionId === undefined
            ? client.subscribe(handlers, options)
            : client.subscribe(partitionId, handlers, options);
      });
      return { events };
    } finally {
      await subscription?.close();
      await client.close();
    }
  },

  // Readers of one partition that holds an event: the first with owner level 1; a second with level 2, which takes
  // the partition over; a third with level 1, which is refused.
  async steal({ connectionString, partitionId }) {
    const readers = [];
    const open = (ownerLevel) => {
      const reader = new Reader(connectionString, partitionId, ownerLevel);
      readers.push(reader);
      return reader;
    };
    try {
      const first = open(1);
      await first.received;
      const second = open(2);
      await second.received;
      const lost = { error: await first.failed, reason: await first.closed };
      const third = open(1);
      const refused = { error: await third.failed };
      return { lost, refused, secondIsUndisturbed: !second.hasFailed };
    } finally {
      await Promise.all(readers.map((reader) => reader.close()));
    }
  },
};

// One reader of one partition, with a promise for each thing that can happen to it.
class Reader {
  hasFailed = false;

  constructor(connectionString, partitionId, ownerLevel) {
    this.client = consumerClient(connectionString);
    let onReceived, onFailed, onClosed;
    this.received = new Promise((resolve) => (onReceived = resolve));
    this.failed = new Promise((resolve) => (onFailed = resolve));
    this.closed = new Promise((resolve) => (onClosed = resolve));
    this.subscription = this.client.subscribe(
      partitionId,
      {
        processEvents: async (events) => {
          if (events.length > 0) {
            onReceived();
          }
        },
        processError: async (error) => {
          this.hasFailed = true;
          onFailed(plainError(error));
        },
        processClose: async (reason) => onClosed(reason),
      },
      { startPosition: earliestEventPosition, maxWaitTimeInSeconds: 1, ownerLevel },
    );
  }

  async close() {
    await this.subscription.close();
    await this.client.close();
  }
}

function consumerClient(connectionString, consumerGroup = EventHubConsumerClient.defaultConsumerGroupName) {
  return new EventHubConsumerClient(consumerGroup, connectionString, clientOptions);
}

function startPosition(position) {
  switch (position) {
    case "earliest":
      return earliestEventPosition;
    case "latest":
      return latestEventPosition;
    default:
      return position;
  }
}

function plain(event, partitionId) {
  return {
    partitionId,
    sequenceNumber: event.sequenceNumber,
    offset: event.offset,
    enqueuedTimeMs: event.enqueuedTimeUtc.getTime(),
    partitionKey: event.partitionKey,
    body: event.body,
    properties: event.properties ?? {},
    systemProperties: event.systemProperties ?? {},
    contentType: event.contentType,
    correlationId: event.correlationId,
    messageId: event.messageId,
  };
}

// After several attempts the SDK throws the error of each as one AggregateError.
function plainError(error) {
  const { code, message } = error instanceof AggregateError ? error.errors.at(-1) : error;
  return { code, message };
}

const [scenario, input] = process.argv.slice(2);
if (!Object.hasOwn(scenarios, scenario) || input === undefined) {
  console.error(`usage: node event_hubs.mjs ${Object.keys(scenarios).join("|")} INPUT`);
  process.exit(2);
}
const outcome = await scenarios[scenario](JSON.parse(input)).catch((error) => ({ error: plainError(error) }));
console.log(JSON.stringify(outcome));
