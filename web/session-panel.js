// The session: its figures, facts, grants and subscriptions.

import { byId, element, setText } from "./dom.js";
import { formatAge, formatCount, shortenId } from "./format.js";
import { OTHER_TYPES } from "./holdings.js";

export class SessionPanel {
  #grants = byId("grants");
  #shown = "";

  /** Writes the figures and facts. `status` is `{name, detail}` of the socket. */
  render(model, session, status, nowMs) {
    const { readable, grants, subscriptions } = model.totals();
    setText(byId("figure-rate"), model.rate(nowMs).toFixed(1));
    setText(byId("figure-updates"), formatCount(model.updates));
    setText(byId("figure-devices"), `${formatCount(readable)} of ${formatCount(model.devices.size)}`);
    setText(byId("figure-grants"), formatCount(grants));
    setText(byId("figure-subscriptions"), formatCount(subscriptions));
    setText(byId("figure-unexpected"), formatCount(model.unexpected));
    document.body.dataset.socket = status.name;
    document.body.dataset.updates = model.updates;
    document.body.dataset.unexpected = model.unexpected;

    setText(byId("socket-label"), LABELS[status.name]);
    setText(byId("session-id"), session.sessionId === null ? "none" : shortenId(session.sessionId));
    const open = session.connectedMs > 0;
    const since = open ? `Connected for ${formatAge(nowMs - session.connectedMs)}` : LABELS[status.name];
    setText(byId("session-socket"), open ? since.replace("for now", "just now") : status.detail || since);
    const { pingedMs } = session;
    setText(byId("session-ping"), pingedMs === 0 ? "none yet" : ageInWords(nowMs - pingedMs));
    this.#renderGrants(model);
  }

  #renderGrants(model) {
    const holders = [...model.devices.values()].filter(({ grants }) => grants.count > 0);
    const items = holders.map((device) => ({ device, chips: chipsOf(device) }));
    const shape = JSON.stringify(items.map(({ device, chips }) => [device.deviceId, chips]));
    if (shape === this.#shown) return;
    this.#shown = shape;
    this.#grants.replaceChildren(
      ...items.map(({ device, chips }) =>
        element(
          "li",
          {},
          element("span", { className: "grant-device", textContent: device.deviceId }),
          ...chips.map(({ label, subscribed }) =>
            element("span", { className: subscribed ? "chip subscribed" : "chip", textContent: label }),
          ),
        ),
      ),
    );
    if (items.length === 0) {
      this.#grants.append(element("li", { className: "quiet", textContent: "This session may read nothing." }));
    }
  }
}

const LABELS = { connecting: "Connecting", connected: "Connected", waiting: "Reconnecting" };

function ageInWords(ageMs) {
  const age = formatAge(ageMs);
  return age === "now" ? "just now" : `${age} ago`;
}

function chipsOf({ grants, subscriptions }) {
  const chips = [];
  if (grants.allKeys) chips.push({ label: "telemetry *", subscribed: subscriptions.allKeys });
  for (const key of grants.keys) chips.push({ label: key, subscribed: subscriptions.covers(key) });
  for (const type of OTHER_TYPES) {
    if (grants.holds(type)) chips.push({ label: type, subscribed: subscriptions.holds(type) });
  }
  return chips;
}
