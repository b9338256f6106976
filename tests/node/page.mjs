// Opens the live page of `hubrelay demo` in headless Chromium and checks what it is there to show:
// values move, a grant brings values at once, a revocation stops them, and a lost connection heals.
//
//   node page.mjs <url> <output directory>

import { join } from "node:path";

import { visitPage } from "./page_visit.mjs";

/** Updates that other devices must send while a revoked one stays silent. */
const OTHER_UPDATES = 40;
/** And the least time it is watched for; each simulated device sends at least every five seconds. */
const SILENCE_MS = 6000;

await visitPage(async ({ page, url, outputDirectory }) => {
  const results = await check(page, url, outputDirectory);
  await screenshots(page, outputDirectory);
  return results;
});

async function check(page, url, outputDirectory) {
  await page.goto(url);
  await page.waitForSelector('body[data-socket="connected"]');

  const moving = await seeAValueMove(page);
  const granted = await grantALockedDevice(page);
  const refused = await tryALockedDevice(page);
  const revoked = await revokeIt(page, granted.device, outputDirectory);
  const key = await revokeAndGrantOneKey(page, moving.device);
  const reconnected = await loseTheConnection(page);
  const unexpected = Number(await page.getAttribute("body", "data-unexpected"));
  if (unexpected !== 0) throw new Error(`${unexpected} updates arrived without a grant`);
  return { moving, granted, refused, revoked, key, reconnected, unexpected };
}

/** Two different values in one cell, without a click. */
async function seeAValueMove(page) {
  const shown = await page.waitForSelector('tr[data-access="granted"] .tile:has(.tile-value:not(:empty))');
  const [device, key] = await shown.evaluate((tile) => [tile.closest("tr").dataset.device, tile.dataset.key]);
  const value = `tr[data-device="${device}"] [data-key="${key}"] .tile-value`;
  const text = () => page.textContent(value);
  const first = await text();
  await page.waitForFunction(([value, first]) => document.querySelector(value).textContent !== first, [value, first]);
  return { device, key, values: [first, await text()] };
}

/** The Grant button of a locked row: last values at once, then live ones. */
async function grantALockedDevice(page) {
  await page.waitForSelector('tr[data-access="locked"] [data-key]');
  const row = page.locator('tr[data-access="locked"]', { has: page.locator("[data-key]") }).first();
  const device = await row.getAttribute("data-device");
  const before = await updatesOf(page, device);
  if (before !== 0) throw new Error(`${device} had ${before} updates before it was granted`);
  if ((await row.locator(".tile-value:not(:empty)").count()) > 0) {
    throw new Error(`${device} showed a value before it was granted`);
  }
  await clickAccess(page, device, "grant");
  await page.waitForSelector(`tr[data-device="${device}"][data-access="granted"] .tile-value:not(:empty)`);
  const value = await page.textContent(`tr[data-device="${device}"] .tile-value`);
  await waitForUpdates(page, device, 2);
  return { device, value, updates: await updatesOf(page, device) };
}

/** Reading and subscribing without a grant are both refused, and shown so. */
async function tryALockedDevice(page) {
  const row = page.locator('tr[data-access="locked"]').first();
  const device = await row.getAttribute("data-device");
  await row.locator(".device-name").click();
  await page.click("#device-try");
  await page.waitForSelector(`tr[data-device="${device}"][data-refused="403"]`);
  const line = '#protocol li[data-status="403"]';
  await page.waitForFunction((line) => document.querySelectorAll(line).length >= 2, line);
  return { device, refusals: await page.locator(`${line} .line-note`).allTextContents() };
}

/** The Revoke button: a refusal is shown, and nothing more arrives while others go on. */
async function revokeIt(page, device, outputDirectory) {
  await clickAccess(page, device, "revoke");
  await page.waitForSelector(`tr[data-device="${device}"][data-access="revoked"][data-refused="403"]`);
  const before = await updatesOf(page, device);
  const total = Number(await page.getAttribute("body", "data-updates"));
  const startedAt = Date.now();
  await page.waitForFunction((enough) => Number(document.body.dataset.updates) >= enough, total + OTHER_UPDATES);
  await page.waitForTimeout(Math.max(0, SILENCE_MS - (Date.now() - startedAt)));
  const after = await updatesOf(page, device);
  if (after !== before) throw new Error(`${device} got ${after - before} updates after it was revoked`);
  await page.screenshot({ path: join(outputDirectory, "page-revoked.png"), fullPage: true });
  const others = Number(await page.getAttribute("body", "data-updates")) - total;
  return { device, updatesAfter: after - before, updatesOfOthers: others };
}

/** One key of a granted device taken away and given back; its other keys go on. */
async function revokeAndGrantOneKey(page, device) {
  await page.click(`tr[data-device="${device}"] .device-name`);
  const toggle = (key) => page.locator(`#keys [data-key="${key}"] .small-button`);
  const key = await page.locator("#keys li").first().getAttribute("data-key");
  await toggle(key).click();
  await page.waitForSelector(
    `tr[data-device="${device}"][data-access="partial"] [data-key="${key}"][data-stopped="true"]`,
  );
  const changes = () => page.getAttribute(`tr[data-device="${device}"] [data-key="${key}"]`, "data-changes");
  const before = await changes();
  const updates = await updatesOf(page, device);
  await waitForUpdates(page, device, updates + 4);
  if ((await changes()) !== before) throw new Error(`${key} of ${device} changed after it was revoked`);
  await toggle(key).click();
  await page.waitForFunction(
    ([device, key, before]) =>
      Number(document.querySelector(`tr[data-device="${device}"] [data-key="${key}"]`).dataset.changes) >
      Number(before),
    [device, key, before],
  );
  return { device, key };
}

/** A dropped connection: a new session, the same grants, values again. */
async function loseTheConnection(page) {
  const granted = '#device-rows tr:is([data-access="granted"], [data-access="partial"])';
  const before = await page.locator(granted).count();
  const session = await page.textContent("#session-id");
  await page.click("#drop");
  await page.waitForSelector('body[data-socket="waiting"]');
  await page.waitForSelector('body[data-socket="connected"]');
  await page.waitForFunction(
    ([granted, before]) => document.querySelectorAll(granted).length === before,
    [granted, before],
  );
  const updates = Number(await page.getAttribute("body", "data-updates"));
  await page.waitForFunction((enough) => Number(document.body.dataset.updates) >= enough, updates + 10);
  if ((await page.textContent("#session-id")) === session) throw new Error("the session was not replaced");
  return { devices: before };
}

async function screenshots(page, outputDirectory) {
  await page.locator("#device-rows .device-name").first().click();
  for (const width of [1440, 360]) {
    for (const colorScheme of ["light", "dark"]) {
      await page.setViewportSize({ width, height: width === 360 ? 780 : 900 });
      await page.emulateMedia({ colorScheme });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      if (overflow > 0) throw new Error(`the page is ${overflow} px wider than ${width} px`);
      await page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
      await page.screenshot({ path: join(outputDirectory, `page-${width}-${colorScheme}.png`), fullPage: true });
    }
  }
}

async function clickAccess(page, device, action) {
  await page.click(`tr[data-device="${device}"] .button[data-action="${action}"][aria-disabled="false"]`);
}

async function updatesOf(page, device) {
  return Number(await page.getAttribute(`tr[data-device="${device}"]`, "data-updates"));
}

async function waitForUpdates(page, device, enough) {
  await page.waitForFunction(
    ([device, enough]) => Number(document.querySelector(`tr[data-device="${device}"]`).dataset.updates) >= enough,
    [device, enough],
  );
}
