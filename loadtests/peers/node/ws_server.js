// The least that a push server on Node can do with the `ws` library: the text of a message goes to the subscribers of
// its device as it came, without being parsed.
//
// A client names its devices in its first message, a JSON array of device ids, and is answered with "subscribed".

import { createServer } from "node:http";
import { WebSocketServer } from "ws";
import { listenToFeed } from "./feed.js";
import { BACKLOG, sayReady } from "./ready.js";

const AS_TEXT = { binary: false };

/** @type {Map<string, Set<Subscriber>>} */
const subscribersByDevice = new Map();

/** Those that were written to since the last read of the feed. */
let written = [];

class Subscriber {
  constructor(webSocket, socket) {
    this.webSocket = webSocket;
    this.socket = socket;
    this.isCorked = false;
  }

  /** What one read of the feed brings for a subscriber leaves in one write, and not later than if it were sent alone. */
  send(body) {
    if (!this.isCorked) {
      this.isCorked = true;
      this.socket.cork();
      written.push(this);
    }
    this.webSocket.send(body, AS_TEXT);
  }

  flush() {
    this.isCorked = false;
    this.socket.uncork();
  }
}

const webSockets = new WebSocketServer({ noServer: true, clientTracking: false, perMessageDeflate: false });
const server = createServer();
server.on("upgrade", (request, socket, head) => {
  webSockets.handleUpgrade(request, socket, head, (webSocket) => {
    webSocket.on("error", () => {});
    webSocket.once("message", (text) => {
      const subscriber = new Subscriber(webSocket, socket);
      const devices = JSON.parse(text);
      for (const device of devices) {
        let subscribers = subscribersByDevice.get(device);
        if (subscribers === undefined) {
          subscribersByDevice.set(device, (subscribers = new Set()));
        }
        subscribers.add(subscriber);
      }
      webSocket.on("close", () => {
        for (const device of devices) {
          subscribersByDevice.get(device).delete(subscriber);
        }
      });
      webSocket.send("subscribed");
    });
  });
});

const feedPort = await listenToFeed(
  (device, body) => {
    const subscribers = subscribersByDevice.get(device);
    if (subscribers !== undefined) {
      for (const subscriber of subscribers) {
        subscriber.send(body);
      }
    }
  },
  () => {
    const flushed = written;
    written = [];
    for (const subscriber of flushed) {
      subscriber.flush();
    }
  },
);
server.listen(0, "127.0.0.1", BACKLOG, () => sayReady("ws", feedPort, server.address().port));
