// Opens a page with one telemetry hook in a real browser and reports what the hook does, one JSON line for each event;
// see react_client.mjs.
//
//   node check_53.mjs '{"url":…,"key":…,"deviceId":…,"telemetryKey":…}'
//
// The page is served from an origin of its own, so the relay is cross-origin to it, as in production. Runs until
// standard input ends.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import { launchChromium } from "./chromium.mjs";
import { report, untilInputEnds } from "./script.mjs";

const [options] = process.argv.slice(2);

const files = {
  "/": [fileURLToPath(new URL("check_53.html", import.meta.url)), "text/html"],
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

await untilInputEnds();
await browser.close();
server.close();
