// A Socket.IO 5 client over Engine.IO 4, WebSocket transport only: just what the relay's contract needs.
// Packets: `0` open, `2`/`3` ping and pong, `40` connect, `41` disconnect, `42` event, `44` connect error.

import { parseJson } from "./json.js";

/** How one socket ended; decides what the log says, not whether to reconnect. */
export const Ending = Object.freeze({
  disconnected: "41 disconnected by the relay",
  refused: "44 session refused",
  silent: "no ping from the relay",
  lost: "connection lost",
});

/**
 * One connection. Callbacks: `onConnect()`, `onData(update)`, `onPing()`, `onEnd(ending)`;
 * `onEnd` is called exactly once, unless `close` ended the connection.
 */
export class RelaySocket {
  #socket;
  #callbacks;
  #silenceMs = 0;
  #silenceTimer = 0;
  #ended = false;

  constructor(sessionId, callbacks) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const query = new URLSearchParams({ EIO: "4", transport: "websocket", sessionId });
    this.#callbacks = callbacks;
    this.#socket = new WebSocket(`${scheme}//${location.host}/socket.io/?${query}`);
    this.#socket.addEventListener("message", ({ data }) => this.#receive(data));
    this.#socket.addEventListener("close", () => this.#end(Ending.lost));
  }

  /** Closes without a call of `onEnd`. */
  close() {
    this.#ended = true;
    clearTimeout(this.#silenceTimer);
    this.#socket.close();
  }

  /** Cuts the transport as a lost network would, so that the page reconnects. */
  drop() {
    this.#end(Ending.lost);
  }

  #receive(packet) {
    if (this.#ended || typeof packet !== "string") return;
    switch (packet[0]) {
      case "0": {
        const { pingInterval, pingTimeout } = JSON.parse(packet.slice(1));
        this.#silenceMs = pingInterval + pingTimeout;
        this.#watchSilence();
        this.#socket.send("40");
        break;
      }
      case "2":
        this.#socket.send("3");
        this.#watchSilence();
        this.#callbacks.onPing();
        break;
      case "4":
        this.#receiveMessage(packet);
        break;
      default:
        break;
    }
  }

  #receiveMessage(packet) {
    switch (packet[1]) {
      case "0":
        this.#callbacks.onConnect();
        break;
      case "1":
        this.#end(Ending.disconnected);
        break;
      case "2": {
        const [event, update] = parseJson(packet.slice(2));
        if (event === "data") this.#callbacks.onData(update);
        break;
      }
      case "4":
        this.#end(Ending.refused);
        break;
      default:
        break;
    }
  }

  #watchSilence() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => this.#end(Ending.silent), this.#silenceMs);
  }

  #end(ending) {
    if (this.#ended) return;
    this.close();
    this.#callbacks.onEnd(ending);
  }
}
