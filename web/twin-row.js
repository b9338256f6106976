// One property of a twin: what is desired and what is reported side by side, and the editor of the desired value.
// The editor is opened and closed by the visitor alone; updates that arrive never touch what is typed.

import { announce, element, flash, holdsFocus, setAttribute, setText } from "./dom.js";
import { explain } from "./explain.js";
import { jsonInput, showProblem } from "./field.js";
import { readTyped, writeJson } from "./json.js";
import { GROUP } from "./twin.js";

/** An accepted change whose twin event takes longer than this is said to be late. */
const LATE_MS = 10_000;

const COMPARISONS = { same: "In sync", differs: "Differs", refused: "Refused", unreported: "Not reported" };

/** Callbacks: `onSetDesired(device, path, json)`, which throws a refusal. */
export class TwinRow {
  #device;
  #path;
  #callbacks;
  #desired = undefined;
  #reported = undefined;
  #value;
  #desiredCell;
  #reportedCell;
  #acknowledgement = element("small", { className: "acknowledgement" });
  #comparison = element("span", { className: "comparison" });
  #editor = null;
  #shown = new Map();
  /** Whether no twin has the property yet. */
  provisional;

  constructor(device, { path, name, depth, provisional }, callbacks) {
    this.provisional = provisional;
    this.#device = device;
    this.#path = path;
    this.#callbacks = callbacks;
    this.#value = element("button", { type: "button", className: "twin-value", onclick: () => this.#edit() });
    const reported = element("span", { className: "twin-value" });
    this.#desiredCell = cell("cell-desired", this.#value);
    this.#reportedCell = cell("cell-reported", reported, this.#acknowledgement);
    const heading = element("th", { scope: "row", role: "rowheader", className: "cell-property" }, name);
    heading.style.setProperty("--depth", depth);
    this.node = element(
      "tr",
      { role: "row", data: { path } },
      heading,
      this.#desiredCell,
      this.#reportedCell,
      cell("cell-comparison", this.#comparison),
    );
  }

  /** Whether the visitor is typing here; such a row stays even if its property is gone. */
  get editing() {
    return this.#editor !== null;
  }

  /** Brings the row up to date. `first`: there is nothing to compare with, so that nothing is marked as changed. */
  render({ desired, reported, acknowledgement, comparison }, pending, nowMs, first) {
    this.#desired = desired;
    this.#reported = reported;
    const { dataset } = this.node;
    const settled = dataset.pending === "true" && pending === undefined;
    dataset.comparison = comparison;
    dataset.pending = pending !== undefined;
    dataset.group = desired === GROUP ? "desired" : reported === GROUP ? "reported" : "";
    const wanted = pending === undefined ? textOf(desired, "{…}") : (pending.json ?? "");
    this.#show("desired", this.#desiredCell, this.#value, wanted, first || pending !== undefined);
    this.#show("reported", this.#reportedCell, this.#reportedCell.firstChild, textOf(reported, ""), first);
    setText(this.#acknowledgement, acknowledgement === undefined ? "" : acknowledgementText(acknowledgement));
    this.#value.dataset.empty = wanted === "" && pending === undefined;
    this.#value.hidden = this.editing || !this.#settable;
    if (wanted === "") setText(this.#value, pending === undefined ? "Set" : "Removing");
    if (settled) flash(this.#value);
    setAttribute(this.#value, "aria-label", this.#label(this.#value.textContent));
    setText(
      this.#comparison,
      pending === undefined ? (COMPARISONS[comparison] ?? "") : waiting(nowMs - pending.acceptedMs),
    );
  }

  /** An object that is only reported has members to be set instead. */
  get #settable() {
    return this.#desired !== undefined || this.#reported !== GROUP;
  }

  #label(shown) {
    return this.#value.dataset.empty === "true" ? `Set desired ${this.#path}` : `Edit desired ${this.#path}, ${shown}`;
  }

  #show(side, container, node, text, quietly) {
    const before = this.#shown.get(side);
    this.#shown.set(side, text);
    if (before === text) return;
    setText(node, text);
    setAttribute(node, "title", text);
    if (!quietly) {
      container.dataset.changes = Number(container.dataset.changes ?? 0) + 1;
      flash(node);
    }
  }

  #edit() {
    const given = this.#desired ?? this.#reported;
    this.#editor = new Editor({
      path: this.#path,
      text: given === undefined || given === GROUP ? "" : writeJson(given),
      hint: given === GROUP ? "members to merge in, as JSON" : "",
      removable: this.#desired !== undefined,
      onSubmit: (json) => this.#callbacks.onSetDesired(this.#device, this.#path, json),
      onClose: () => this.#close(),
    });
    this.#value.hidden = true;
    this.node.dataset.editing = true;
    this.#desiredCell.append(this.#editor.node);
    this.#editor.focus();
  }

  #close() {
    const focused = holdsFocus(this.#editor.node);
    this.#editor.node.remove();
    this.#editor = null;
    this.node.dataset.editing = false;
    this.#value.hidden = !this.#settable;
    if (focused) this.#value.focus();
  }
}

/** A form for one JSON value. It closes when the change was accepted or given up, and keeps what was typed otherwise. */
class Editor {
  #input;
  #problem;
  #onSubmit;
  #onClose;

  constructor({ path, text, hint, removable, onSubmit, onClose }) {
    this.#onSubmit = onSubmit;
    this.#onClose = onClose;
    const problemId = `twin-problem-${path}`;
    this.#input = jsonInput({
      value: text,
      placeholder: hint,
      "aria-label": `Desired ${path}, as JSON`,
      "aria-describedby": problemId,
    });
    this.#problem = element("p", { id: problemId, className: "field-problem", role: "alert" });
    const buttons = [
      element("button", { className: "button small-button", textContent: "Set", data: { action: "grant" } }),
    ];
    if (removable) buttons.push(this.#button("Remove", () => this.#send("null", `Removed ${path}`)));
    buttons.push(this.#button("Cancel", onClose));
    this.node = element(
      "form",
      {
        className: "twin-editor",
        noValidate: true,
        onsubmit: (event) => {
          event.preventDefault();
          this.#submit(path);
        },
        onkeydown: (event) => {
          if (event.key === "Escape") onClose();
        },
      },
      this.#input,
      element("span", { className: "form-buttons" }, ...buttons),
      this.#problem,
    );
  }

  focus() {
    this.#input.focus();
    this.#input.select();
  }

  #button(label, onclick) {
    return element("button", {
      type: "button",
      className: "button small-button quiet-button",
      textContent: label,
      onclick,
    });
  }

  #submit(path) {
    const { problem } = readTyped(this.#input.value);
    if (problem === undefined)
      this.#send(this.#input.value.trim(), `Desired ${path} set to ${this.#input.value.trim()}`);
    else showProblem(this.#input, this.#problem, problem);
  }

  async #send(json, done) {
    if (this.node.dataset.sending === "true") return;
    this.node.dataset.sending = true;
    showProblem(this.#input, this.#problem, "");
    try {
      await this.#onSubmit(json);
      announce(done);
      if (this.node.isConnected) this.#onClose();
    } catch (error) {
      showProblem(this.#input, this.#problem, explain(error));
    } finally {
      this.node.dataset.sending = false;
    }
  }
}

function textOf(side, group) {
  if (side === GROUP) return group;
  return side === undefined ? "" : writeJson(side);
}

/** Code, the desired version that it is for, and what the device says to it. */
function acknowledgementText({ ac, av, ad }) {
  return [`${ac} for version ${av}`, ad].filter((part) => part !== undefined && part !== "").join(", ");
}

function waiting(elapsedMs) {
  return elapsedMs < LATE_MS ? "Waiting for the twin event" : "Accepted, no twin event yet";
}

function cell(className, ...children) {
  return element("td", { role: "cell", className }, ...children);
}
