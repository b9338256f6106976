// Connects the official Socket.IO client and reports what it sees, one JSON line for each event.
//
//   node socketio_client.mjs <url> <session id> <transports, comma-separated>
//
// Runs until standard input ends.

import { io } from "socket.io-client";

import { report, untilInputEnds } from "./script.mjs";

const [url, sessionId, transports] = process.argv.slice(2);
const socket = io(url, {
  query: { sessionId },
  transports: transports.split(","),
  upgrade: transports.includes(","),
});
socket.io.on("open", () => {
  socket.io.engine.once("upgrade", (transport) => report({ event: "upgrade", transport: transport.name }));
});
socket.on("connect", () => report({ event: "connect", id: socket.id }));
socket.on("data", (data) => report({ event: "data", data }));
socket.on("disconnect", (reason) => report({ event: "disconnect", reason }));
socket.on("connect_error", (error) => report({ event: "connect_error", message: error.message }));

await untilInputEnds();
socket.disconnect();
