// The published `ux4iot-react` 2.0.2 in a real browser; see react_2.jsx.
//
//   node react_2.mjs '{"url":…,"key":…}'
//
// Commands come in on standard input and what happens goes out, one JSON line each; each call of the relay is reported
// too, and the id of each session. Runs until standard input ends.

import { once } from "node:events";
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

import { launchChromium } from "./chromium.mjs";
import { report } from "./script.mjs";

const options = process.argv[2];

const bundle = await build({
  entryPoints: [fileURLToPath(new URL("react_2.jsx", import.meta.url))],
  bundle: true,
  write: false,
  define: { "process.env.NODE_ENV": '"production"' },
});
const files = {
  "/": ["text/html", '<!doctype html><meta charset="utf-8"><div id="root"></div><script src="/page.js"></script>'],
  "/page.js": ["text/javascript", bundle.outputFiles[0].text],
};
const server = createServer((request, response) => {
  const [type, text] = files[request.url] ?? [];
  if (type) response.writeHead(200, { "Content-Type": type }).end(text);
  else response.writeHead(404).end();
});
server.listen(0, "127.0.0.1");
await once(server, "listening");

const browser = await launchChromium();
const page = await browser.newPage();
page.on("pageerror", (error) => report({ event: "error", message: error.message }));
page.on("response", async (response) => {
  const method = response.request().method();
  const { pathname } = new URL(response.url());
  if (method === "OPTIONS" || pathname in files || pathname === "/socket.io/") return;
  report({ event: "call", call: `${method} ${pathname}`, status: response.status() });
  if (pathname === "/session" && response.ok()) report({ event: "session", ...(await response.json()) });
});
await page.exposeFunction("tell", report);
await page.goto(`http://127.0.0.1:${server.address().port}/#${encodeURIComponent(options)}`);

for await (const line of createInterface({ input: process.stdin })) {
  // Not awaited: a call may end later than the next command.
  page.evaluate(({ command, ...given }) => void window.command[command](given), JSON.parse(line));
}
await browser.close();
server.close();
