// The life of the page's session: create it, open the socket, ask for grants, subscribe, read last values;
// and after a loss do all of that again with a new session, as every client of the relay does.

import { Refusal } from "./api.js";
import { RelaySocket } from "./socket.js";

const RECONNECT_DELAY_MS = 1000;
const RECONNECT_DELAY_MS_MAX = 15_000;
/** Calls made at once when many devices are granted. */
const CALLS_AT_ONCE = 6;

/**
 * Drives the model. Callbacks: `onChange(device?)` whenever the model changed, `onUpdate(device)` for each
 * update from the socket, `onStatus(status, detail)` with `connecting`, `connected` or `waiting`.
 */
export class RelaySession {
  sessionId = null;
  connectedMs = 0;
  pingedMs = 0;
  #api;
  #model;
  #log;
  #callbacks;
  #socket = null;
  #failures = 0;

  constructor({ api, model, log, callbacks }) {
    this.#api = api;
    this.#model = model;
    this.#log = log;
    this.#callbacks = callbacks;
  }

  /** Creates a session and connects. Failures lead to another attempt after a delay. */
  async connect() {
    this.#callbacks.onStatus("connecting");
    try {
      this.sessionId = await this.#api.createSession();
    } catch {
      this.#connectLater("the relay cannot be reached");
      return;
    }
    this.#log.add({ method: "WS", path: "/socket.io/", status: "open", note: "Engine.IO 4" });
    this.#socket = new RelaySocket(this.sessionId, {
      onConnect: () => this.#connected(),
      onData: (update) => this.#takeUpdate(update),
      onPing: () => {
        this.pingedMs = Date.now();
      },
      onEnd: (ending) => this.#ended(ending),
    });
  }

  /** Cuts the connection; the page then reconnects by itself. */
  drop() {
    this.#socket?.drop();
  }

  /**
   * Grants one key, or all keys and the connection state when `key` is null, and shows the values at once.
   * Gives whether that went through.
   */
  grant(device, key) {
    return this.#exclusively(device, async (sessionId) => {
      const requests = requestsFor(sessionId, device, key);
      for (const request of requests) await this.#obtain(device, request);
      device.noteAccess(Date.now());
      // Subscribed first and read second, so that no update is missed between the two.
      if (key === null) await this.#subscribeAll(requests);
      else await this.#subscribe(device, requests[0]);
      await this.#readLastValues(sessionId, device, key);
    });
  }

  /**
   * Revokes one key, or everything when `key` is null; then asks once more, to see the refusal.
   * Gives whether that went through.
   */
  revoke(device, key) {
    return this.#exclusively(device, async (sessionId) => {
      if (key !== null && device.grants.allKeys) await this.#narrow(sessionId, device, key);
      else await this.#withdraw(sessionId, device, key);
      if (!device.readable) device.revokedMs = Date.now();
      device.noteAccess(Date.now());
      this.#callbacks.onChange(device);
      await this.#probe(sessionId, device, key);
    });
  }

  /** Reads and subscribes without a grant, to see both refused. */
  tryWithoutGrant(device) {
    return this.#exclusively(device, async (sessionId) => {
      await this.#probe(sessionId, device, null);
      try {
        await this.#api.subscribe(telemetryRequest(sessionId, device, null));
      } catch (error) {
        noteRefusal(device, error);
      }
    });
  }

  async #obtain(device, request, bulk = false) {
    device.wanted.add(request);
    try {
      await this.#api.grant(request, bulk);
    } catch (error) {
      // A refused grant is not asked for again; one lost with its session is.
      if (error instanceof Refusal && error.status !== 404) device.wanted.remove(request);
      throw error;
    }
    this.#assertCurrent(request.sessionId);
    device.grants.add(request);
  }

  /** Revokes one grant; the relay drops the subscriptions it covered. */
  async #giveUp(device, request) {
    device.wanted.remove(request);
    await this.#api.revoke(request);
    this.#assertCurrent(request.sessionId);
    device.grants.remove(request);
    device.subscriptions.remove(request);
  }

  /** What was asked for an earlier session says nothing about the present one. */
  #assertCurrent(sessionId) {
    if (this.sessionId !== sessionId) throw new SessionReplaced();
  }

  async #withdraw(sessionId, device, key) {
    await this.#giveUp(device, telemetryRequest(sessionId, device, key));
    if (!device.readable && device.grants.connectionState) {
      await this.#giveUp(device, stateRequest(sessionId, device));
    }
  }

  /** Replaces the grant for all keys by grants for every known key but one. */
  async #narrow(sessionId, device, key) {
    await this.#giveUp(device, telemetryRequest(sessionId, device, null));
    const others = [...device.readings.keys()].filter((other) => other !== key);
    const requests = others.map((other) => telemetryRequest(sessionId, device, other));
    for (const request of requests) await this.#obtain(device, request, true);
    if (requests.length > 0) await this.#subscribeAll(requests);
    else await this.#withdraw(sessionId, device, null);
  }

  async #probe(sessionId, device, key) {
    try {
      if (key === null) await this.#api.lastValues(sessionId, device.deviceId);
      else await this.#api.lastValue(sessionId, device.deviceId, key);
    } catch (error) {
      noteRefusal(device, error);
    }
  }

  /**
   * Runs one change of a device's grants at a time. Gives whether it went through; a refusal is in the log and not an
   * error here.
   */
  async #exclusively(device, change) {
    if (device.pending || this.connectedMs === 0) return false;
    const sessionId = this.sessionId;
    device.pending = true;
    this.#callbacks.onChange(device);
    try {
      await change(sessionId);
      return true;
    } catch (error) {
      this.#settle(error);
      noteRefusal(device, error);
      return false;
    } finally {
      device.pending = false;
      device.noteAccess(Date.now());
      this.#callbacks.onChange(device);
    }
  }

  /** A session the relay no longer knows, or a relay that does not answer, calls for a new connection. */
  #settle(error) {
    if (error instanceof SessionReplaced) return;
    if (error instanceof Refusal && error.status !== 404) return;
    this.drop();
  }

  async #connected() {
    const sessionId = this.sessionId;
    this.#failures = 0;
    this.connectedMs = Date.now();
    this.pingedMs = 0;
    this.#log.add({ method: "WS", path: "40", status: "ok", note: "session connected" });
    this.#callbacks.onStatus("connected");
    try {
      await this.#restore(sessionId);
    } catch (error) {
      this.#settle(error);
    }
    this.#callbacks.onChange();
  }

  /** Grants, subscribes and reads everything that is wanted. */
  async #restore(sessionId) {
    const subscriptions = [];
    const devices = [...this.#model.devices.values()].filter(({ wanted }) => wanted.count > 0);
    await eachOf(devices, async (device) => {
      for (const request of device.wanted.requests(sessionId, device.deviceId)) {
        await this.#obtain(device, request, true);
        subscriptions.push(request);
      }
      device.noteAccess(Date.now());
      this.#callbacks.onChange(device);
    });
    if (subscriptions.length > 0) await this.#subscribeAll(subscriptions);
    await eachOf(devices, (device) => this.#readLastValues(sessionId, device, null, true));
  }

  async #subscribe(device, request) {
    await this.#api.subscribe(request);
    this.#assertCurrent(request.sessionId);
    device.subscriptions.add(request);
  }

  async #subscribeAll(requests) {
    const applied = await this.#api.subscribeAll(requests);
    this.#assertCurrent(requests[0].sessionId);
    for (const request of applied) {
      this.#model.device(request.deviceId).subscriptions.add({ telemetryKey: null, ...request });
    }
  }

  async #readLastValues(sessionId, device, key, bulk = false) {
    if (key === null) {
      const values = await this.#api.lastValues(sessionId, device.deviceId, bulk);
      this.#model.takeLastValues(device, values, Date.now());
      if (device.grants.connectionState) {
        const connected = await this.#api.connectionState(sessionId, device.deviceId, bulk);
        device.connected ??= connected;
      }
    } else {
      const value = await this.#api.lastValue(sessionId, device.deviceId, key);
      this.#model.takeLastValues(device, value, Date.now());
    }
    this.#callbacks.onChange(device);
  }

  #takeUpdate(update) {
    const device = this.#model.takeUpdate(update, Date.now());
    if (device !== undefined) this.#callbacks.onUpdate(device);
  }

  #ended(ending) {
    this.#log.add({ method: "WS", path: "/socket.io/", status: "closed", note: ending });
    this.#connectLater(ending);
  }

  #connectLater(reason) {
    this.connectedMs = 0;
    this.sessionId = null;
    const nowMs = Date.now();
    for (const device of this.#model.devices.values()) device.forgetSession(nowMs);
    const ceilingMs = Math.min(RECONNECT_DELAY_MS * 2 ** this.#failures, RECONNECT_DELAY_MS_MAX);
    const delayMs = ceilingMs * (0.75 + Math.random() / 2);
    this.#failures += 1;
    this.#callbacks.onStatus("waiting", `${reason}; a new session in ${Math.ceil(delayMs / 1000)} s`);
    setTimeout(() => this.connect(), delayMs);
  }
}

class SessionReplaced extends Error {}

function telemetryRequest(sessionId, device, telemetryKey) {
  return { sessionId, deviceId: device.deviceId, type: "telemetry", telemetryKey };
}

function stateRequest(sessionId, device) {
  return { sessionId, deviceId: device.deviceId, type: "connectionState" };
}

function requestsFor(sessionId, device, key) {
  const telemetry = telemetryRequest(sessionId, device, key);
  return key === null ? [telemetry, stateRequest(sessionId, device)] : [telemetry];
}

function noteRefusal(device, error) {
  if (error instanceof Refusal && !device.readable) {
    device.refusal = { status: error.status, message: error.message };
  }
}

/** Calls `action` for every item, a few at once. */
async function eachOf(items, action) {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await action(item);
  };
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, worker));
}
