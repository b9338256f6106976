// The chosen device: its keys with their grants, the chosen key's value, and the chart of that key.

import { Chart } from "./chart.js";
import { byId, element, prefersStillness, setAttribute, setText } from "./dom.js";
import { formatInterval, formatValue, leafAt, leavesOf } from "./format.js";

const WINDOWS = [
  { label: "1 min", ms: 60_000 },
  { label: "5 min", ms: 300_000 },
  { label: "15 min", ms: 900_000 },
];

/** Callbacks: `onChoose(device, key)`, `onGrant(device, key)`, `onRevoke(device, key)`, `onTry(device)`. */
export class Inspector {
  device = null;
  key = null;
  #leaf = "";
  #leavesShown = "";
  #connected = false;
  #callbacks;
  #chart;
  #keyRows = new Map();

  constructor(callbacks) {
    this.#callbacks = callbacks;
    this.#chart = new Chart(byId("chart"), () => this.#series());
    byId("windows").append(...WINDOWS.map((choice) => this.#windowButton(choice)));
    this.#chooseWindow(WINDOWS[0]);
    byId("device-access").onclick = () => {
      if (this.device.grants.allKeys) callbacks.onRevoke(this.device, null);
      else callbacks.onGrant(this.device, null);
    };
    byId("device-try").onclick = () => callbacks.onTry(this.device);
  }

  /** Shows a device; without a key its first one. */
  choose(device, key = null) {
    if (device !== this.device) {
      this.#keyRows.clear();
      byId("keys").replaceChildren();
    }
    byId("inspector").hidden = false;
    byId("device-panels").hidden = false;
    this.device = device;
    this.key = key ?? device.readings.keys().next().value ?? null;
    this.#leaf = "";
    this.#chart.redraw();
  }

  /** Scrolls the chart into view if nothing of it can be seen. */
  reveal() {
    const panel = byId("inspector");
    const { top, bottom } = panel.getBoundingClientRect();
    if (bottom > 80 && top < window.innerHeight - 80) return;
    panel.scrollIntoView({ block: "start", behavior: prefersStillness() ? "auto" : "smooth" });
  }

  /** Brings everything but the moving chart up to date. */
  render(connected, nowMs) {
    const { device } = this;
    if (device === null) return;
    this.#connected = connected;
    this.key ??= device.readings.keys().next().value ?? null;
    const reading = device.readings.get(this.key);
    const { dataset } = byId("inspector");
    dataset.device = device.deviceId;
    dataset.key = this.key ?? "";
    dataset.access = device.access;
    setText(byId("inspector-title"), device.deviceId);
    const intervalMs = device.intervalMs(nowMs);
    dataset.intervalMs = intervalMs === undefined ? "" : Math.round(intervalMs);
    const title = this.key === null ? device.kind : this.#keyTitle();
    setText(
      byId("inspector-subtitle"),
      intervalMs === undefined ? title : `${title}, every ${formatInterval(intervalMs)}`,
    );
    this.#renderLeaves(reading);
    const value = reading?.hasValue ? leafAt(reading.value, this.#leaf) : undefined;
    setText(byId("inspector-value"), value === undefined ? "" : formatValue(value, reading.digits));
    byId("inspector-value").dataset.stopped = this.key !== null && !device.grants.covers(this.key);
    byId("inspector-value").dataset.long = value !== null && typeof value === "object";
    for (const each of device.readings.values()) this.#renderKey(device, each, connected);
    this.#renderActions(device, connected);
    this.#chart.dataChanged();
  }

  #keyTitle() {
    return this.#leaf === "" ? this.key : `${this.key}.${this.#leaf}`;
  }

  #series() {
    const reading = this.device?.readings.get(this.key);
    if (reading === undefined) return null;
    return {
      title: `${this.#keyTitle()} of ${this.device.deviceId}`,
      leaf: this.#leaf,
      samples: reading.samples,
      deniedSpans: reading.deniedSpans,
    };
  }

  #renderKey(device, reading, connected) {
    let row = this.#keyRows.get(reading.key);
    if (row === undefined) {
      row = this.#keyRow(device, reading.key);
      this.#keyRows.set(reading.key, row);
      byId("keys").append(row.node);
    }
    const readable = device.grants.covers(reading.key);
    row.node.dataset.readable = readable;
    row.node.dataset.hasValue = reading.hasValue;
    setAttribute(row.choose, "aria-pressed", String(reading.key === this.key));
    setText(row.value, reading.hasValue ? formatValue(reading.value, reading.digits) : "");
    const action = readable ? "Revoke" : "Grant";
    setText(row.toggle, action);
    row.toggle.dataset.action = action.toLowerCase();
    setAttribute(row.toggle, "aria-label", `${action} ${reading.key} of ${device.deviceId}`);
    setAttribute(row.toggle, "aria-disabled", String(device.pending || !connected));
  }

  #keyRow(device, key) {
    const value = element("span", { className: "key-value" });
    const choose = element(
      "button",
      { type: "button", className: "key-choose", onclick: () => this.#callbacks.onChoose(device, key) },
      element("span", { className: "key-name", textContent: key }),
      value,
    );
    const toggle = element("button", {
      type: "button",
      className: "button small-button",
      onclick: () => {
        if (device.grants.covers(key)) this.#callbacks.onRevoke(device, key);
        else this.#callbacks.onGrant(device, key);
      },
    });
    return { node: element("li", { data: { key } }, choose, toggle), choose, value, toggle };
  }

  #renderActions(device, connected) {
    const button = byId("device-access");
    const action = device.grants.allKeys ? "Revoke" : "Grant";
    setText(button, `${action} all keys`);
    button.dataset.action = action.toLowerCase();
    setAttribute(button, "aria-disabled", String(device.pending || !connected));
    byId("device-try").hidden = device.readable;
    setAttribute(byId("device-try"), "aria-disabled", String(device.pending || !connected));
    const refusal = byId("refusal");
    refusal.hidden = device.refusal === null;
    if (device.refusal) setText(refusal, `${device.refusal.status}: ${device.refusal.message}`);
  }

  /** Offers the members of an object, of which one at a time can be drawn. */
  #renderLeaves(reading) {
    const leaves = reading?.hasValue ? leavesOf(reading.value).map(({ path }) => path) : [];
    if (leaves.length === 0) this.#leaf = "";
    else if (!leaves.includes(this.#leaf)) this.#leaf = leaves[0];
    const shape = JSON.stringify([this.device.deviceId, this.key, leaves, this.#leaf]);
    if (shape === this.#leavesShown) return;
    this.#leavesShown = shape;
    byId("leaves").hidden = leaves.length === 0;
    byId("leaves").replaceChildren(
      ...leaves.map((leaf) =>
        segment(leaf, leaf === this.#leaf, () => {
          this.#leaf = leaf;
          this.#chart.redraw();
          this.render(this.#connected, Date.now());
        }),
      ),
    );
  }

  #windowButton(choice) {
    return segment(choice.label, false, () => this.#chooseWindow(choice));
  }

  #chooseWindow(choice) {
    for (const button of byId("windows").children) {
      setAttribute(button, "aria-pressed", String(button.textContent === choice.label));
    }
    this.#chart.windowMs = choice.ms;
    this.#chart.redraw();
  }
}

function segment(label, pressed, onclick) {
  return element("button", { type: "button", textContent: label, "aria-pressed": String(pressed), onclick });
}
