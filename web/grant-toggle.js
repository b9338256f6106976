// A grant of one type with its button, as it stands in the head of a panel.

import { element, setAttribute, setText } from "./dom.js";

export class GrantToggle {
  #type;
  #device = null;
  #chip;
  #button;

  /** Callbacks: `onGrantType(device, type)`, `onRevokeType(device, type)`. */
  constructor(type, callbacks) {
    this.#type = type;
    this.#chip = element("span", { className: "chip", textContent: type });
    this.#button = element("button", {
      type: "button",
      className: "button small-button",
      onclick: () => {
        if (this.#device.grants.holds(type)) callbacks.onRevokeType(this.#device, type);
        else callbacks.onGrantType(this.#device, type);
      },
    });
    this.node = element("span", { className: "grant-toggle", data: { type } }, this.#chip, this.#button);
  }

  render(device, connected) {
    this.#device = device;
    const granted = device.grants.holds(this.#type);
    const action = granted ? "Revoke" : "Grant";
    this.node.dataset.granted = granted;
    this.#chip.classList.toggle("subscribed", granted);
    setText(this.#button, action);
    this.#button.dataset.action = action.toLowerCase();
    setAttribute(this.#button, "aria-label", `${action} ${this.#type} of ${device.deviceId}`);
    setAttribute(this.#button, "aria-disabled", String(device.pending || !connected));
  }
}
