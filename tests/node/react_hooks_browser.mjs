// Hooks as a page has them, in a real browser, mounted and unmounted by a test; see react_client.mjs.
//
//   node react_hooks_browser.mjs '{"url":…,"key":…}'
//
// Commands come in on standard input and what happens goes out, one JSON line each, as with react_hooks.mjs. The page is
// served from an origin of its own, so the relay is cross-origin to it, as in production. Runs until standard input ends.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { launchChromium } from "./chromium.mjs";
import { report } from "./script.mjs";

const [options] = process.argv.slice(2);

const files = {
  "/": [fileURLToPath(new URL("react_hooks_browser.html", import.meta.url)), "text/html"],
  "/react_client.mjs": [fileURLToPath(new URL("react_client.mjs", import.meta.url)), "text/javascript"],
  "/socket.io.js": [fileURLToPath(import.meta.resolve("socket.io-client/dist/socket.io.js")), "text/javascript"],
};
const server = createServer(async (request, response) => {
  const [path, type] = files[request.url] ?? [];
  if (path) {
    response.writeHead(200, { "Content-Type": type }).end(await readFile(path));
  } else {
    response.writeHead(404).end();
  }
});
server.listen(0, "127.0.0.1");
await once(server, "listening");

const browser = await launchChromium();
const page = await browser.newPage();
page.on("pageerror", (error) => report({ event: "error", message: error.message }));
await page.exposeFunction("tell", report);
await page.goto(`http://127.0.0.1:${server.address().port}/#${encodeURIComponent(options)}`);

for await (const line of createInterface({ input: process.stdin })) {
  await page.evaluate(({ command, ...given }) => window.command[command](given), JSON.parse(line));
}
await browser.close();
server.close();
