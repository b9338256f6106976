// The twin of the chosen device: desired and reported properties, versions, tags, and a form for a further property.

import { announce, byId, element, holdsFocus, setText } from "./dom.js";
import { explain, saysNoHub } from "./explain.js";
import { showProblem } from "./field.js";
import { formatAge } from "./format.js";
import { GrantToggle } from "./grant-toggle.js";
import { readTyped, writeJson } from "./json.js";
import { problemOfPath, rowsOf } from "./twin.js";
import { TwinRow } from "./twin-row.js";

/** Callbacks: those of `GrantToggle`, `onReadTwin(device)`, `onSetDesired(device, path, json)`. */
export class TwinPanel {
  #callbacks;
  #toggles;
  #device = null;
  #revision = -1;
  #rows = new Map();
  #properties = [];
  #tagsShown = "";
  #left = 0;

  constructor(callbacks) {
    this.#callbacks = callbacks;
    this.#toggles = ["deviceTwin", "desiredProperties"].map((type) => new GrantToggle(type, callbacks));
    byId("twin-grants").append(...this.#toggles.map(({ node }) => node));
    byId("twin-again").onclick = () => callbacks.onReadTwin(this.#device);
    byId("twin-add").onsubmit = (event) => {
      event.preventDefault();
      this.#add();
    };
  }

  /** Brings the panel up to date; what the visitor types stays as it is. */
  render(device, connected, nowMs) {
    const changed = device !== this.#device;
    if (changed) this.#show(device);
    for (const toggle of this.#toggles) toggle.render(device, connected);
    const { twin } = device;
    const state = stateOf(device, connected);
    const { dataset } = byId("twin");
    dataset.state = state;
    dataset.device = device.deviceId;
    dataset.version = twin.value?.version ?? "";
    setText(byId("twin-subtitle"), subtitle(device, nowMs));
    this.#renderMessage(device, state);
    byId("twin-table").hidden = twin.value === null;
    byId("twin-tags-part").hidden = twin.value === null;
    if (twin.value === null) {
      this.#forgetRows();
      return;
    }
    this.#renderRows(twin, nowMs);
    this.#renderTags(twin.value.tags);
  }

  #show(device) {
    this.#device = device;
    this.#forgetRows();
    showProblem(byId("twin-add-value"), byId("twin-add-problem"), "");
  }

  #forgetRows() {
    this.#revision = -1;
    this.#rows.clear();
    byId("twin-rows").replaceChildren();
  }

  #renderMessage(device, state) {
    const { twin } = device;
    setText(byId("twin-message"), messageOf(device, state));
    const refusal = state === "locked" ? device.refusals.get("deviceTwin") : twin.problem;
    byId("twin-problem").hidden = !refusal || state === "unknown";
    setText(byId("twin-problem"), refusal ? explain(refusal) : "");
    byId("twin-state").hidden = state === "shown" && twin.problem === null;
    byId("twin-again").hidden = twin.problem === null;
    const write = device.refusals.get("desiredProperties");
    byId("twin-write-problem").hidden = write === undefined;
    setText(
      byId("twin-write-problem"),
      write === undefined ? "" : `desiredProperties was not granted, ${explain(write)}`,
    );
  }

  #renderRows(twin, nowMs) {
    if (twin.revision !== this.#revision) {
      const { rows, left } = rowsOf(twin.value.properties);
      this.#properties = rows;
      this.#left = left;
    }
    const first = this.#revision < 0;
    this.#revision = twin.revision;
    const { desired, reported } = twin.value.properties ?? {};
    setText(byId("twin-desired-version"), versionOf(desired));
    setText(byId("twin-reported-version"), versionOf(reported));
    const properties = withPending(this.#properties, twin.pending);
    const paths = new Set(properties.map(({ path }) => path));
    for (const [path, row] of this.#rows) {
      if (!paths.has(path) && !row.editing) this.#remove(path, row);
    }
    let previous = null;
    for (const property of properties) {
      const { path } = property;
      let row = this.#rows.get(path);
      if (row !== undefined && !row.editing && row.provisional !== property.provisional) {
        this.#remove(path, row);
        row = undefined;
      }
      const isNew = row === undefined;
      if (isNew) {
        row = new TwinRow(this.#device, property, this.#callbacks);
        this.#rows.set(path, row);
      }
      row.render(property, twin.pending.get(path), nowMs, first);
      // Only new rows are put in place: a row that is moved loses the focus.
      if (isNew) {
        if (previous === null) byId("twin-rows").prepend(row.node);
        else previous.after(row.node);
      }
      previous = row.node;
    }
    byId("twin-empty").hidden = properties.length > 0;
    byId("twin-left").hidden = this.#left === 0;
    setText(byId("twin-left"), `${this.#left} more properties are not shown.`);
  }

  #remove(path, row) {
    if (holdsFocus(row.node)) byId("twin-add-name").focus();
    row.node.remove();
    this.#rows.delete(path);
  }

  #renderTags(tags = {}) {
    const shown = JSON.stringify(Object.entries(tags).map(([name, value]) => [name, writeJson(value)]));
    if (shown === this.#tagsShown) return;
    this.#tagsShown = shown;
    const items = JSON.parse(shown).map(([name, json]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: json })),
    );
    byId("twin-tags").replaceChildren(...items);
    byId("twin-tags").hidden = items.length === 0;
    byId("twin-no-tags").hidden = items.length > 0;
  }

  async #add() {
    const form = byId("twin-add");
    const name = byId("twin-add-name");
    const value = byId("twin-add-value");
    const problem = byId("twin-add-problem");
    const path = name.value.trim();
    const json = value.value.trim();
    for (const input of [name, value]) showProblem(input, problem, "");
    const wrongPath = problemOfPath(path);
    const wrongValue = readTyped(json).problem ?? "";
    if (wrongPath !== "" || wrongValue !== "") {
      const wrong = wrongPath === "" ? value : name;
      showProblem(wrong, problem, wrongPath || wrongValue);
      wrong.focus();
      return;
    }
    if (form.dataset.sending === "true") return;
    form.dataset.sending = true;
    const device = this.#device;
    try {
      await this.#callbacks.onSetDesired(device, path, json);
      announce(`Desired ${path} of ${device.deviceId} set to ${json}`);
      name.value = "";
      value.value = "";
      if (!device.grants.holds("deviceTwin"))
        setText(problem, "Accepted. Without the grant deviceTwin this page does not see its effect.");
    } catch (error) {
      if (device === this.#device) showProblem(value, problem, explain(error));
    } finally {
      form.dataset.sending = false;
    }
  }
}

/**
 * `locked` (not granted), `waiting` (granted again with the next session), `loading`, `shown`, `unknown` (the relay
 * has none and no hub to ask) or `failed`.
 */
function stateOf({ grants, wanted, twin }, connected) {
  if (!grants.holds("deviceTwin")) return wanted.holds("deviceTwin") ? "waiting" : "locked";
  if (!connected) return "waiting";
  if (twin.value !== null) return "shown";
  if (twin.problem === null) return "loading";
  return twin.problem.status === 404 || saysNoHub(twin.problem) ? "unknown" : "failed";
}

function messageOf({ deviceId, twin }, state) {
  switch (state) {
    case "locked":
      return `This session may not see the twin of ${deviceId}.`;
    case "waiting":
      return "Waiting for a session.";
    case "loading":
      return "Reading the twin…";
    case "unknown":
      return saysNoHub(twin.problem)
        ? "No twin is known yet, and this relay has no IoT Hub connection to ask for it. The next change of the twin brings it."
        : `The IoT Hub knows no twin of ${deviceId}.`;
    case "failed":
      return "The twin could not be read.";
    default:
      return "";
  }
}

function subtitle({ deviceId, twin }, nowMs) {
  if (twin.value === null) return deviceId;
  const { version } = twin.value;
  const age = formatAge(nowMs - twin.changedMs);
  const parts = [deviceId];
  if (version !== undefined) parts.push(`version ${version}`);
  if (twin.changedMs > 0) parts.push(age === "now" ? "changed just now" : `changed ${age} ago`);
  return parts.join(" · ");
}

function versionOf(side) {
  return side?.$version === undefined ? "" : `version ${side.$version}`;
}

/** Properties that are accepted and in no twin yet come last, until a twin says where they belong. */
function withPending(properties, pending) {
  const known = new Set(properties.map(({ path }) => path));
  const added = [...pending.keys()].filter((path) => !known.has(path));
  return [...properties, ...added.map((path) => ({ path, name: path, depth: 0, comparison: "", provisional: true }))];
}
