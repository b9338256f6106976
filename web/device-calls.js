// What the visitor does to a device: changes of its desired properties, and direct methods.
// Both need a grant each, go through the relay to the IoT Hub, and are refused by the relay, not by this page.

import { saysNoSession } from "./explain.js";
import { canonicalJson, parseJson } from "./json.js";
import { noteAnswer, noteProblem } from "./method-calls.js";

export class DeviceCalls {
  #api;
  #session;
  #onChange;

  /** `onChange()` is called whenever something that a view shows has changed. */
  constructor({ api, session, onChange }) {
    this.#api = api;
    this.#session = session;
    this.#onChange = onChange;
  }

  /** Sets the desired property at a dotted path to a JSON text, or removes it by `null`; throws the refusal. */
  async setDesired(device, path, json) {
    let version;
    try {
      version = await this.#api.setDesired(this.#sessionId(), device.deviceId, path, json);
    } catch (error) {
      this.#noteLoss(error);
      throw error;
    }
    const value = parseJson(json);
    // Without the grant to see the twin nothing would ever tell that it has changed.
    if (device.grants.holds("deviceTwin")) {
      const wanted = value === null ? undefined : canonicalJson(value);
      device.twin.expect(path, { json: wanted, version, acceptedMs: Date.now() });
    }
    this.#onChange();
  }

  /** Calls a direct method `{name, payload, timeoutS}`; the outcome is in the call that it gives, which never fails. */
  async callMethod(device, request) {
    const call = device.calls.begin(request);
    this.#onChange();
    try {
      noteAnswer(call, await this.#api.callMethod(this.#sessionId(), device.deviceId, request));
    } catch (error) {
      noteProblem(call, error);
      this.#noteLoss(error);
    }
    this.#onChange();
    return call;
  }

  #sessionId() {
    if (this.#session.connectedMs === 0) throw new NotConnected();
    return this.#session.sessionId;
  }

  #noteLoss(error) {
    if (saysNoSession(error)) this.#session.drop();
  }
}

/** There is no session just now. */
class NotConnected extends Error {}
