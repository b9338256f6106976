// What a session holds of one device: its grants, or its subscriptions.
//
// One right is `{type, telemetryKey?}` as the relay's requests have it; for telemetry a key of null means every key.

/** What can be granted beside telemetry, in the order in which it is asked for and shown. */
export const OTHER_TYPES = Object.freeze(["connectionState", "deviceTwin", "desiredProperties", "directMethod"]);

/** What a relay without an IoT Hub refuses to grant. */
const TYPES_OF_HUB = new Set(["desiredProperties", "directMethod"]);

/** What is delivered, and so can be subscribed to; a call to a device cannot. */
const TYPES_DELIVERED = new Set(["telemetry", "connectionState", "deviceTwin"]);

/** Telemetry of one key, or of every key when `key` is null. */
export function telemetry(key) {
  return { type: "telemetry", telemetryKey: key };
}

/** All there is to be had of a device. */
export function everything() {
  return [telemetry(null), ...OTHER_TYPES.map((type) => ({ type }))];
}

/** Whether a grant of this type lets updates arrive. */
export function isDelivered({ type }) {
  return TYPES_DELIVERED.has(type);
}

/** Whether a grant of this type is for calls that go through the IoT Hub. */
export function needsHub({ type }) {
  return TYPES_OF_HUB.has(type);
}

export class Holdings {
  allKeys = false;
  keys = new Set();
  #types = new Set();

  /** How many single grants or subscriptions these are. */
  get count() {
    return Number(this.allKeys) + this.keys.size + this.#types.size;
  }

  /** Whether telemetry of this key is covered. */
  covers(key) {
    return this.allKeys || this.keys.has(key);
  }

  /** Whether this type, which is not telemetry, is held. */
  holds(type) {
    return this.#types.has(type);
  }

  /** Adds what a grant or subscription request names. */
  add({ type, telemetryKey }) {
    if (type !== "telemetry") this.#types.add(type);
    else if (telemetryKey === null) this.allKeys = true;
    else this.keys.add(telemetryKey);
  }

  /** Removes what a request names; a request for all keys removes single keys too. */
  remove({ type, telemetryKey }) {
    if (type !== "telemetry") {
      this.#types.delete(type);
    } else if (telemetryKey === null) {
      this.allKeys = false;
      this.keys.clear();
    } else {
      this.keys.delete(telemetryKey);
    }
  }

  /** The rights held, telemetry first. */
  list() {
    const keys = this.allKeys ? [null] : [...this.keys];
    const others = OTHER_TYPES.filter((type) => this.#types.has(type));
    return [...keys.map(telemetry), ...others.map((type) => ({ type }))];
  }

  clear() {
    this.allKeys = false;
    this.keys.clear();
    this.#types.clear();
  }
}
