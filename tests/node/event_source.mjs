// Reads a stream of server-sent events with a real browser's `EventSource`, one JSON line for each event.
//
//   node event_source.mjs URL
//
// The page is of an origin of its own, so the relay is cross-origin to it, as in production. Runs until standard input
// ends.

import { once } from "node:events";
import { createServer } from "node:http";

import { launchChromium } from "./chromium.mjs";
import { report, untilInputEnds } from "./script.mjs";

const [url] = process.argv.slice(2);

const server = createServer((_, response) => {
  response.writeHead(200, { "Content-Type": "text/html" }).end("<!doctype html><title>events</title>");
});
server.listen(0, "127.0.0.1");
await once(server, "listening");

const browser = await launchChromium();
const page = await browser.newPage();
page.on("pageerror", (error) => report({ event: "pageerror", message: error.message }));
await page.exposeFunction("tell", report);
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.evaluate((address) => {
  const events = new EventSource(address);
  for (const event of ["snapshot", "updates", "ended", "goodbye"]) {
    events.addEventListener(event, ({ data, lastEventId }) => window.tell({ event, data: JSON.parse(data), lastEventId }));
  }
  events.addEventListener("error", () => {
    // While it is connecting again, it needs nobody.
    if (events.readyState === EventSource.CLOSED) window.tell({ event: "closed" });
  });
}, url);

await untilInputEnds();
await browser.close();
server.close();
