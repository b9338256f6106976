// What the scripts of the end-to-end tests share: JSON lines out, and an end.

/** Prints one line of JSON. */
export function report(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

/** Resolves when the test closes standard input. */
export function untilInputEnds() {
  return new Promise((resolve) => {
    process.stdin.on("end", resolve);
    process.stdin.resume();
  });
}
