// Drives what the live page of `hubrelay demo` does with one device beside its telemetry: its twin, its desired
// properties, its methods, and the grants that each of them needs.
//
//   node page_device.mjs <url> <output directory>

import { join } from "node:path";

import { visitPage } from "./page_visit.mjs";

/** The slow method of the simulated devices takes at least this long. */
const CALIBRATION_MS_MIN = 3000;

await visitPage(async ({ page, newPage, url, outputDirectory }) => {
  await page.goto(url);
  await page.waitForSelector('body[data-socket="connected"]');
  await checkRows(page);
  // The first of the simulated devices is always online.
  const device = await page.locator("#device-rows tr").first().getAttribute("data-device");
  const seen = await seeTheTwin(page, device);
  const changed = await changeTheInterval(page, device);
  const typed = await typeWhileTheTwinChanges(page, await newPage(), url, device);
  const methods = await callMethods(page);
  const failures = await explainFailures(page);
  await page.screenshot({ path: join(outputDirectory, "page-device.png"), fullPage: true });
  const refusals = await giveUpGrants(page, device);
  const unexpected = Number(await page.getAttribute("body", "data-unexpected"));
  if (unexpected !== 0) throw new Error(`${unexpected} updates arrived without a grant`);
  return { seen, changed, typed, methods, failures, refusals, unexpected };
});

/** Chooses a granted device and waits for its twin. */
async function seeTheTwin(page, device) {
  await page.click(`tr[data-device="${device}"] .device-name`);
  await page.waitForSelector(`#twin[data-device="${device}"][data-state="shown"]`);
  await page.waitForSelector(`${property("telemetryInterval")} .cell-reported .twin-value:not(:empty)`);
  const properties = await page.locator("#twin-rows tr").evaluateAll((rows) => rows.map((row) => row.dataset.path));
  return { device, version: await versionOf(page), properties };
}

/** Edits `telemetryInterval` in place: what is no JSON is not sent, what is comes back from the device. */
async function changeTheInterval(page, device) {
  const row = property("telemetryInterval");
  const version = await versionOf(page);
  const sent = countCalls(page, "PATCH", "/deviceTwinDesiredProperties");
  await page.click(`${row} button.twin-value`);
  const input = `${row} .twin-editor input`;
  await page.fill(input, "soon");
  await page.press(input, "Enter");
  await page.waitForSelector(`${row} .twin-editor .field-problem:text("double quotes")`);
  if (sent.count !== 0) throw new Error("a text that is not JSON was sent");

  const interval = "1000";
  await page.fill(input, interval);
  await page.press(input, "Enter");
  await page.waitForSelector(`${row}[data-pending="false"] .cell-desired .twin-value:text-is("${interval}")`);
  await page.waitForSelector(`${row}[data-comparison="same"] .cell-reported .twin-value:text-is("${interval}")`);
  if (sent.count !== 1) throw new Error(`${sent.count} changes were sent for one`);
  const focused = await page.evaluate(() => document.activeElement.closest("tr")?.dataset.path);
  if (focused !== "telemetryInterval") throw new Error(`the focus went to ${focused}`);
  // And it is what the device does: it comes to send every second, give or take what a busy machine does to timers.
  const sending = await page.waitForFunction(() => {
    const intervalMs = Number(document.querySelector("#inspector").dataset.intervalMs);
    return intervalMs > 800 && intervalMs < 1400 && intervalMs;
  });
  const intervalMs = await sending.jsonValue();
  const after = await versionOf(page);
  if (after <= version) throw new Error(`the twin went from version ${version} to ${after}`);
  return { device, interval, intervalMs, versions: [version, after] };
}

/** Another visitor adds a property and removes it; the first sees both, and keeps what it is typing meanwhile. */
async function typeWhileTheTwinChanges(page, other, url, device) {
  await other.goto(url);
  await other.waitForSelector('body[data-socket="connected"]');
  await seeTheTwin(other, device);

  const row = property("telemetryInterval");
  await page.click(`${row} button.twin-value`);
  await page.fill(`${row} .twin-editor input`, "12");
  await other.fill("#twin-add-name", "shift.leader");
  await other.fill("#twin-add-value", '{"name": "Ada"}');
  await other.press("#twin-add-value", "Enter");
  const added = property("shift.leader.name");
  for (const each of [other, page]) {
    await each.waitForSelector(`${added}[data-comparison="unreported"] .cell-desired .twin-value:text-is('"Ada"')`);
  }
  await page.keyboard.type("34");
  const typed = await page.inputValue(`${row} .twin-editor input`);
  if (typed !== "1234") throw new Error(`1234 was typed, and ${typed} is there`);
  await page.keyboard.press("Escape");
  await page.waitForSelector(`${row} button.twin-value:focus`);

  // Without its last member an object stays; then that is removed as well.
  for (const path of ["shift.leader.name", "shift"]) {
    await page.click(`${property(path)} button.twin-value`);
    await page.click(`${property(path)} .twin-editor button:text-is("Remove")`);
    for (const each of [page, other]) await each.waitForSelector(property(path), { state: "detached" });
  }
  return { device, typed };
}

/** Methods of the simulated devices: one that answers, one that fails, one that takes its time, one that is not there. */
async function callMethods(page) {
  const echo = await callMethod(page, "echo", '{"digits": 12345678901234567890}');
  if (echo.status !== "200" || !echo.result.includes("12345678901234567890"))
    throw new Error(`echo: ${JSON.stringify(echo)}`);
  const selfTest = await callMethod(page, "selfTest", "");
  if (selfTest.status !== "500" || selfTest.tone !== "refused")
    throw new Error(`selfTest: ${JSON.stringify(selfTest)}`);

  await call(page, "calibrate", "");
  const running = '#method-calls li[data-name="calibrate"][data-state="running"]';
  await page.waitForFunction(
    (running) => Number.parseFloat(document.querySelector(`${running} .call-duration`)?.textContent) >= 0.5,
    running,
  );
  const calibrate = await outcome(page, "calibrate");
  if (calibrate.status !== "200" || calibrate.durationMs < CALIBRATION_MS_MIN) {
    throw new Error(`calibrate: ${JSON.stringify(calibrate)}`);
  }
  const unknown = await callMethod(page, "levitate", "");
  if (unknown.status !== "404") throw new Error(`levitate: ${JSON.stringify(unknown)}`);
  return { echo, selfTest, calibrate, unknown };
}

/** Each grant taken away: what it allowed is refused by the relay, and the page says so. Then all are given back. */
async function giveUpGrants(page, device) {
  await toggle(page, "directMethod", "revoke");
  const call = await callMethod(page, "echo", "");
  if (call.state !== "refused" || call.status !== "403") throw new Error(`without a grant: ${JSON.stringify(call)}`);

  await toggle(page, "desiredProperties", "revoke");
  const row = property("telemetryInterval");
  await page.click(`${row} button.twin-value`);
  await page.fill(`${row} .twin-editor input`, "500");
  await page.press(`${row} .twin-editor input`, "Enter");
  const problem = await page.textContent(`${row} .twin-editor .field-problem:text("403")`);
  await page.press(`${row} .twin-editor input`, "Escape");

  await toggle(page, "deviceTwin", "revoke");
  await page.waitForSelector('#twin[data-state="locked"] #twin-problem:text("403")');
  if (await page.isVisible("#twin-table")) throw new Error("the twin is shown without a grant");
  const locked = await page.textContent("#twin-message");

  for (const type of ["directMethod", "desiredProperties", "deviceTwin"]) await toggle(page, type, "grant");
  await page.waitForSelector(`#twin[data-device="${device}"][data-state="shown"]`);
  await callMethod(page, "echo", "");
  return { device, call: call.result, problem, locked };
}

/** Answers that a healthy demo does not give are put in the relay's place, to see them explained. */
async function explainFailures(page) {
  const row = property("telemetryInterval");
  const patch = "**/deviceTwinDesiredProperties";
  const shown = [];
  await page.click(`${row} button.twin-value`);
  for (const [answer, expected] of [
    [
      { status: 429, headers: { "retry-after": "7" }, body: "Too many calls" },
      "429: too many calls, try again in 7 s.",
    ],
    [
      { status: 404, body: '{"Message":"{\\"errorCode\\":404103,\\"message\\":\\"away\\"}"}' },
      "404: the device is not connected. (away)",
    ],
    [{ status: 404, body: '{"Message":"ErrorCode:DeviceNotFound;d1"}' }, "404: the IoT Hub knows no such device. (d1)"],
    [{ status: 500, body: "IoTHub Response: error" }, "500: the IoT Hub could not be reached, or failed."],
    [
      { status: 400, body: "IoT Hub API disabled, cannot invoke direct method" },
      "400: this relay has no IoT Hub connection",
    ],
  ]) {
    await page.route(patch, (route) => route.fulfill(answer));
    await page.press(`${row} .twin-editor input`, "Enter");
    shown.push(await page.textContent(`${row} .twin-editor .field-problem:text("${expected}")`));
    await page.unroute(patch);
  }
  await page.press(`${row} .twin-editor input`, "Escape");
  return shown;
}

/** The rows made of a twin, by the page's own module: nesting, differences, acknowledgements, the hub's members. */
async function checkRows(page) {
  const rows = await page.evaluate(async () => {
    const { GROUP, rowsOf } = await import("/assets/twin.js");
    const { rows } = rowsOf({
      desired: { $version: 3, interval: 5, limits: { high: 9, low: 1 }, mode: "on", speed: 2 },
      reported: {
        $metadata: {},
        interval: { value: 5, ac: 200, av: 3 },
        limits: { low: 1, high: 8 },
        name: "n",
        speed: { value: 1, ac: 400, av: 3 },
      },
    });
    const side = (value) => (value === GROUP ? "{}" : value);
    return rows.map(({ path, depth, desired, reported, comparison }) =>
      [path, depth, side(desired) ?? "", side(reported) ?? "", comparison].join(" "),
    );
  });
  const expected = [
    "interval 0 5 5 same",
    "limits 0 {} {} ",
    "limits.high 1 9 8 differs",
    "limits.low 1 1 1 same",
    "mode 0 on  unreported",
    "name 0  n ",
    "speed 0 2 1 refused",
  ];
  if (JSON.stringify(rows) !== JSON.stringify(expected)) throw new Error(`rows: ${JSON.stringify(rows)}`);
}

function property(path) {
  return `#twin-rows tr[data-path="${path}"]`;
}

async function versionOf(page) {
  return Number(await page.getAttribute("#twin", "data-version"));
}

async function toggle(page, type, action) {
  const button = `.grant-toggle[data-type="${type}"] .button`;
  await page.click(`${button}[data-action="${action}"][aria-disabled="false"]`);
  const other = action === "grant" ? "revoke" : "grant";
  await page.waitForSelector(`${button}[data-action="${other}"][aria-disabled="false"]`);
}

async function call(page, name, payload) {
  await page.fill("#method-name", name);
  await page.fill("#method-payload", payload);
  const newest = () => document.querySelector("#method-calls li")?.dataset.call ?? "";
  const before = await page.evaluate(newest);
  await page.click("#method-call");
  await page.waitForFunction(
    (before) => (document.querySelector("#method-calls li")?.dataset.call ?? "") !== before,
    before,
  );
}

async function callMethod(page, name, payload) {
  await call(page, name, payload);
  return outcome(page, name);
}

/** How the newest call ended. */
async function outcome(page, name) {
  const entry = page.locator(`#method-calls li:first-child[data-name="${name}"]:not([data-state="running"])`);
  await entry.locator(".call-result").waitFor();
  const { state, status, tone, durationMs } = await entry.evaluate(({ dataset }) => ({ ...dataset }));
  const duration = await entry.locator(".call-duration").textContent();
  const result = await entry.locator(".call-result").textContent();
  return { state, status, tone, durationMs: Number(durationMs), duration, result };
}

function countCalls(page, method, path) {
  const counter = { count: 0 };
  page.on("request", (request) => {
    if (request.method() === method && new URL(request.url()).pathname === path) counter.count += 1;
  });
  return counter;
}
