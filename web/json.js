// JSON as the relay passes it on: integers beyond 2^53 keep every digit, as bigint.

const LONG_NUMBER = /\d{16}/;

/** Parses JSON. Browsers that cannot tell a number's source text round long integers, as `JSON.parse` does. */
export function parseJson(text) {
  return LONG_NUMBER.test(text) ? JSON.parse(text, keepDigits) : JSON.parse(text);
}

function keepDigits(_key, value, context) {
  if (typeof value !== "number" || Number.isSafeInteger(value)) return value;
  return /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value;
}

/** One text for equal values, long integers included. */
export function canonicalJson(value) {
  return JSON.stringify(value, (_key, member) => (typeof member === "bigint" ? `${member}n` : member));
}
