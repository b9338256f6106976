// Direct methods of the chosen device: a form for the call, and the last calls with their outcome and duration.

import { byId, element, setText } from "./dom.js";
import { explain } from "./explain.js";
import { showProblem } from "./field.js";
import { GrantToggle } from "./grant-toggle.js";
import { readTyped, writeJson } from "./json.js";

/** What the simulated devices answer to. */
const SUGGESTIONS = [
  { name: "reboot", payload: "" },
  { name: "setInterval", payload: '{"interval": 2000}' },
  { name: "echo", payload: '{"hello": "device"}' },
  { name: "calibrate", payload: "" },
  { name: "selfTest", payload: "" },
];

/** How long an answer may take; the bounds are those of Azure IoT Hub. */
const TIMEOUT_S = { least: 5, most: 300 };

/** The time that a call has run is rewritten this often. */
const TICK_MS = 100;
/** Longest result that is shown. */
const RESULT_CHARS_MAX = 20_000;

/** Callbacks: those of `GrantToggle`, `onCallMethod(device, {name, payload, timeoutS})`. */
export class MethodPanel {
  #callbacks;
  #toggle;
  #device = null;
  #entries = new Map();
  #tickTimer = 0;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    this.#toggle = new GrantToggle("directMethod", callbacks);
    byId("method-grants").append(this.#toggle.node);
    byId("method-suggestions").append(...SUGGESTIONS.map((suggestion) => suggestionButton(suggestion)));
    byId("method-names").append(...SUGGESTIONS.map(({ name }) => element("option", { value: name })));
    byId("method-form").onsubmit = (event) => {
      event.preventDefault();
      this.#call();
    };
  }

  render(device, connected) {
    if (device !== this.#device) {
      this.#device = device;
      this.#entries.clear();
      byId("method-calls").replaceChildren();
      setText(byId("method-form-problem"), "");
    }
    this.#toggle.render(device, connected);
    byId("methods").dataset.device = device.deviceId;
    setText(byId("method-subtitle"), device.deviceId);
    const note = noteOf(device);
    setText(byId("method-note"), note);
    byId("method-note").hidden = note === "";
    byId("method-call").setAttribute("aria-disabled", String(device.calls.full || !connected));
    this.#renderCalls(device.calls);
  }

  #renderCalls(calls) {
    const ids = new Set(calls.list.map(({ id }) => id));
    for (const [id, entry] of this.#entries) {
      if (ids.has(id)) continue;
      entry.node.remove();
      this.#entries.delete(id);
    }
    for (const call of [...calls.list].reverse()) {
      let entry = this.#entries.get(call.id);
      if (entry === undefined) {
        entry = new CallEntry(call);
        this.#entries.set(call.id, entry);
        byId("method-calls").prepend(entry.node);
      }
      entry.render(call);
    }
    byId("method-none").hidden = calls.list.length > 0;
    if (calls.running > 0 && this.#tickTimer === 0) this.#tickTimer = setInterval(() => this.#tick(), TICK_MS);
  }

  #tick() {
    const { calls } = this.#device;
    for (const call of calls.list) this.#entries.get(call.id)?.render(call);
    if (calls.running > 0) return;
    clearInterval(this.#tickTimer);
    this.#tickTimer = 0;
  }

  #call() {
    const name = byId("method-name");
    const payload = byId("method-payload");
    const timeout = byId("method-timeout");
    const problem = byId("method-form-problem");
    for (const field of [name, payload, timeout]) showProblem(field, problem, "");
    const json = payload.value.trim() === "" ? "null" : payload.value.trim();
    const wrong = [
      [name, name.value.trim() === "" ? "Type the name of a method." : ""],
      [payload, readTyped(json).problem ?? ""],
      [timeout, problemOfTimeout(timeout.value)],
    ].find(([, text]) => text !== "");
    if (wrong !== undefined) {
      showProblem(wrong[0], problem, wrong[1]);
      wrong[0].focus();
      return;
    }
    if (byId("method-call").getAttribute("aria-disabled") === "true") return;
    const request = { name: name.value.trim(), payload: json, timeoutS: Number(timeout.value) };
    this.#callbacks.onCallMethod(this.#device, request);
  }
}

/** One call: its name, how it ended or that it runs, how long it took, and what came back. */
class CallEntry {
  #status = element("span", { className: "call-status" });
  #duration = element("span", { className: "call-duration" });
  #result = element("pre", { className: "call-result", hidden: true });
  #state = "";

  constructor({ id, name, payload }) {
    this.#result.tabIndex = 0;
    this.#result.setAttribute("role", "region");
    this.#result.setAttribute("aria-label", `Answer of ${name}`);
    const head = element(
      "div",
      { className: "call-head" },
      element("b", { textContent: name }),
      this.#status,
      this.#duration,
    );
    const sent =
      payload === "null" ? [] : [element("code", { className: "call-payload", textContent: payload, title: payload })];
    this.node = element("li", { data: { call: id, name } }, head, ...sent, this.#result);
  }

  render(call) {
    const running = call.state === "running";
    const elapsedMs = running ? performance.now() - call.startedMs : call.durationMs;
    setText(this.#duration, running ? `${(elapsedMs / 1000).toFixed(1)} s` : durationText(elapsedMs));
    if (call.state === this.#state) return;
    this.#state = call.state;
    const { dataset } = this.node;
    dataset.state = call.state;
    dataset.status = call.status ?? "";
    dataset.tone = call.state === "refused" || call.status >= 400 ? "refused" : "";
    if (running) {
      setText(this.#status, "Running");
      return;
    }
    dataset.durationMs = Math.round(call.durationMs);
    setText(this.#status, call.state === "answered" ? `Answered ${call.status}` : `Failed ${call.status ?? ""}`.trim());
    setText(this.#result, call.state === "answered" ? resultText(call.result) : explain(call.problem));
    this.#result.hidden = false;
  }
}

function suggestionButton({ name, payload }) {
  return element("button", {
    type: "button",
    className: "suggestion",
    textContent: name,
    onclick: () => {
      byId("method-name").value = name;
      byId("method-payload").value = payload;
      byId("method-call").focus();
    },
  });
}

/** What a call may run into, said before it is made. */
function noteOf({ deviceId, grants, connected, refusals }) {
  if (!grants.holds("directMethod")) {
    const refusal = refusals.get("directMethod");
    return refusal === undefined
      ? `This session may not call methods of ${deviceId}; a call will be refused.`
      : `directMethod was not granted, ${explain(refusal)}`;
  }
  return connected === false ? `${deviceId} is offline; a call will not reach it.` : "";
}

function problemOfTimeout(text) {
  const seconds = Number(text);
  const { least, most } = TIMEOUT_S;
  return Number.isInteger(seconds) && seconds >= least && seconds <= most
    ? ""
    : `The time-out is ${least} to ${most} s.`;
}

function durationText(durationMs) {
  return `${durationMs < 10 ? durationMs.toFixed(1) : Math.round(durationMs)} ms`;
}

function resultText(result) {
  const text = result === undefined ? "no payload" : writeJson(result, 2);
  return text.length > RESULT_CHARS_MAX ? `${text.slice(0, RESULT_CHARS_MAX)}…` : text;
}
