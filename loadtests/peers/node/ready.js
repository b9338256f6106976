// How a server says that it is ready, and ends.

import { createRequire } from "node:module";

/** Connections that may wait to be accepted, when many clients come at once. */
export const BACKLOG = 4096;

/** Prints one line of JSON with the ports and the exact versions, and takes SIGTERM as the wish to end. */
export function sayReady(library, feedPort, webSocketPort) {
  process.on("SIGTERM", () => process.exit(0));
  const { version } = createRequire(import.meta.url)(`${library}/package.json`);
  const ready = { feedPort, webSocketPort, version: `${library} ${version}, Node ${process.version}` };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
}
