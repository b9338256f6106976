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

/** Writes JSON, long integers with all their digits. */
export function writeJson(value, indent = 0) {
  // Only browsers that have `rawJSON` tell a number's source text, so that nothing else makes a bigint.
  return JSON.stringify(
    value,
    (_key, member) => (typeof member === "bigint" ? JSON.rawJSON(`${member}`) : member),
    indent,
  );
}

/** One text for equal values, whatever the order of their members; long integers included. */
export function canonicalJson(value) {
  return writeJson(sorted(value));
}

function sorted(value) {
  if (value === null || typeof value !== "object") return value;
  if (Array.isArray(value)) return value.map(sorted);
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((name) => [name, sorted(value[name])]),
  );
}

/** What a visitor typed: `{value}`, or `{problem}` when it is not JSON. */
export function readTyped(text) {
  try {
    return { value: parseJson(text) };
  } catch (error) {
    if (text.trim() === "") return { problem: 'Type a JSON value, such as 5, true or "text".' };
    if (/^\s*[A-Za-z_][\w .-]*$/.test(text)) return { problem: `A text needs double quotes: "${text.trim()}".` };
    return { problem: `This is not JSON: ${error.message}.` };
  }
}
