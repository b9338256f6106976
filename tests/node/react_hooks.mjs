// Hooks as a page has them, mounted and unmounted by a test, on the official Socket.IO client; see react_client.mjs.
//
//   node react_hooks.mjs '{"url":…,"key":…}'
//
// Commands come in on standard input and what happens goes out, one JSON line each. Runs until standard input ends.

import { createInterface } from "node:readline";

import { io } from "socket.io-client";

import { Client } from "./react_client.mjs";
import { report } from "./script.mjs";

/** What a security backend decides instead of the relay, if it refuses. */
let refusal;

const options = JSON.parse(process.argv[2]);
const client = new Client({ ...options, io, requestGrant: () => refusal }, report);

const commands = {
  start: () => client.start(),
  stop: () => client.stop(),
  mount: ({ id, hook, inputs }) => client.mount(id, hook, inputs),
  unmount: ({ id }) => client.unmount(id),
  invoke: ({ id, method, args }) => client.invoke(id, method, args),
  refuse: ({ outcome }) => {
    refusal = outcome;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { command, ...given } = JSON.parse(line);
  commands[command](given);
}
client.stop();
// A socket that the manager brought back by itself is not the client's any more, so nothing closes it: as in the library.
process.exit();
