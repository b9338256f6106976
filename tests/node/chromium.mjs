// The browser of the tests: a Chromium from HUBRELAY_TEST_CHROMIUM, or one found on PATH, without a window.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

import { chromium } from "playwright-core";

/** Starts the browser; the caller closes it. */
export function launchChromium() {
  return chromium.launch({
    executablePath: chromiumPath(),
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
}

function chromiumPath() {
  if (process.env.HUBRELAY_TEST_CHROMIUM) return process.env.HUBRELAY_TEST_CHROMIUM;
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not here; look further.
      }
    }
  }
  throw new Error("no Chromium: set HUBRELAY_TEST_CHROMIUM or put `chromium` on PATH");
}
