// Visits the live page of `hubrelay demo` in headless Chromium, for the scripts that check it:
//
//   node <script> <url> <output directory>
//
// Chromium is taken from HUBRELAY_TEST_CHROMIUM, or found on PATH. On success one line of JSON is printed and the exit
// code is 0; otherwise the reason is on stderr and the exit code is 1. Either way the output directory holds screenshots.

import { mkdirSync } from "node:fs";
import { basename, join } from "node:path";

import { launchChromium } from "./chromium.mjs";

/** Bound of every single wait. */
const WAIT_MS = 30_000;

/** Opens the page and calls `check({page, newPage, url, outputDirectory})`, whose result is printed. */
export async function visitPage(check) {
  const [, script, url, outputDirectory] = process.argv;
  const name = basename(script, ".mjs");
  if (outputDirectory === undefined) {
    console.error(`usage: node ${name}.mjs <url> <output directory>`);
    process.exit(2);
  }
  mkdirSync(outputDirectory, { recursive: true });
  const browser = await launchChromium();
  const problems = [];
  const newPage = async () => {
    const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, colorScheme: "light" });
    page.setDefaultTimeout(WAIT_MS);
    watchProblems(page, problems);
    return page;
  };
  let page;
  try {
    page = await newPage();
    const results = await check({ page, newPage, url, outputDirectory });
    if (problems.length > 0) throw new Error(`the page reported: ${problems.join("; ")}`);
    console.log(JSON.stringify(results));
  } catch (error) {
    console.error(error);
    await page?.screenshot({ path: join(outputDirectory, `${name}-failure.png`), fullPage: true });
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
}

/** Collects script errors and broken policies. Refused calls are reported by Chromium too, but belong to the checks. */
function watchProblems(page, problems) {
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    const refused = /the server responded with a status of \d+/.test(message.text());
    if (message.type() === "error" && !refused) problems.push(message.text());
  });
}
