// The table of devices: one row each, with the last values of its first keys, its state, age and access.

import { element, highlight, setAttribute, setText } from "./dom.js";
import { formatAge, formatShort, formatValue } from "./format.js";

/** Values shown in a row; the inspector shows the others. */
const TILES_MAX = 4;
/** A value that changes all the time is highlighted at most this often. */
const HIGHLIGHT_EVERY_MS = 900;

/** Callbacks: `onChoose(device, key?)`, and `onGrantDevice(device)` and `onRevokeDevice(device)` for all of it. */
export class DeviceTable {
  #body;
  #callbacks;
  #rows = new Map();

  constructor(body, callbacks) {
    this.#body = body;
    this.#callbacks = callbacks;
  }

  /** Brings the row of one device up to date. `waiting`: its grants return with the next session. */
  render(device, { nowMs, chosen, chosenKey, waiting, connected }) {
    let row = this.#rows.get(device.deviceId);
    if (row === undefined) {
      row = new Row(device, this.#callbacks);
      this.#rows.set(device.deviceId, row);
      this.#body.append(row.node);
    }
    row.render(device, { nowMs, chosen, chosenKey, waiting, connected });
  }
}

class Row {
  #name;
  #kind = element("small");
  #state = element("span", { className: "state" });
  #tileList = element("div", { className: "tiles" });
  #more = element("button", { type: "button", className: "more", hidden: true });
  #age = element("span", { className: "age" });
  #note = element("small", { className: "access-note" });
  #button = element("button", { type: "button", className: "button" });
  #tiles = new Map();
  #callbacks;

  constructor(device, callbacks) {
    this.#callbacks = callbacks;
    this.#name = element("button", {
      type: "button",
      className: "device-name",
      textContent: device.deviceId,
      onclick: () => callbacks.onChoose(device),
    });
    this.#kind.textContent = device.kind;
    this.#more.onclick = () => callbacks.onChoose(device);
    this.#button.onclick = () => {
      if (device.grants.allKeys) callbacks.onRevokeDevice(device);
      else callbacks.onGrantDevice(device);
    };
    this.#tileList.append(this.#more);
    this.node = element(
      "tr",
      { role: "row", data: { device: device.deviceId } },
      cell("cell-name", this.#name, this.#kind),
      cell("cell-state", this.#state),
      cell("cell-values", this.#tileList),
      cell("cell-age", this.#age),
      cell("cell-access", this.#note, this.#button),
    );
  }

  render(device, { nowMs, chosen, chosenKey, waiting, connected }) {
    const access = waiting ? "waiting" : device.access;
    const { dataset } = this.node;
    dataset.access = access;
    dataset.updates = device.updates;
    dataset.refused = device.refusal?.status ?? "";
    dataset.pending = device.pending;
    if (chosen) setAttribute(this.node, "aria-current", "true");
    else this.node.removeAttribute("aria-current");

    const state = stateOf(device);
    this.#state.dataset.state = state;
    setText(this.#state, STATE_LABELS[state]);
    setText(this.#age, device.updatedMs === 0 ? "–" : formatAge(nowMs - device.updatedMs));
    setText(this.#note, accessNote(device, access));
    this.#note.dataset.tone = device.refusal ? "refused" : "";

    const action = (waiting ? device.wanted : device.grants).allKeys ? "Revoke" : "Grant";
    setText(this.#button, action);
    setAttribute(this.#button, "aria-label", `${action} everything of ${device.deviceId}`);
    this.#button.dataset.action = action.toLowerCase();
    // Not `disabled`: a focused button would lose the focus while its own call is under way.
    setAttribute(this.#button, "aria-disabled", String(device.pending || !connected));
    this.#renderTiles(waiting ? device.wanted : device.grants, device, chosen ? chosenKey : null, nowMs);
  }

  #renderTiles(holdings, device, chosenKey, nowMs) {
    const readings = [...device.readings.values()];
    for (const reading of readings.slice(0, TILES_MAX)) {
      let tile = this.#tiles.get(reading.key);
      if (tile === undefined) {
        tile = new Tile(device, reading.key, this.#callbacks);
        this.#tiles.set(reading.key, tile);
        this.#more.before(tile.node);
      }
      tile.render(reading, holdings.covers(reading.key), reading.key === chosenKey, nowMs);
    }
    const hidden = readings.length - TILES_MAX;
    this.#more.hidden = hidden <= 0;
    if (hidden > 0) {
      setText(this.#more, `+${hidden}`);
      setAttribute(this.#more, "aria-label", `${hidden} more keys of ${device.deviceId}`);
    }
  }
}

class Tile {
  #value = element("span", { className: "tile-value" });
  #changes = 0;
  #highlightedMs = 0;

  constructor(device, key, callbacks) {
    this.node = element(
      "button",
      { type: "button", className: "tile", data: { key }, onclick: () => callbacks.onChoose(device, key) },
      element("span", { className: "tile-key", textContent: key }),
      this.#value,
    );
  }

  render(reading, readable, chosen, nowMs) {
    const { dataset } = this.node;
    dataset.readable = readable;
    dataset.stopped = !readable && reading.hasValue;
    dataset.changes = reading.changes;
    setAttribute(this.node, "aria-pressed", String(chosen));
    if (setText(this.#value, reading.hasValue ? formatShort(reading.value, reading.digits) : "")) {
      setAttribute(this.#value, "title", formatValue(reading.value));
    }
    this.#value.dataset.type = reading.hasValue ? typeOf(reading.value) : "none";
    if (!reading.hasValue) setAttribute(this.node, "aria-label", `${reading.key}, no grant`);
    else this.node.removeAttribute("aria-label");
    if (reading.changes !== this.#changes) {
      this.#changes = reading.changes;
      if (nowMs - this.#highlightedMs >= HIGHLIGHT_EVERY_MS) {
        this.#highlightedMs = nowMs;
        highlight(this.#value);
      }
    }
  }
}

const STATE_LABELS = { online: "Online", offline: "Offline", unknown: "Unknown", hidden: "Hidden" };

function stateOf(device) {
  if (device.connected === true) return "online";
  if (device.connected === false) return "offline";
  return device.grants.holds("connectionState") ? "unknown" : "hidden";
}

function accessNote(device, access) {
  if (device.pending) return "Asking…";
  switch (access) {
    case "waiting":
      return "Waiting";
    case "granted":
      return "All keys";
    case "partial":
      return `${device.grants.keys.size} of ${device.readings.size} keys`;
    default:
      break;
  }
  if (device.refusal) return `Refused ${device.refusal.status}`;
  return access === "revoked" ? "Revoked" : "No grant";
}

function typeOf(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "object" : typeof value;
}

function cell(className, ...children) {
  return element("td", { role: "cell", className }, ...children);
}
