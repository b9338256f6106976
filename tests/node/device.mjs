// A device, or a module of one, written with Microsoft's device SDK for JavaScript and driven by tests written in Rust.
//
//   node device.mjs INPUT
//
// INPUT is a JSON object:
//   connectionString   of a device or a module
//   ca                 the PEM text of the authority to trust
//   certificate, key   PEM texts, of a device that proves who it is by a certificate
//   methods            by name, how a direct method is answered: { status, payload, delayMs }; without `payload` with
//                      what it was called with, without `status` with 200, with `silent` not at all
//   modelId            of a Plug-and-Play device
//
// What happens is told on stdout, one JSON object a line:
//   { connected: true }                   the device is connected and has registered for everything that the hub sends
//   { method: { name, payload } }         a direct method was called
//   { desired: { .. } }                   desired properties changed (first: as they are)
//   { message: { body, messageId, properties } }   a message came from the cloud
//   { disconnected: true }                the connection is lost
//   { error: { name, message } }          the SDK gave up
//
// and done is what is asked for on stdin, one JSON object a line, answered in order:
//   { send: { body, properties, contentType, contentEncoding, messageId, correlationId } }   { sent: true }
//   { report: { .. } }                    { reported: true }
//   { getTwin: true }                     { twin: { desired, reported } }
//   the end of stdin                      disconnects

import { createInterface } from "node:readline";

import device from "azure-iot-device";
import mqtt from "azure-iot-device-mqtt";

import { report } from "./script.mjs";

const { Client, Message, ModuleClient } = device;
const input = JSON.parse(process.argv[2]);

function fail(error) {
  report({ error: { name: error.name, message: error.message } });
  process.exit(0);
}
process.on("uncaughtException", fail);
process.on("unhandledRejection", fail);

const isModule = /(^|;)ModuleId=/i.test(input.connectionString);
const client = (isModule ? ModuleClient : Client).fromConnectionString(input.connectionString, mqtt.Mqtt);
// A refusal shall surface at once.
client.setRetryPolicy({ shouldRetry: () => false, nextRetryTimeout: () => 0 });
await client.setOptions({
  ca: input.ca,
  ...(input.certificate && { cert: input.certificate, key: input.key }),
  ...(input.modelId && { modelId: input.modelId }),
});
client.on("disconnect", () => report({ disconnected: true }));
await client.open();

for (const [name, answer] of Object.entries(input.methods ?? {})) {
  const onMethod = (request, response) => {
    report({ method: { name: request.methodName, payload: request.payload } });
    if (answer.silent) {
      return;
    }
    const payload = "payload" in answer ? answer.payload : request.payload;
    setTimeout(() => response.send(answer.status ?? 200, payload).catch(fail), answer.delayMs ?? 0);
  };
  if (isModule) {
    client.onMethod(name, onMethod);
  } else {
    client.onDeviceMethod(name, onMethod);
  }
}
if (!isModule) {
  client.on("message", async (message) => {
    const properties = {};
    for (let at = 0; at < message.properties.count(); at += 1) {
      const { key, value } = message.properties.getItem(at);
      properties[key] = value;
    }
    await client.complete(message);
    report({ message: { body: message.getData().toString(), messageId: message.messageId, properties } });
  });
}
const twin = await client.getTwin();
await new Promise((resolve) => {
  twin.on("properties.desired", (desired) => {
    report({ desired });
    resolve();
  });
});
// The SDK subscribes in its own time and tells nobody; what it answers after that was asked for after that.
await client.getTwin();
report({ connected: true });

const requests = {
  async send({ body, properties, contentType, contentEncoding, messageId, correlationId }) {
    const message = new Message(body);
    Object.assign(message, { contentType, contentEncoding, messageId, correlationId });
    for (const [name, value] of Object.entries(properties ?? {})) {
      message.properties.add(name, value);
    }
    await client.sendEvent(message);
    return { sent: true };
  },

  async report(patch) {
    await new Promise((resolve, reject) => {
      twin.properties.reported.update(patch, (error) => (error ? reject(error) : resolve()));
    });
    return { reported: true };
  },

  async getTwin() {
    const { desired, reported } = (await client.getTwin()).properties;
    return { twin: { desired: plain(desired), reported: plain(reported) } };
  },
};

/** A side of the twin without the SDK's own methods. */
function plain(side) {
  return JSON.parse(JSON.stringify(side));
}

for await (const line of createInterface({ input: process.stdin })) {
  const [[name, given]] = Object.entries(JSON.parse(line));
  try {
    report(await requests[name](given));
  } catch (error) {
    report({ error: { name: error.name, message: error.message } });
  }
}
await client.close();
