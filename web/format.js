// How values, ages and ids are written on the page.

const integers = new Intl.NumberFormat("en");

/** A count with thousands separators. */
export function formatCount(count) {
  return integers.format(count);
}

/** Digits after the point that are worth showing of a number: what it has, but three at most, two from 1 on. */
export function fractionDigits(value) {
  if (Number.isInteger(value)) return 0;
  const [, fraction = ""] = String(value).split(".");
  return Math.min(fraction.length, Math.abs(value) < 1 ? 3 : 2);
}

/** A number with at least `digits` after the point, so that a value in motion keeps its width. */
export function formatNumber(value, digits = 0) {
  const size = Math.abs(value);
  if (Number.isInteger(value) && digits === 0) return String(value);
  if (size >= 1e15 || (size > 0 && size < 0.001)) return String(Number(value.toPrecision(4)));
  return value.toFixed(Math.max(digits, fractionDigits(value)));
}

/** One telemetry value in one line: scalars as themselves, objects as their members. */
export function formatValue(value, digits = 0) {
  switch (typeof value) {
    case "number":
      return formatNumber(value, digits);
    case "bigint":
      return String(value);
    case "boolean":
      return value ? "on" : "off";
    case "string":
      return value === "" ? "empty" : value;
    default:
      break;
  }
  if (value === null) return "null";
  if (Array.isArray(value)) return `[${value.map((item) => formatValue(item)).join(", ")}]`;
  return leavesOf(value)
    .map(({ path, value: leaf }) => `${path} ${formatValue(leaf)}`)
    .join("  ");
}

/** The same in less room, for a cell of the table: an object without the names of its members. */
export function formatShort(value, digits = 0) {
  const leaves = leavesOf(value);
  return leaves.length === 0 ? formatValue(value, digits) : leaves.map((leaf) => formatValue(leaf.value)).join(", ");
}

/** The drawable scalars inside an object, by dotted path; at most eight of them. */
export function leavesOf(value, prefix = "", leaves = []) {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return leaves;
  for (const [name, member] of Object.entries(value)) {
    if (leaves.length >= 8) break;
    const path = prefix + name;
    if (member !== null && typeof member === "object") leavesOf(member, `${path}.`, leaves);
    else leaves.push({ path, value: member });
  }
  return leaves;
}

/** Follows a dotted path into a value; an empty path is the value itself. */
export function leafAt(value, path) {
  if (path === "") return value;
  if (value === null || typeof value !== "object") return undefined;
  if (Object.hasOwn(value, path)) return value[path];
  const dot = path.indexOf(".");
  return dot < 0 ? undefined : leafAt(value[path.slice(0, dot)], path.slice(dot + 1));
}

/** The age of something, short: `now`, `12 s`, `3 min`, `2 h`. */
export function formatAge(ageMs) {
  const seconds = Math.max(0, Math.round(ageMs / 1000));
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** The time between two messages: `0.5 s`, `12 s`. */
export function formatInterval(intervalMs) {
  return intervalMs < 10_000 ? `${(intervalMs / 1000).toFixed(1)} s` : `${Math.round(intervalMs / 1000)} s`;
}

/** A session id with its middle left out: it is a secret, and too long to read. */
export function shortenId(id) {
  return id.length <= 12 ? id : `${id.slice(0, 4)}…${id.slice(-6)}`;
}

/** The time of day with seconds, for the protocol log. */
export function formatClock(atMs) {
  return new Date(atMs).toLocaleTimeString("en-GB");
}
