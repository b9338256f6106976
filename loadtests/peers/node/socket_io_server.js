// A push server on Node with Socket.IO: a room for each device, and every message is parsed, as it must be
// by a server that selects keys or keeps last values, and sent to its room as the event "data".
//
// A client names its devices in the event "subscribe", an array of device ids, which is acknowledged.

import { createServer } from "node:http";
import { Server } from "socket.io";
import { listenToFeed } from "./feed.js";
import { BACKLOG, sayReady } from "./ready.js";

const server = createServer();
const io = new Server(server, { transports: ["websocket"], perMessageDeflate: false, serveClient: false });

// The library's advice for many connections: the request of the handshake is not needed any more.
io.engine.on("connection", (connection) => {
  connection.request = null;
});

io.on("connection", (socket) => {
  socket.on("subscribe", (devices, acknowledge) => {
    socket.join(devices);
    acknowledge();
  });
});

const feedPort = await listenToFeed(
  (device, body) => io.to(device).emit("data", JSON.parse(body.utf8Slice())),
  () => {},
);
server.listen(0, "127.0.0.1", BACKLOG, () => sayReady("socket.io", feedPort, server.address().port));
