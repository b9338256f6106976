// Acts towards the relay as the hooks of ux4iot-react 4.1.8 do: the same calls in the same order, the same tables of
// what is granted and subscribed, and the same reactions to a lost connection. Written from what the published library
// was seen to do; runs in browsers and in Node.
//
// Three things make it delicate, and all are kept here:
//
// - The Socket.IO manager goes on reconnecting by itself with the old session id, beside the client's own timer, which
//   wants a new session.
// - A hook starts again only when the session id that it sees has changed, while every connect empties the tables.
// - Nothing waits for anything else: hooks ask for the same grant side by side, and a hook that goes asks for its grant
//   again when the answer to the first request is still out.

const RECONNECT_TIMEOUT_MS = 5_000;
const RECONNECT_TIMEOUT_MAX_MS = 30_000;

/** What a request of each kind is about, in the order in which the library writes it. */
const request = {
  telemetry: ({ deviceId, telemetryKey }) => ({ deviceId, telemetryKey, type: "telemetry" }),
  connectionState: ({ deviceId }) => ({ deviceId, type: "connectionState" }),
  deviceTwin: ({ deviceId }) => ({ deviceId, type: "deviceTwin" }),
  d2cMessages: ({ deviceId }) => ({ deviceId, type: "d2cMessages" }),
};

/** What each kind takes from an event; `undefined` when the event is of another kind. */
const taken = {
  telemetry: ({ telemetry = {} }, keys) => {
    const wanted = Object.entries(telemetry).filter(([key]) => keys.includes(key));
    return wanted.length > 0 ? Object.fromEntries(wanted) : undefined;
  },
  connectionState: (event) => event.connectionState,
  deviceTwin: (event) => event.deviceTwin || undefined,
  d2cMessages: (event) => event.message || undefined,
};

const keyOf = (sessionId, { type, deviceId, telemetryKey, directMethodName }) =>
  JSON.stringify([sessionId, type, deviceId, telemetryKey, directMethodName]);

export class Client {
  #options;
  #tell;
  #sessionId;
  /** The session id that hooks see. */
  #publishedSessionId;
  #socket;
  #timer;
  #granted = new Set();
  /** By hook: what it is subscribed to, by key. */
  #subscribed = new Map();
  #hooks = new Map();

  /**
   * `options`: `io`, `url`, `key`, optionally `production` (the key is the security backend's alone), `strict` (every
   * hook is mounted, unmounted and mounted at once, as React does in development), `reconnectTimeoutMs`, and
   * `requestGrant`, which decides instead of the relay.
   * `tell` is given what happens, as `{event, …}`.
   */
  constructor(options, tell) {
    this.#options = options;
    this.#tell = tell;
  }

  /** Makes a session and connects, trying until it works. */
  async start(timeoutMs = this.#reconnectTimeoutMs) {
    this.#timer = undefined;
    try {
      this.#sessionId = await this.#newSession();
    } catch {
      this.#tell({ event: "connection", reason: "ux4iot_unreachable" });
      this.#timer = setTimeout(() => this.start(doubled(timeoutMs)), timeoutMs);
      return;
    }
    this.#openSocket();
  }

  /** Leaves, as a page does whose provider is unmounted. */
  stop() {
    clearTimeout(this.#timer);
    this.#socket?.disconnect();
    this.#socket = undefined;
  }

  /** A component with this hook appears, or its inputs change. */
  mount(id, kind, inputs) {
    const known = this.#hooks.get(id);
    if (!known) {
      const hook = { id, kind, inputs };
      this.#hooks.set(id, hook);
      this.#settle(id, this.#appear(hook));
    } else if (isSingle(kind) && JSON.stringify(known.inputs) !== JSON.stringify(inputs)) {
      const before = known.inputs;
      known.inputs = inputs;
      this.#settle(id, [this.#leave(known, before), this.#begin(known)]);
    } else {
      // Hooks for many devices look at their inputs only when they appear.
      this.#settle(id, []);
    }
  }

  unmount(id) {
    const hook = this.#hooks.get(id);
    this.#hooks.delete(id);
    this.#settle(id, [this.#leave(hook, hook.inputs)]);
  }

  /** What a hook gives to its component to call. */
  async invoke(id, method, args) {
    try {
      const value = await this.#methods[method](this.#hooks.get(id), ...args);
      this.#tell({ event: "answer", id, value: value ?? null });
    } catch (error) {
      this.#tell({ event: "failure", id, status: error.status, message: error.message });
    }
  }

  #methods = {
    addTelemetry: (hook, deviceId, keys) => this.#subscribeKeys(hook, deviceId, keys),
    removeTelemetry: (hook, deviceId, keys) => this.#unsubscribeKeys(hook, deviceId, keys),
    addConnectionState: (hook, deviceId) => this.#subscribe(hook, request.connectionState({ deviceId })),
    removeConnectionState: (hook, deviceId) => this.#unsubscribe(hook, request.connectionState({ deviceId })),
    invoke: async (hook, payload) => {
      const { deviceId, directMethodName } = hook.inputs;
      const grant = { deviceId, type: "directMethod", directMethodName };
      if (await this.#grant(hook, this.#publishedSessionId, grant)) {
        const body = { deviceId, methodParams: { methodName: directMethodName, payload } };
        return (await this.#call("POST", "/directMethod", { body, headers: { sessionId: this.#sessionId } })).json();
      }
    },
    patch: async (hook, desiredPropertyPatch) => {
      const { deviceId } = hook.inputs;
      if (await this.#grant(hook, this.#publishedSessionId, { deviceId, type: "desiredProperties" })) {
        const body = { deviceId, desiredPropertyPatch };
        await this.#call("PATCH", "/deviceTwinDesiredProperties", { body, headers: { sessionId: this.#sessionId } });
      }
    },
  };

  // ---- the connection

  #openSocket() {
    const { io, url } = this.#options;
    const socket = io(`${url}?sessionId=${this.#sessionId}`, { transports: ["websocket", "polling"] });
    this.#socket = socket;
    socket.on("connect", () => {
      this.#granted.clear();
      this.#subscribed.clear();
      this.#tell({ event: "connection", reason: "socket_connect", sessionId: this.#sessionId });
      clearTimeout(this.#timer);
      this.#publish(this.#sessionId);
    });
    socket.on("connect_error", (error) => {
      this.#tell({ event: "connection", reason: "socket_connect_error", message: error.message });
      this.#startAgainLater();
    });
    socket.on("disconnect", (reason) => {
      this.#tell({ event: "connection", reason: "socket_disconnect", message: reason });
      if (reason !== "io client disconnect") {
        this.#socket = undefined;
        this.#startAgainLater();
      }
    });
    socket.on("data", (event) => this.#dispatch(event));
  }

  #startAgainLater(timeoutMs = this.#reconnectTimeoutMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(async () => {
      if (this.#socket) return;
      try {
        this.#sessionId = await this.#newSession();
      } catch {
        this.#tell({ event: "connection", reason: "ux4iot_unreachable" });
        this.#startAgainLater(doubled(timeoutMs));
        return;
      }
      this.#openSocket();
    }, timeoutMs);
  }

  /** Hooks start again when, and only when, the session id changes; each first leaves what it had in the old one. */
  #publish(sessionId) {
    const before = this.#publishedSessionId;
    if (before === sessionId) return;
    this.#publishedSessionId = sessionId;
    for (const hook of this.#hooks.values()) {
      const leaving = before === undefined ? [] : [this.#leave(hook, hook.inputs, before)];
      this.#settle(hook.id, [...leaving, this.#begin(hook)]);
    }
  }

  #dispatch(event) {
    for (const [hook, subscriptions] of this.#subscribed) {
      for (const { type, keys } of ofDevice(subscriptions, event.deviceId)) {
        const data = taken[type](event, keys);
        if (data !== undefined) this.#show(hook, event.deviceId, data, event.timestamp, true);
      }
    }
  }

  // ---- hooks

  /** What runs when a component appears: in strict mode it does so twice, and leaves in between. */
  #appear(hook) {
    if (!this.#options.strict) return [this.#begin(hook)];
    return [this.#begin(hook), this.#leave(hook, hook.inputs), this.#begin(hook)];
  }

  async #begin(hook) {
    if (this.#publishedSessionId === undefined) return;
    if (hook.kind === "multiTelemetry") {
      for (const [deviceId, keys] of Object.entries(hook.inputs.initialSubscribers)) {
        await this.#subscribeKeys(hook, deviceId, keys);
      }
    } else if (hook.kind === "multiConnectionState") {
      for (const deviceId of hook.inputs.initialSubscribers) {
        await this.#subscribe(hook, request.connectionState({ deviceId }));
      }
    } else if (isSingle(hook.kind)) {
      await this.#subscribe(hook, request[hook.kind](hook.inputs));
    }
  }

  async #leave(hook, inputs, sessionId = this.#publishedSessionId) {
    if (sessionId === undefined) return;
    if (isSingle(hook.kind)) {
      await this.#unsubscribe(hook, request[hook.kind](inputs), sessionId);
      return;
    }
    for (const { deviceId, type, keys } of grouped(this.#subscribed.get(hook))) {
      if (type === "telemetry") await this.#unsubscribeKeys(hook, deviceId, keys, sessionId);
      else await this.#unsubscribe(hook, request[type]({ deviceId }), sessionId);
    }
    this.#subscribed.delete(hook);
  }

  async #subscribe(hook, wanted) {
    const sessionId = this.#publishedSessionId;
    if (!(await this.#grant(hook, sessionId, wanted))) {
      this.#tell({ event: "subscriptionError", id: hook.id, message: "No grant for subscription" });
      this.#remove(hook, sessionId, wanted);
      return;
    }
    const last = await this.#lastValue(wanted);
    if (last !== undefined) this.#show(hook, wanted.deviceId, last.data, last.timestamp);
    try {
      if (this.#subscribers(sessionId, wanted) === 0) {
        await this.#call("PUT", "/subscription", { body: { ...wanted, sessionId: this.#sessionId } });
      }
      this.#add(hook, sessionId, wanted);
    } catch (error) {
      this.#tell({ event: "subscriptionError", id: hook.id, message: error.message });
    }
  }

  async #unsubscribe(hook, wanted, sessionId = this.#publishedSessionId) {
    if (!(await this.#grant(hook, sessionId, wanted))) {
      this.#tell({ event: "subscriptionError", id: hook.id, message: "No grant for subscription" });
      return;
    }
    try {
      if (this.#subscribers(sessionId, wanted) === 1) {
        await this.#call("DELETE", "/subscription", { body: { ...wanted, sessionId: this.#sessionId } });
      }
      this.#remove(hook, sessionId, wanted);
    } catch (error) {
      this.#tell({ event: "subscriptionError", id: hook.id, message: error.message });
    }
  }

  async #subscribeKeys(hook, deviceId, keys) {
    const sessionId = this.#publishedSessionId;
    if (!(await this.#grantEveryKey(hook, deviceId, sessionId))) return;
    // Here a refusal is not caught: the hook would never subscribe.
    const answer = await this.#call("GET", `/lastValue/${deviceId}`, { headers: { sessionId: this.#sessionId } });
    const { data, timestamp } = await answer.json();
    const known = Object.fromEntries(Object.entries(data).filter(([key]) => keys.includes(key)));
    this.#show(hook, deviceId, known, timestamp);
    const all = keys.map((telemetryKey) => request.telemetry({ deviceId, telemetryKey }));
    try {
      await this.#bulk("PUT", all.filter((one) => this.#subscribers(sessionId, one) === 0));
      for (const one of all) this.#add(hook, sessionId, one);
    } catch (error) {
      this.#tell({ event: "subscriptionError", id: hook.id, message: error.message });
    }
  }

  async #unsubscribeKeys(hook, deviceId, keys, sessionId = this.#publishedSessionId) {
    if (!(await this.#grantEveryKey(hook, deviceId, sessionId))) return;
    const all = keys.map((telemetryKey) => request.telemetry({ deviceId, telemetryKey }));
    try {
      await this.#bulk("DELETE", all.filter((one) => this.#subscribers(sessionId, one) === 1));
      for (const one of all) this.#remove(hook, sessionId, one);
    } catch (error) {
      this.#tell({ event: "subscriptionError", id: hook.id, message: error.message });
    }
  }

  /** Single keys are subscribed on the strength of a grant for every key. */
  async #grantEveryKey(hook, deviceId, sessionId) {
    const granted = await this.#grant(hook, sessionId, { deviceId, type: "telemetry", telemetryKey: null });
    if (!granted) this.#tell({ event: "subscriptionError", id: hook.id, message: "No grant for subscription" });
    return granted;
  }

  async #bulk(method, wanted) {
    if (wanted.length === 0) return;
    await this.#call(method, "/subscriptions", { body: wanted.map((one) => ({ ...one, sessionId: this.#sessionId })) });
  }

  /** A last value that cannot be read is no last value. */
  async #lastValue({ type, deviceId, telemetryKey }) {
    const path = {
      telemetry: `/lastValue/${deviceId}/${telemetryKey}`,
      connectionState: `/connectionState/${deviceId}`,
      deviceTwin: `/deviceTwin/${deviceId}`,
    }[type];
    if (!path) return undefined;
    try {
      return await (await this.#call("GET", path, { headers: { sessionId: this.#sessionId } })).json();
    } catch {
      return undefined;
    }
  }

  /** Asks for a grant that the table does not have, and answers what the table says then. */
  async #grant(hook, sessionId, { type, deviceId, telemetryKey, directMethodName }) {
    const grant = { type, deviceId, telemetryKey, directMethodName };
    const key = keyOf(sessionId, grant);
    if (this.#granted.has(key)) return true;
    const outcome = await this.#requestGrant({ ...grant, sessionId: this.#sessionId });
    if (outcome === "GRANTED") this.#granted.add(key);
    else this.#tell({ event: "grantError", id: hook.id, outcome });
    return this.#granted.has(key);
  }

  async #requestGrant(grant) {
    const decided = await this.#options.requestGrant?.(grant);
    if (decided) return decided;
    try {
      await this.#call("PUT", "/grants", { body: grant, headers: { "Shared-Access-Key": this.#options.key } });
      return "GRANTED";
    } catch (error) {
      return { 401: "UNAUTHORIZED", 403: "FORBIDDEN" }[error.status] ?? "ERROR";
    }
  }

  // ---- tables

  #add(hook, sessionId, wanted) {
    const own = this.#subscribed.get(hook) ?? new Map();
    this.#subscribed.set(hook, own.set(keyOf(sessionId, wanted), wanted));
  }

  #remove(hook, sessionId, wanted) {
    const own = this.#subscribed.get(hook);
    own?.delete(keyOf(sessionId, wanted));
    if (own?.size === 0) this.#subscribed.delete(hook);
  }

  /** How many hooks are subscribed to it. */
  #subscribers(sessionId, wanted) {
    const key = keyOf(sessionId, wanted);
    return [...this.#subscribed.values()].filter((own) => own.has(key)).length;
  }

  // ---- calls

  async #newSession() {
    return (await (await this.#call("POST", "/session")).json()).sessionId;
  }

  /** In development mode every call carries the key. */
  async #call(method, path, { headers = {}, body } = {}) {
    const { url, key, production } = this.#options;
    const response = await fetch(new URL(path, url), {
      method,
      headers: {
        ...(!production && { "Shared-Access-Key": key }),
        ...(body && { "Content-Type": "application/json" }),
        ...headers,
      },
      body: body && JSON.stringify(body),
    });
    this.#tell({ event: "call", call: `${method} ${path}`, status: response.status });
    if (!response.ok) throw Object.assign(new Error(await response.text()), { status: response.status });
    return response;
  }

  // ---- what is told

  /** `live` tells what was pushed from last values that were read. */
  #show(hook, deviceId, data, timestamp, live = false) {
    this.#tell({ event: "data", id: hook.id, deviceId, data, timestamp, live });
  }

  #settle(id, work) {
    Promise.all(work).then(
      () => this.#tell({ event: "settled", id }),
      (error) => this.#tell({ event: "failed", id, message: String(error) }),
    );
  }

  get #reconnectTimeoutMs() {
    return this.#options.reconnectTimeoutMs ?? RECONNECT_TIMEOUT_MS;
  }
}

const isSingle = (kind) => kind in request;

const doubled = (timeoutMs) => Math.min(2 * timeoutMs, RECONNECT_TIMEOUT_MAX_MS);

/** One hook's subscriptions by device and kind, the keys of telemetry together. */
function grouped(subscriptions = new Map()) {
  const groups = new Map();
  for (const { deviceId, type, telemetryKey } of subscriptions.values()) {
    const name = JSON.stringify([deviceId, type]);
    const group = groups.get(name) ?? { deviceId, type, keys: [] };
    group.keys.push(telemetryKey);
    groups.set(name, group);
  }
  return [...groups.values()];
}

const ofDevice = (subscriptions, deviceId) => grouped(subscriptions).filter((group) => group.deviceId === deviceId);
