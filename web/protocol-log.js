// The last lines of protocol between this page and the relay, newest first.

import { element } from "./dom.js";
import { formatClock } from "./format.js";

const LINES_MAX = 50;
/** Bulk lines of one kind within this time are folded into one. */
const FOLD_MS = 3000;

export class ProtocolLog {
  #list;
  #lines = [];

  constructor(list) {
    this.#list = list;
  }

  /** Adds a line `{method, path, status, note, bulk}`; `status` is a number, or a word for the socket. */
  add({ method, path, status, note = "", bulk = false }) {
    const nowMs = Date.now();
    const kind = bulk ? `${method} ${path.split("/", 3).slice(0, 2).join("/")} ${status}` : null;
    const folded = bulk && this.#lines.find((line) => line.kind === kind && nowMs - line.atMs < FOLD_MS);
    if (folded) {
      folded.count += 1;
      folded.countNode.textContent = `×${folded.count}`;
      folded.countNode.hidden = false;
      return;
    }
    const countNode = element("span", { className: "line-count", hidden: true });
    const node = element(
      "li",
      { data: { tone: toneOf(status), status: String(status), method } },
      element("time", { textContent: formatClock(nowMs) }),
      element("b", { textContent: method }),
      element("code", { textContent: decodeURIComponent(path) }),
      countNode,
      element("em", { textContent: status }),
      element("span", { className: "line-note", textContent: note }),
    );
    this.#list.prepend(node);
    this.#lines.unshift({ node, kind, count: 1, countNode, atMs: nowMs });
    if (this.#lines.length > LINES_MAX) this.#lines.pop().node.remove();
  }
}

function toneOf(status) {
  if (status === 401 || status === 403) return "refused";
  if (status === "failed" || status === "closed" || status >= 400) return "failed";
  return "plain";
}
