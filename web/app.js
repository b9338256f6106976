// Puts the page together: one model, one session that drives it, and views that render it.

import { RelayApi } from "./api.js";
import { DeviceCalls } from "./device-calls.js";
import { DeviceTable } from "./device-table.js";
import { announce, byId } from "./dom.js";
import { formatCount } from "./format.js";
import { explain } from "./explain.js";
import { Gate } from "./gate.js";
import { everything, telemetry } from "./holdings.js";
import { Inspector } from "./inspector.js";
import { MethodPanel } from "./method-panel.js";
import { Model } from "./model.js";
import { ProtocolLog } from "./protocol-log.js";
import { RelaySession } from "./session.js";
import { SessionPanel } from "./session-panel.js";
import { watchThemeButton } from "./theme-button.js";
import { TwinPanel } from "./twin-panel.js";

/** Devices shown; a demo with more says so. */
const DEVICES_MAX = 48;
/** Share of the devices granted when the page opens. */
const GRANTED_SHARE = 2 / 3;
/** Text is rewritten at most this often, however many updates arrive. */
const RENDER_EVERY_MS = 125;
/** Ages and rates are rewritten this often without any update. */
const TICK_MS = 1000;
/** Devices gain keys while the page is open; until each has one, they are asked for more often. */
const DEVICES_EVERY_MS = 10_000;
const DEVICES_EVERY_MS_AT_FIRST = 2000;

const model = new Model();
const log = new ProtocolLog(byId("protocol"));
const api = new RelayApi(log);
const session = new RelaySession({
  api,
  model,
  log,
  callbacks: {
    onChange: () => {
      gate.draw();
      renderSoon();
    },
    onUpdate: (device) => {
      gate.pulse(device);
      renderSoon();
    },
    onStatus: (name, detail = "") => {
      status = { name, detail };
      announce(name === "connected" ? "Connected" : detail);
      gate.draw();
      renderSoon();
    },
  },
});

const actions = {
  onChoose: (device, key) => {
    inspector.choose(device, key);
    inspector.reveal();
    renderSoon();
  },
  onGrant: (device, key) => grant(device, openedBy(key), key ?? "all keys"),
  onRevoke: (device, key) => revoke(device, [telemetry(key)], key ?? "all keys"),
  onGrantDevice: (device) => grant(device, everything(), "everything"),
  onRevokeDevice: (device) => revoke(device, device.grants.list(), "everything"),
  onGrantType: (device, type) => grant(device, [{ type }], type),
  onRevokeType: (device, type) => revoke(device, [{ type }], type),
  onTry: async (device) => {
    await session.tryWithoutGrant(device);
    if (device.refusal) announce(`Refused: ${device.refusal.message}`);
  },
  onReadTwin: (device) => {
    device.twin.read = false;
    return session.readTwin(device);
  },
  onSetDesired: (device, path, json) => deviceCalls.setDesired(device, path, json),
  onCallMethod: async (device, request) => {
    const { name, state, status, durationMs, problem } = await deviceCalls.callMethod(device, request);
    if (state === "answered") announce(`${name} answered ${status} after ${Math.round(durationMs)} ms`);
    else announce(`${name} failed, ${explain(problem)}`);
  },
};

const deviceCalls = new DeviceCalls({ api, session, onChange: () => renderSoon() });
const gate = new Gate(byId("gate"));
const table = new DeviceTable(byId("device-rows"), actions);
const inspector = new Inspector(actions);
const twinPanel = new TwinPanel(actions);
const methodPanel = new MethodPanel(actions);
const panel = new SessionPanel();
let status = { name: "connecting", detail: "" };
let renderTimer = 0;

byId("drop").onclick = () => session.drop();
watchThemeButton(byId("theme"), () => gate.draw());
await start();

async function grant(device, rights, what) {
  if (await session.grant(device, rights)) announce(`Granted ${what} of ${device.deviceId}`);
}

async function revoke(device, rights, what) {
  if (await session.revoke(device, rights)) announce(`Revoked ${what} of ${device.deviceId}`);
}

/** What a grant for one key, or for all of them, is asked for together with. */
function openedBy(key) {
  return key === null ? [telemetry(null), { type: "connectionState" }] : [telemetry(key)];
}

async function start() {
  await learnDevices();
  const devices = [...model.devices.values()];
  const granted = devices.slice(0, Math.ceil(devices.length * GRANTED_SHARE));
  for (const { wanted } of granted) everything().forEach((right) => wanted.add(right));
  if (devices.length > 0) inspector.choose(devices[0]);
  setInterval(renderSoon, TICK_MS);
  await session.connect();
}

/** Asks for the devices, now and again later. A failure leaves the page as it is. */
async function learnDevices() {
  try {
    showDevices(await api.devices());
  } catch {
    // The socket's state already tells that the relay is away.
  }
  const allKnown = model.devices.size > 0 && [...model.devices.values()].every(({ readings }) => readings.size > 0);
  setTimeout(learnDevices, allKnown ? DEVICES_EVERY_MS : DEVICES_EVERY_MS_AT_FIRST);
}

function showDevices({ deviceCount, devices }) {
  const shown = devices.slice(0, DEVICES_MAX);
  for (const { deviceId, kind, telemetryKeys } of shown) {
    const device = model.device(deviceId, kind);
    for (const key of telemetryKeys) device.reading(key);
  }
  const count = formatCount(deviceCount);
  const all = shown.length === deviceCount;
  byId("devices-count").textContent = all ? `${count} sending` : `${shown.length} of ${count} shown`;
  byId("gate-devices").textContent = `${count} devices`;
  gate.show([...model.devices.values()]);
  renderSoon();
}

function renderSoon() {
  renderTimer ||= setTimeout(() => {
    renderTimer = 0;
    render();
  }, RENDER_EVERY_MS);
}

function render() {
  const nowMs = Date.now();
  const connected = session.connectedMs > 0;
  for (const device of model.devices.values()) {
    table.render(device, {
      nowMs,
      chosen: device === inspector.device,
      chosenKey: inspector.key,
      waiting: !device.readable && device.wanted.count > 0 && !device.pending,
      connected,
    });
  }
  inspector.render(connected, nowMs);
  if (inspector.device !== null) {
    session.readTwin(inspector.device);
    twinPanel.render(inspector.device, connected, nowMs);
    methodPanel.render(inspector.device, connected);
  }
  panel.render(model, session, status, nowMs);
}
