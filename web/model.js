// What the page knows: devices, their readings, and what the session may read and has subscribed to.
// Views read it; only `session.js` and `app.js` change it.

import { fractionDigits } from "./format.js";
import { Holdings } from "./holdings.js";
import { canonicalJson } from "./json.js";
import { MethodCalls } from "./method-calls.js";
import { Twin } from "./twin.js";

/** Samples kept for one key; the oldest go first. At one per second this is half an hour. */
const SAMPLES_MAX = 1800;
/** Readings kept for one device; further keys are not shown. */
const READINGS_MAX = 64;
/** Updates of something revoked that arrive this soon were still on their way. */
const IN_FLIGHT_MS = 1000;
/** The page's first grants take effect this soon; what was hidden until then was not denied. */
const OPENING_MS = 5000;
/** Spans without a grant that are kept for one key. */
const DENIED_SPANS_MAX = 50;
/** Messages of a device over which its interval is averaged; fewer say nothing. */
const ARRIVALS_MAX = 6;
const ARRIVALS_LEAST = 3;
/** Span over which updates per second are averaged. */
const RATE_SPAN_MS = 5000;

/** One telemetry key of one device. */
export class Reading {
  /** Undefined until a value arrived. */
  value = undefined;
  /** Time the device gave the value, and time it got here, both in ms since the epoch. */
  timestampMs = 0;
  receivedMs = 0;
  /** How often a different value arrived. */
  changes = 0;
  /** Most digits after the point seen so far. */
  digits = 0;
  /** `{at, value}`; a sample whose value is undefined is a break in the line. */
  samples = [];
  /**
   * Spans in which the session could not read this key: `{from, to, initial}`; `to` is null while it lasts, and
   * `initial` true for one that began before the key was known.
   */
  deniedSpans = [];

  constructor(key) {
    this.key = key;
  }

  get hasValue() {
    return this.value !== undefined;
  }

  #keep(sample) {
    this.samples.push(sample);
    if (this.samples.length > SAMPLES_MAX) this.samples.shift();
  }

  /** Takes a value unless a newer one is here already. */
  take(value, timestampMs, nowMs, at) {
    if (this.hasValue && timestampMs < this.timestampMs) return;
    if (!this.hasValue || !sameValue(this.value, value)) this.changes += 1;
    if (typeof value === "number") this.digits = Math.max(this.digits, fractionDigits(value));
    this.value = value;
    this.timestampMs = timestampMs;
    this.receivedMs = nowMs;
    this.#keep({ at, value });
  }

  /** Notes from when on, or until when, the key could not be read. */
  noteAccess(readable, nowMs) {
    const open = this.deniedSpans.at(-1);
    const denied = open !== undefined && open.to === null;
    if (readable && denied) {
      open.to = nowMs;
      if (this.samples.length === 0 && open.to - open.from < OPENING_MS) this.deniedSpans.pop();
    } else if (!readable && !denied) {
      this.deniedSpans.push({ from: nowMs, to: null, initial: !this.hasValue });
      if (this.samples.length > 0) this.#keep({ at: nowMs, value: undefined });
      if (this.deniedSpans.length > DENIED_SPANS_MAX) this.deniedSpans.shift();
    }
  }
}

/** One device, granted or not. */
export class Device {
  /** Key to reading, in the order the keys became known. */
  readings = new Map();
  /** What the visitor asked for; kept when the session is lost, and asked for again. */
  wanted = new Holdings();
  grants = new Holdings();
  subscriptions = new Holdings();
  /** True, false, or null when unknown or not readable. */
  connected = null;
  /** `data` events that named this device, whatever the grants said. */
  updates = 0;
  updatedMs = 0;
  /** When telemetry of this device was last revoked; 0 if it is not. */
  revokedMs = 0;
  /** When a grant of any kind was last given up. */
  givenUpMs = 0;
  /** The relay's last refusal while no telemetry is granted. */
  refusal = null;
  /** The relay's last refusal of other types, while they are not granted. */
  refusals = new Map();
  /** When the last telemetry messages arrived. */
  #arrivals = [];
  twin = new Twin();
  calls = new MethodCalls();
  /** A grant or revocation is under way. */
  pending = false;

  constructor(deviceId, kind, startedMs) {
    this.deviceId = deviceId;
    this.kind = kind;
    this.startedMs = startedMs;
  }

  /** `granted` (all keys), `partial` (single keys), `revoked` or `locked`. */
  get access() {
    if (this.grants.allKeys) return "granted";
    if (this.grants.keys.size > 0) return "partial";
    return this.revokedMs > 0 ? "revoked" : "locked";
  }

  get readable() {
    return this.grants.allKeys || this.grants.keys.size > 0;
  }

  /** The reading of a key, created on first sight; undefined when the device has too many keys. */
  reading(key) {
    let reading = this.readings.get(key);
    if (reading === undefined && this.readings.size < READINGS_MAX) {
      reading = new Reading(key);
      if (!this.grants.covers(key)) reading.noteAccess(false, this.startedMs);
      this.readings.set(key, reading);
    }
    return reading;
  }

  /** Notes that a message with telemetry has arrived. */
  noteMessage(nowMs) {
    this.updatedMs = nowMs;
    this.#arrivals.push(nowMs);
    if (this.#arrivals.length > ARRIVALS_MAX) this.#arrivals.shift();
  }

  /** The time between its messages of late, in ms; undefined while nothing is known, or it has fallen silent. */
  intervalMs(nowMs) {
    if (this.#arrivals.length < ARRIVALS_LEAST) return undefined;
    const [first] = this.#arrivals;
    const last = this.#arrivals.at(-1);
    const intervalMs = (last - first) / (this.#arrivals.length - 1);
    return nowMs - last > 3 * intervalMs + 1000 ? undefined : intervalMs;
  }

  /** Brings the readings in line after the grants changed. */
  noteAccess(nowMs) {
    for (const reading of this.readings.values()) {
      reading.noteAccess(this.grants.covers(reading.key), nowMs);
    }
    if (this.readable) {
      this.revokedMs = 0;
      this.refusal = null;
    }
    for (const { type } of this.grants.list()) this.refusals.delete(type);
    if (!this.grants.holds("connectionState")) this.connected = null;
    if (!this.grants.holds("deviceTwin") && !this.wanted.holds("deviceTwin")) this.twin.lock();
  }

  /** Forgets what only a session gives; values seen stay. */
  forgetSession(nowMs) {
    this.grants.clear();
    this.subscriptions.clear();
    this.twin.suspend();
    this.noteAccess(nowMs);
  }
}

/** All devices, and counters of the session. */
export class Model {
  startedMs = Date.now();
  devices = new Map();
  updates = 0;
  /** Updates for something the session may not read. The relay promises there are none. */
  unexpected = 0;
  #arrivals = [];

  /** The device with this id, created on first sight. */
  device(deviceId, kind = "device") {
    let device = this.devices.get(deviceId);
    if (device === undefined) {
      device = new Device(deviceId, kind, this.startedMs);
      this.devices.set(deviceId, device);
    }
    return device;
  }

  /** Takes one `data` event; gives the device that it is about, if it is one of the page's. */
  takeUpdate({ deviceId, telemetry, connectionState, deviceTwin, timestamp }, nowMs) {
    const device = this.devices.get(deviceId);
    this.updates += 1;
    this.#arrivals.push(nowMs);
    if (device === undefined) {
      this.unexpected += 1;
      return undefined;
    }
    device.updates += 1;
    if (connectionState !== undefined) {
      if (device.grants.holds("connectionState")) device.connected = connectionState;
      else this.#noteUnexpected(device, nowMs);
    }
    if (deviceTwin !== undefined) {
      if (device.grants.holds("deviceTwin")) device.twin.take(deviceTwin, Date.parse(timestamp));
      else this.#noteUnexpected(device, nowMs);
    }
    let readable = false;
    for (const [key, value] of Object.entries(telemetry ?? {})) {
      if (device.grants.covers(key)) {
        device.reading(key)?.take(value, Date.parse(timestamp), nowMs, nowMs);
        readable = true;
      } else {
        this.#noteUnexpected(device, nowMs);
      }
    }
    if (readable) device.noteMessage(nowMs);
    return device;
  }

  /** Takes last values read by REST: `{key: {value, timestamp}}`. */
  takeLastValues(device, values, nowMs) {
    for (const [key, { value, timestamp }] of Object.entries(values)) {
      if (!device.grants.covers(key)) continue;
      const timestampMs = Math.min(Date.parse(timestamp), nowMs);
      device.reading(key)?.take(value, timestampMs, nowMs, nowMs);
      device.updatedMs = Math.max(device.updatedMs, timestampMs);
    }
  }

  #noteUnexpected(device, nowMs) {
    if (nowMs - device.givenUpMs > IN_FLIGHT_MS) this.unexpected += 1;
  }

  /** Updates per second over the last few seconds. */
  rate(nowMs) {
    const first = this.#arrivals.findIndex((at) => at > nowMs - RATE_SPAN_MS);
    this.#arrivals = first < 0 ? [] : this.#arrivals.slice(first);
    return this.#arrivals.length / (RATE_SPAN_MS / 1000);
  }

  /** Totals over all devices. */
  totals() {
    let readable = 0;
    let grants = 0;
    let subscriptions = 0;
    for (const device of this.devices.values()) {
      readable += Number(device.readable);
      grants += device.grants.count;
      subscriptions += device.subscriptions.count;
    }
    return { readable, grants, subscriptions };
  }
}

function sameValue(a, b) {
  return a === b || (typeof a === "object" && canonicalJson(a) === canonicalJson(b));
}
