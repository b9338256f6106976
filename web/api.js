// The relay's REST API as a browser uses it, and the demo's security backend beside it.
// Every call leaves one line in the protocol log.

import { saysNoSession } from "./explain.js";
import { parseJson } from "./json.js";
import { patchOf } from "./twin.js";

/** An answer other than 2xx; `message` is the relay's text, and `retryAfterS` may say when to come back. */
export class Refusal extends Error {
  constructor(status, message, retryAfterS) {
    super(message);
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

export class RelayApi {
  #log;

  constructor(log) {
    this.#log = log;
  }

  /** Creates a session; gives its id. */
  async createSession() {
    const { sessionId } = await this.#call("POST", "/session");
    return sessionId;
  }

  /** The demo's devices: `{deviceCount, devices}` with `{deviceId, kind, telemetryKeys}` each. */
  devices() {
    return this.#call("GET", "/demo/devices", { silent: true });
  }

  /** Asks the security backend for a grant. `bulk` folds such lines of the log into one. */
  grant(grant, bulk = false) {
    return this.#call("POST", "/demo/grants", { body: grant, note: describe(grant), bulk });
  }

  /** Asks the security backend to revoke a grant. */
  revoke(grant) {
    return this.#call("DELETE", "/demo/grants", { body: grant, note: describe(grant) });
  }

  /** Subscribes to one thing; refused with 403 when no grant covers it. */
  subscribe(subscription) {
    return this.#call("PUT", "/subscription", { body: subscription, note: describe(subscription) });
  }

  /** Subscribes to many things; gives those that were covered by a grant. */
  subscribeAll(subscriptions) {
    const note = (applied) => `${applied.length} of ${subscriptions.length} applied`;
    return this.#call("PUT", "/subscriptions", { body: subscriptions, note });
  }

  /** Last values of a device: `{key: {value, timestamp}}`, narrowed to what the session may read. */
  async lastValues(sessionId, deviceId, bulk = false) {
    const path = `/lastValue/${encodeURIComponent(deviceId)}`;
    const note = ({ data }) => countOf(Object.keys(data).length, "key");
    const { data } = await this.#call("GET", path, { sessionId, note, bulk });
    return data;
  }

  /** The last value of one key, in the same shape. */
  async lastValue(sessionId, deviceId, key) {
    const path = `/lastValue/${encodeURIComponent(deviceId)}/${encodeURIComponent(key)}`;
    const { data, timestamp } = await this.#call("GET", path, { sessionId });
    return { [key]: { value: data[key], timestamp } };
  }

  /** The connection state: true, false, or null when the relay cannot tell. */
  async connectionState(sessionId, deviceId, bulk = false) {
    const path = `/connectionState/${encodeURIComponent(deviceId)}`;
    try {
      return (await this.#call("GET", path, { sessionId, bulk })).data;
    } catch (error) {
      // Nothing is stored, and the hub cannot be asked, does not know either, or has no time.
      if (error instanceof Refusal && error.status !== 403 && !saysNoSession(error)) return null;
      throw error;
    }
  }

  /** The whole twin of a device: `{data, timestamp}`. */
  twin(sessionId, deviceId) {
    const note = ({ data }) => `version ${data.version}`;
    return this.#call("GET", `/deviceTwin/${encodeURIComponent(deviceId)}`, { sessionId, note });
  }

  /** Sets the desired property at a dotted path to a JSON text; `null` removes it. Gives the twin's new version, if told. */
  async setDesired(sessionId, deviceId, path, json) {
    const body = `{"deviceId":${JSON.stringify(deviceId)},"desiredPropertyPatch":${patchOf(path, json)}}`;
    const note = `${deviceId} ${path}`;
    const answer = await this.#call("PATCH", "/deviceTwinDesiredProperties", { sessionId, body, note });
    return answer?.payload?.version;
  }

  /** Calls a direct method with a JSON text as its payload; gives the device's `{status, payload}`. */
  callMethod(sessionId, deviceId, { name, payload, timeoutS }) {
    const params = `"methodName":${JSON.stringify(name)},"payload":${payload},"responseTimeoutInSeconds":${timeoutS}`;
    const body = `{"deviceId":${JSON.stringify(deviceId)},"methodParams":{${params}}}`;
    const note = ({ status }) => `${deviceId} ${name}, answered ${status}`;
    return this.#call("POST", "/directMethod", { sessionId, body, note });
  }

  async #call(method, path, { body, sessionId, note = "", bulk = false, silent = false } = {}) {
    const headers = {};
    if (body !== undefined) headers["content-type"] = "application/json";
    if (sessionId !== undefined) headers.sessionId = sessionId;
    const line = { method, path, bulk, note: typeof note === "string" ? note : "" };
    let response;
    let text;
    try {
      response = await fetch(path, {
        method,
        headers,
        body: typeof body === "object" ? JSON.stringify(body) : body,
        cache: "no-store",
      });
      text = await response.text();
    } catch (error) {
      this.#log.add({ ...line, status: "failed", note: "relay not reachable" });
      throw error;
    }
    if (!response.ok) {
      this.#log.add({ ...line, status: response.status, note: text });
      throw new Refusal(response.status, text, retryAfterOf(response));
    }
    const answer = text === "" ? null : parseJson(text);
    if (!silent) {
      if (typeof note === "function") line.note = note(answer);
      this.#log.add({ ...line, status: response.status });
    }
    return answer;
  }
}

function retryAfterOf({ headers }) {
  const seconds = Number.parseInt(headers.get("retry-after") ?? "", 10);
  return Number.isNaN(seconds) ? undefined : seconds;
}

function countOf(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

function describe({ deviceId, type, telemetryKey }) {
  if (type !== "telemetry") return `${deviceId} ${type}`;
  return `${deviceId} telemetry ${telemetryKey ?? "*"}`;
}
