// The twin of one device as the session sees it, and what of its desired properties the visitor has changed.

import { canonicalJson } from "./json.js";

/** Rows made of one twin; a twin with more says so. */
const ROWS_MAX = 200;

export class Twin {
  /** `{version, properties: {desired, reported}, tags}`, or null while none is known. */
  value = null;
  /** When it changed by the relay's account, in ms since the epoch. */
  changedMs = 0;
  /** Grows with every twin taken; views redraw when it differs. */
  revision = 0;
  /** Whether it was read since the session was granted it, or is being read. */
  read = false;
  /** The refusal of the last read, until a twin arrives. */
  problem = null;
  /** Changes the hub has accepted and no twin shows yet, by dotted path: `{json, version, acceptedMs}`. */
  pending = new Map();

  /** Takes a pushed twin: it is whole, and newer than what is here. */
  take(value, changedMs) {
    this.value = value;
    this.changedMs = changedMs;
    this.revision += 1;
    this.problem = null;
    for (const [path, change] of this.pending) {
      if (this.#shows(path, change)) this.pending.delete(path);
    }
  }

  /** Takes a twin that was read, unless what was pushed meanwhile is newer. */
  takeRead(value, changedMs) {
    if (this.value === null || (value.version ?? 0) >= (this.value.version ?? 0)) this.take(value, changedMs);
  }

  /** Notes a change of `path` to `json` (undefined: removed) that the hub accepted as this version of the twin. */
  expect(path, change) {
    if (!this.#shows(path, change)) this.pending.set(path, change);
  }

  /** Nothing of it may be seen any more. */
  lock() {
    if (this.value !== null) this.revision += 1;
    this.value = null;
    this.suspend();
  }

  /** The session is over: what was seen stays, and has to be read again. */
  suspend() {
    this.read = false;
    this.problem = null;
    this.pending.clear();
  }

  /** Whether the twin holds what was asked for, or is as new as the one that did. */
  #shows(path, { json, version }) {
    if (this.value === null) return false;
    if (version !== undefined && this.value.version >= version) return true;
    const desired = memberAt(this.value.properties?.desired, path.split("."));
    return json === undefined ? desired === undefined : desired !== undefined && canonicalJson(desired) === json;
  }
}

/**
 * The properties of both sides as rows, members below the object that holds them:
 * `{path, name, depth, desired, reported, acknowledgement, comparison}`. A side is undefined where it has no such
 * property, and `GROUP` where it is an object whose members follow. Members that begin with `$` are the hub's own.
 * What a device reports in the form of IoT Plug and Play's acknowledgements, `{value, ac, av, ad}`, is shown as its
 * value, with the rest (code, version, description) in `acknowledgement`.
 */
export function rowsOf({ desired = {}, reported = {} } = {}) {
  const rows = [];
  addRows(rows, desired, reported, []);
  return { rows: rows.slice(0, ROWS_MAX), left: Math.max(0, rows.length - ROWS_MAX) };
}

/** Stands for an object with members. */
export const GROUP = Symbol("group");

function addRows(rows, desired, reported, parents) {
  // By name, so that a row keeps its place when the other side gets the property too.
  const names = [...new Set([...namesOf(desired), ...namesOf(reported)])].sort();
  for (const name of names) {
    const wanted = hasMember(desired, name) ? desired[name] : undefined;
    const given = hasMember(reported, name) ? reported[name] : undefined;
    const acknowledgement = isAcknowledgement(given) ? given : undefined;
    const value = acknowledgement === undefined ? given : acknowledgement.value;
    const path = [...parents, name];
    rows.push({
      path: path.join("."),
      name,
      depth: parents.length,
      desired: shown(wanted),
      reported: shown(value),
      acknowledgement,
      comparison: acknowledgement?.ac >= 400 ? "refused" : compare(wanted, value),
    });
    if (isGroup(wanted) || isGroup(value)) addRows(rows, wanted, value, path);
  }
}

function isAcknowledgement(reported) {
  if (!isGroup(reported)) return false;
  const { value, ac, av, ad, ...others } = reported;
  return value !== undefined && typeof ac === "number" && typeof av === "number" && Object.keys(others).length === 0;
}

/** `same`, `differs`, `unreported` (desired only), or nothing when the device reports it by itself. */
function compare(desired, reported) {
  if (desired === undefined || (isGroup(desired) && isGroup(reported))) return "";
  if (reported === undefined) return isGroup(desired) ? "" : "unreported";
  return canonicalJson(desired) === canonicalJson(reported) ? "same" : "differs";
}

function shown(side) {
  return isGroup(side) ? GROUP : side;
}

function namesOf(side) {
  return isGroup(side) ? Object.keys(side).filter((name) => !name.startsWith("$")) : [];
}

function isGroup(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value) && Object.keys(value).length > 0;
}

function hasMember(side, name) {
  return isGroup(side) && Object.hasOwn(side, name);
}

function memberAt(side, path) {
  return path.reduce((value, name) => (hasMember(value, name) ? value[name] : undefined), side);
}

/** Names a desired property may not have, by the rules of Azure IoT Hub: no `.`, `$`, space or control character. */
const NAME_BYTES_MAX = 1024;
const DEPTH_MAX = 10;

/** What is wrong with a dotted path, or an empty text. */
export function problemOfPath(path) {
  const names = path.split(".");
  if (path === "") return "Type a name; dots lead into objects, as in network.apn.";
  if (names.some((name) => name === "")) return "There is an empty name between or beside the dots.";
  if (names.length > DEPTH_MAX) return `Twins are at most ${DEPTH_MAX} levels deep.`;
  if (/[$\s\u0000-\u001f\u007f-\u009f]/.test(path)) return "A name has no spaces, control characters or $.";
  if (new TextEncoder().encode(path).length > NAME_BYTES_MAX) return "The name is too long.";
  return "";
}

/** The merge patch that sets `path` to a JSON text, digits and all. */
export function patchOf(path, json) {
  return path.split(".").reduceRight((inner, name) => `{${JSON.stringify(name)}:${inner}}`, json);
}
