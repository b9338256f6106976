// The raw feed: a TCP connection of messages, each a u32 big-endian length of what follows, a u16 big-endian length of
// the device id, the device id, and the body. Nothing is answered.

import { createServer } from "node:net";

/** A longer message ends the connection. */
const MESSAGE_BYTES_MAX = 1024 * 1024;

/**
 * Listens for feeds on a free loopback port and resolves to it.
 *
 * @param {(device: string, body: Buffer) => void} onMessage called for each message; the body is a view of what was
 *   read, which stays as it is
 * @param {() => void} onRead called after the messages of one read
 * @returns {Promise<number>}
 */
export function listenToFeed(onMessage, onRead) {
  const server = createServer((socket) => {
    let unfinished = null;
    socket.on("data", (chunk) => {
      const bytes = unfinished === null ? chunk : Buffer.concat([unfinished, chunk]);
      const used = takeMessages(bytes, onMessage);
      onRead();
      if (used < 0) {
        socket.destroy();
      }
      unfinished = used === bytes.length ? null : bytes.subarray(used);
    });
    // The publisher going away ends nothing but its feed.
    socket.on("error", () => {});
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(server.address().port));
  });
}

/** Returns how many bytes the complete messages took; -1 when a length cannot be. */
function takeMessages(bytes, onMessage) {
  let at = 0;
  while (at + 4 <= bytes.length) {
    const length = bytes.readUInt32BE(at);
    if (length < 2 || length > MESSAGE_BYTES_MAX) {
      return -1;
    }
    const start = at + 4;
    const end = start + length;
    if (end > bytes.length) {
      break;
    }
    const bodyStart = start + 2 + bytes.readUInt16BE(start);
    if (bodyStart > end) {
      return -1;
    }
    onMessage(bytes.latin1Slice(start + 2, bodyStart), bytes.subarray(bodyStart, end));
    at = end;
  }
  return at;
}
