// The life of the page's session: create it, open the socket, ask for grants, subscribe, read last values;
// and after a loss do all of that again with a new session, as every client of the relay does.

import { Refusal } from "./api.js";
import { saysNoHub, saysNoSession } from "./explain.js";
import { isDelivered, needsHub, telemetry } from "./holdings.js";
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
  /** The relay's refusal of a grant for which it lacks an IoT Hub; then others of the kind are not asked for. */
  #noHub = null;

  constructor({ api, model, log, callbacks }) {
    this.#api = api;
    this.#model = model;
    this.#log = log;
    this.#callbacks = callbacks;
  }

  /** Creates a session and connects. Failures lead to another attempt after a delay. */
  async connect() {
    this.#callbacks.onStatus("connecting");
    this.#noHub = null;
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

  /** Grants rights `{type, telemetryKey?}` and shows at once what they open. Gives whether that went through. */
  grant(device, rights) {
    return this.#exclusively(device, async (sessionId) => {
      const granted = [];
      for (const right of rights) {
        if (await this.#obtain(sessionId, device, right)) granted.push(right);
      }
      device.noteAccess(Date.now());
      // Subscribed first and read second, so that no update is missed between the two.
      const delivered = granted.filter(isDelivered);
      if (delivered.length === 1) await this.#subscribe(sessionId, device, delivered[0]);
      else if (delivered.length > 1)
        await this.#subscribeAll(delivered.map((right) => request(sessionId, device, right)));
      for (const right of delivered) await this.#read(sessionId, device, right);
    });
  }

  /** Revokes rights; then asks once more for what can be read, to see the refusal. Gives whether that went through. */
  revoke(device, rights) {
    return this.#exclusively(device, async (sessionId) => {
      for (const right of rights) {
        if (right.type === "telemetry" && right.telemetryKey !== null && device.grants.allKeys) {
          await this.#narrow(sessionId, device, right.telemetryKey);
        } else {
          await this.#giveUp(sessionId, device, right);
        }
      }
      // A device without any telemetry does not show its connection state either.
      const state = device.grants.list().find(({ type }) => type === "connectionState");
      const hides = !device.readable && rights.some(({ type }) => type === "telemetry");
      if (hides && state !== undefined) await this.#giveUp(sessionId, device, state);
      if (!device.readable) device.revokedMs = Date.now();
      device.noteAccess(Date.now());
      this.#callbacks.onChange(device);
      for (const right of rights) await this.#probe(sessionId, device, right);
    });
  }

  /** Reads and subscribes without a grant, to see both refused. */
  tryWithoutGrant(device) {
    return this.#exclusively(device, async (sessionId) => {
      await this.#probe(sessionId, device, telemetry(null));
      try {
        await this.#api.subscribe(request(sessionId, device, telemetry(null)));
      } catch (error) {
        noteRefusal(device, telemetry(null), error);
      }
    });
  }

  /** Reads the twin if it is granted, subscribed, and not read yet. A failure is shown in its place. */
  async readTwin(device) {
    const { twin } = device;
    if (twin.read || !device.subscriptions.holds("deviceTwin")) return;
    const sessionId = this.sessionId;
    twin.read = true;
    twin.problem = null;
    try {
      const { data, timestamp } = await this.#api.twin(sessionId, device.deviceId);
      this.#assertCurrent(sessionId);
      if (device.grants.holds("deviceTwin")) twin.takeRead(data, Date.parse(timestamp));
    } catch (error) {
      if (saysNoSession(error)) this.#settle(error);
      else if (this.sessionId === sessionId) twin.problem = error;
    }
    this.#callbacks.onChange(device);
  }

  /** Asks for one grant; gives false when this relay cannot give it, because it has no IoT Hub. */
  async #obtain(sessionId, device, right, bulk = false) {
    device.wanted.add(right);
    try {
      await this.#api.grant(request(sessionId, device, right), bulk);
    } catch (error) {
      // A refused grant is not asked for again; one lost with its session is.
      if (error instanceof Refusal && !saysNoSession(error)) {
        device.wanted.remove(right);
        noteRefusal(device, right, error);
      }
      if (!needsHub(right) || !saysNoHub(error)) throw error;
      this.#noHub = error;
      return false;
    }
    this.#assertCurrent(sessionId);
    device.grants.add(right);
    return true;
  }

  /** Revokes one grant; the relay drops the subscriptions it covered. */
  async #giveUp(sessionId, device, right) {
    device.wanted.remove(right);
    await this.#api.revoke(request(sessionId, device, right));
    this.#assertCurrent(sessionId);
    device.grants.remove(right);
    device.subscriptions.remove(right);
    device.givenUpMs = Date.now();
  }

  /** What was asked for an earlier session says nothing about the present one. */
  #assertCurrent(sessionId) {
    if (this.sessionId !== sessionId) throw new SessionReplaced();
  }

  /** Replaces the grant for all keys by grants for every known key but one. */
  async #narrow(sessionId, device, key) {
    await this.#giveUp(sessionId, device, telemetry(null));
    const others = [...device.readings.keys()].filter((other) => other !== key).map(telemetry);
    for (const right of others) await this.#obtain(sessionId, device, right, true);
    if (others.length > 0) await this.#subscribeAll(others.map((right) => request(sessionId, device, right)));
  }

  /** Reads what the session may no longer read. */
  async #probe(sessionId, device, right) {
    const { deviceId } = device;
    try {
      if (right.type === "deviceTwin") await this.#api.twin(sessionId, deviceId);
      else if (right.type !== "telemetry") return;
      else if (right.telemetryKey === null) await this.#api.lastValues(sessionId, deviceId);
      else await this.#api.lastValue(sessionId, deviceId, right.telemetryKey);
    } catch (error) {
      noteRefusal(device, right, error);
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
    if (error instanceof Refusal && !saysNoSession(error)) return;
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

  /** Grants, subscribes and reads everything that is wanted; the twin is read when its device is looked at. */
  async #restore(sessionId) {
    const subscriptions = [];
    const devices = [...this.#model.devices.values()].filter(({ wanted }) => wanted.count > 0);
    await eachOf(devices, async (device) => {
      for (const right of device.wanted.list()) {
        if (needsHub(right) && this.#noHub !== null) {
          device.wanted.remove(right);
          noteRefusal(device, right, this.#noHub);
          continue;
        }
        const granted = await this.#obtain(sessionId, device, right, true);
        if (granted && isDelivered(right)) subscriptions.push(request(sessionId, device, right));
      }
      device.noteAccess(Date.now());
      this.#callbacks.onChange(device);
    });
    if (subscriptions.length > 0) await this.#subscribeAll(subscriptions);
    this.#callbacks.onChange();
    await eachOf(devices, async (device) => {
      const held = device.grants.list();
      if (device.readable) await this.#read(sessionId, device, telemetry(null), true);
      const state = held.find(({ type }) => type === "connectionState");
      if (state !== undefined) await this.#read(sessionId, device, state, true);
    });
  }

  async #subscribe(sessionId, device, right) {
    await this.#api.subscribe(request(sessionId, device, right));
    this.#assertCurrent(sessionId);
    device.subscriptions.add(right);
  }

  async #subscribeAll(requests) {
    const applied = await this.#api.subscribeAll(requests);
    this.#assertCurrent(requests[0].sessionId);
    for (const each of applied) {
      this.#model.device(each.deviceId).subscriptions.add({ telemetryKey: null, ...each });
    }
  }

  /** Reads what one right opens; updates that arrive meanwhile are newer. */
  async #read(sessionId, device, right, bulk = false) {
    const { deviceId } = device;
    switch (right.type) {
      case "telemetry": {
        const key = right.telemetryKey;
        const values =
          key === null
            ? await this.#api.lastValues(sessionId, deviceId, bulk)
            : await this.#api.lastValue(sessionId, deviceId, key);
        this.#model.takeLastValues(device, values, Date.now());
        break;
      }
      case "connectionState": {
        const connected = await this.#api.connectionState(sessionId, deviceId, bulk);
        device.connected ??= connected;
        break;
      }
      case "deviceTwin":
        await this.readTwin(device);
        break;
      default:
        break;
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

function request(sessionId, { deviceId }, right) {
  return { sessionId, deviceId, ...right };
}

/** Keeps a refusal for as long as the device's telemetry, or the other right, is not granted. */
function noteRefusal(device, { type }, error) {
  if (!(error instanceof Refusal)) return;
  if (type !== "telemetry") device.refusals.set(type, error);
  else if (!device.readable) device.refusal = error;
}

/** Calls `action` for every item, a few at once. */
async function eachOf(items, action) {
  const queue = items.values();
  const worker = async () => {
    for (const item of queue) await action(item);
  };
  await Promise.all(Array.from({ length: CALLS_AT_ONCE }, worker));
}
