// What the scripts of the end-to-end tests share: installed packages, JSON lines out, an end.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

// `cargo xtask test` installs the packages and says where; by hand they are installed beside this file.
const folder = process.env.HUBRELAY_TEST_NODE_MODULES ?? dirname(fileURLToPath(import.meta.url));

/** Loads a package installed for the tests. */
export const requireInstalled = createRequire(join(folder, 'package.json'));

/** Path of a file in a package installed for the tests. */
export const installedPath = (file) => join(folder, 'node_modules', file);

/** Prints one line of JSON. */
export function report(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Resolves when the test closes standard input. */
export function untilInputEnds() {
  return new Promise((resolve) => {
    process.stdin.on('end', resolve);
    process.stdin.resume();
  });
}
