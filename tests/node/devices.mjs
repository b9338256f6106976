// Many devices in one process, written with Microsoft's device SDK for JavaScript. They hold back every call of the
// method `work` until as many as expected have come, and then answer them in random order.
//
//   node devices.mjs INPUT
//
// INPUT is a JSON object:
//   ca                  the PEM text of the authority to trust
//   connectionStrings   of the devices
//   calls               how many calls are expected
//
// Told on stdout, one JSON object a line:
//   { connected: true }                  all devices listen to methods
//   { called: { deviceId, payload } }    a call has come
//   { answered: [payload, ..] }          all calls are answered, in this order
//
// A call is answered with { deviceId, payload }; one whose payload is { silent: true } is never answered and not counted.
// Runs until standard input ends.

import device from "azure-iot-device";
import mqtt from "azure-iot-device-mqtt";

import { report, untilInputEnds } from "./script.mjs";

const { Client, ConnectionString } = device;
const { ca, connectionStrings, calls } = JSON.parse(process.argv[2]);

let waiting = [];

async function answerAll() {
  const shuffled = waiting.map((call) => [Math.random(), call]).sort(([a], [b]) => a - b);
  waiting = [];
  const answered = [];
  for (const [, { request, response, deviceId }] of shuffled) {
    await response.send(200, { deviceId, payload: request.payload });
    answered.push(request.payload);
  }
  report({ answered });
}

const clients = await Promise.all(
  connectionStrings.map(async (connectionString) => {
    const deviceId = ConnectionString.parse(connectionString).DeviceId;
    const client = Client.fromConnectionString(connectionString, mqtt.Mqtt);
    await client.setOptions({ ca });
    await client.open();
    client.onDeviceMethod("work", (request, response) => {
      report({ called: { deviceId, payload: request.payload } });
      if (request.payload.silent) return;
      if (waiting.push({ request, response, deviceId }) === calls) answerAll();
    });
    // What the twin answers was asked for after the subscription to methods.
    await client.getTwin();
    return client;
  }),
);
report({ connected: true });

await untilInputEnds();
await Promise.all(clients.map((client) => client.close()));
