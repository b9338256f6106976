// Runs the example of docs/protocol.md and prints one JSON line for each value that it shows.
//
//   node native_example.mjs <url of /ws> <session id>
//
// Runs until standard input ends.

import { readFile } from "node:fs/promises";

import { report, untilInputEnds } from "./script.mjs";

// What browsers have, and Node.js from version 22.
globalThis.WebSocket ??= (await import("ws")).WebSocket;

const [url, sessionId] = process.argv.slice(2);
const document = await readFile(new URL("../../docs/protocol.md", import.meta.url), "utf8");
const [, example] = document.match(/```js\n(.*?)```/s);
const { watch } = await import(`data:text/javascript,${encodeURIComponent(example)}`);

const socket = watch(url, { sessionId }, (...value) => report(value));
await untilInputEnds();
socket.close();
