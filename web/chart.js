// A live chart of one series over the last minutes: numbers as a line, booleans and words as lanes.
// Spans in which the session held no grant are hatched: there the page knows nothing.
//
// The drawing is rebuilt when data changes and merely shifted in between, so that time flows for the
// price of one transform a frame. With reduced motion it moves only when data arrives.

import { element, prefersStillness, setAttribute, svgElement } from "./dom.js";
import { formatClock, formatNumber, formatValue, leafAt } from "./format.js";
import { numberScale } from "./scale.js";

const MARGIN = { top: 14, right: 14, bottom: 26, left: 52 };
const LANES_MAX = 6;
const TIME_LABELS = 4;
/** New data is drawn at most this often; in between the drawing is shifted. */
const BUILD_EVERY_MS = 200;

export class Chart {
  windowMs = 60_000;
  #series;
  #holder;
  #svg;
  #axes = svgElement("g");
  #moving = svgElement("g");
  #clip = svgElement("rect");
  #cursor = svgElement("line", { class: "cursor", visibility: "hidden" });
  #cursorDot = svgElement("circle", { class: "cursor-dot", r: 4.5, visibility: "hidden" });
  #tip = element("p", { className: "chart-tip", hidden: true });
  #message = element("p", { className: "chart-message", hidden: true });
  #width = 0;
  #height = 0;
  #builtMs = 0;
  #stale = true;
  #points = [];
  #pointerX = null;

  /** `series()` gives `{title, leaf, samples, deniedSpans}`, or null when nothing is chosen. */
  constructor(holder, series) {
    this.#holder = holder;
    this.#series = series;
    const clipPath = svgElement("clipPath", { id: "plot-clip" }, this.#clip);
    const hatch = svgElement(
      "pattern",
      { id: "hatch", width: 7, height: 7, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svgElement("line", { x1: 0, y1: 0, x2: 0, y2: 7, class: "hatch-line" }),
    );
    const clipped = svgElement("g", { "clip-path": "url(#plot-clip)" }, this.#moving, this.#cursor, this.#cursorDot);
    this.#svg = svgElement("svg", { role: "img" }, svgElement("defs", {}, clipPath, hatch), this.#axes, clipped);
    holder.append(this.#svg, this.#tip, this.#message);
    new ResizeObserver(() => this.redraw()).observe(holder);
    this.#svg.addEventListener("pointermove", ({ offsetX }) => this.#point(offsetX));
    this.#svg.addEventListener("pointerleave", () => this.#point(null));
    const frame = () => {
      this.#frame();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** Tells that samples or spans changed. */
  dataChanged() {
    this.#stale = true;
  }

  /** Tells that the series, the span of time or the size changed. */
  redraw() {
    this.#pointerX = null;
    this.#stale = true;
    this.#builtMs = 0;
  }

  #frame() {
    const nowMs = Date.now();
    if (this.#stale && nowMs - this.#builtMs >= BUILD_EVERY_MS) this.#build(nowMs);
    else if (this.#builtMs > 0 && !prefersStillness()) this.#shift(nowMs);
  }

  #shift(nowMs) {
    const x = (this.#builtMs - nowMs) * this.#pixelsPerMs;
    this.#moving.setAttribute("transform", `translate(${x.toFixed(2)} 0)`);
    if (this.#pointerX !== null) this.#showCursor(nowMs);
  }

  get #plotWidth() {
    return Math.max(1, this.#width - MARGIN.left - MARGIN.right);
  }

  get #plotHeight() {
    return Math.max(1, this.#height - MARGIN.top - MARGIN.bottom);
  }

  get #pixelsPerMs() {
    return this.#plotWidth / this.windowMs;
  }

  #x(at) {
    return MARGIN.left + this.#plotWidth - (this.#builtMs - at) * this.#pixelsPerMs;
  }

  #build(nowMs) {
    this.#stale = false;
    this.#builtMs = nowMs;
    this.#width = this.#holder.clientWidth;
    this.#height = this.#holder.clientHeight;
    if (this.#width === 0) return;
    this.#svg.setAttribute("viewBox", `0 0 ${this.#width} ${this.#height}`);
    for (const [name, value] of [
      ["x", MARGIN.left],
      ["y", 0],
      ["width", this.#plotWidth + MARGIN.right / 2],
      ["height", this.#height - MARGIN.bottom + 1],
    ]) {
      this.#clip.setAttribute(name, value);
    }
    this.#axes.replaceChildren();
    this.#moving.replaceChildren();
    this.#points = [];
    const series = this.#series();
    if (series === null) return;
    setAttribute(this.#svg, "aria-label", `Chart of ${series.title}`);
    this.#drawTimeAxis();
    const visible = visibleSamples(series, nowMs - this.windowMs);
    this.#drawDenied(series.deniedSpans, nowMs);
    const known = visible.filter(({ value }) => value !== undefined);
    if (known.length > 0) {
      if (known.every(({ value }) => typeof value === "number")) this.#drawLine(visible, known, nowMs);
      else this.#drawLanes(visible, known, nowMs);
    }
    this.#showMessage(series, known.length);
    this.#shift(nowMs);
  }

  #showMessage(series, count) {
    const denied = series.deniedSpans.at(-1)?.to === null;
    this.#message.hidden = count > 0;
    this.#message.textContent = denied ? "No grant. Nothing arrives for this key." : "Waiting for the next value";
  }

  #drawTimeAxis() {
    const y = this.#height - 7;
    const labels = this.#width < 420 ? 2 : TIME_LABELS;
    for (let i = 0; i <= labels; i += 1) {
      const ago = this.windowMs * (1 - i / labels);
      const x = MARGIN.left + this.#plotWidth * (i / labels);
      const anchor = i === labels ? "end" : i === 0 ? "start" : "middle";
      this.#axes.append(text(ago === 0 ? "now" : `−${spanLabel(ago)}`, x, y, anchor));
    }
  }

  #drawDenied(spans, nowMs) {
    const height = this.#height - MARGIN.bottom;
    const edge = (className, x) => svgElement("line", { class: className, x1: x, x2: x, y1: 0, y2: height });
    for (const { from, to, initial } of spans) {
      const end = this.#x(to ?? nowMs + this.windowMs);
      if (end < MARGIN.left) continue;
      const start = initial ? -this.#plotWidth : Math.max(this.#x(from), -this.#plotWidth);
      this.#moving.append(svgElement("rect", { class: "denied", x: start, y: 0, width: end - start, height }));
      if (!initial) this.#moving.append(edge("denied-edge", start));
      if (to !== null) this.#moving.append(edge("granted-edge", end));
    }
  }

  #drawLine(visible, known, nowMs) {
    const values = known.map(({ value }) => value);
    const scale = numberScale(Math.min(...values), Math.max(...values), this.#plotHeight < 170 ? 4 : 5);
    const y = (value) => MARGIN.top + this.#plotHeight * (1 - (value - scale.from) / (scale.to - scale.from));
    for (const tick of scale.ticks) {
      const at = y(tick);
      this.#axes.append(
        svgElement("line", { class: "rule", x1: MARGIN.left, x2: this.#width - MARGIN.right, y1: at, y2: at }),
        text(scale.label(tick), MARGIN.left - 10, at + 4, "end"),
      );
    }
    const floor = this.#height - MARGIN.bottom;
    for (const run of runsOf(visible)) {
      const points = run.map(({ at, value }) => [this.#x(at), y(value)]);
      const line = points.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
      const [first, last] = [points[0], points.at(-1)];
      this.#moving.append(
        svgElement("path", { class: "area", d: `M${line}L${last[0]} ${floor}L${first[0]} ${floor}Z` }),
        svgElement("path", { class: "line", d: `M${line}` }),
      );
      this.#points.push(...run.map(({ at, value }, i) => ({ at, value, x: points[i][0], y: points[i][1] })));
    }
    const newest = visible.at(-1);
    if (newest.value === undefined) return;
    const [x, at] = [this.#x(newest.at), y(newest.value)];
    this.#moving.append(
      svgElement("line", { class: "held", x1: x, x2: this.#x(nowMs + this.windowMs), y1: at, y2: at }),
      svgElement("circle", { class: "newest", cx: x, cy: at, r: 3.5 }),
    );
  }

  #drawLanes(visible, known, nowMs) {
    const booleans = known.every(({ value }) => typeof value === "boolean");
    const lanes = booleans ? ["on", "off"] : [...new Set(known.map(({ value }) => formatValue(value)))].slice(-LANES_MAX);
    const height = this.#plotHeight / lanes.length;
    const thickness = Math.min(22, height * 0.5);
    const centre = (lane) => MARGIN.top + height * (lane + 0.5);
    lanes.forEach((label, lane) => {
      const at = centre(lane);
      this.#axes.append(
        svgElement("line", { class: "rule", x1: MARGIN.left, x2: this.#width - MARGIN.right, y1: at, y2: at }),
        text(label.length > 7 ? `${label.slice(0, 6)}…` : label, MARGIN.left - 10, at + 4, "end"),
      );
    });
    visible.forEach(({ at, value }, i) => {
      const lane = lanes.indexOf(formatValue(value ?? null));
      if (value === undefined || lane < 0) return;
      const x = this.#x(at);
      const until = this.#x(visible[i + 1]?.at ?? nowMs + this.windowMs);
      this.#moving.append(
        svgElement("rect", {
          class: lanes[lane] === "off" ? "lane low" : "lane",
          x,
          y: centre(lane) - thickness / 2,
          width: Math.max(1, until - x + 0.5),
          height: thickness,
        }),
      );
      this.#points.push({ at, value, x, y: centre(lane) });
    });
  }

  #point(x) {
    this.#pointerX = x;
    if (x === null) {
      for (const node of [this.#cursor, this.#cursorDot]) node.setAttribute("visibility", "hidden");
      this.#tip.hidden = true;
    } else {
      this.#showCursor(Date.now());
    }
  }

  #showCursor(nowMs) {
    const shift = prefersStillness() ? 0 : (this.#builtMs - nowMs) * this.#pixelsPerMs;
    const target = this.#pointerX - shift;
    let nearest = null;
    for (const point of this.#points) {
      if (point.x + shift < MARGIN.left) continue;
      if (nearest === null || Math.abs(point.x - target) < Math.abs(nearest.x - target)) nearest = point;
    }
    if (nearest === null) return;
    const x = nearest.x + shift;
    for (const [name, value] of [["x1", x], ["x2", x], ["y1", 0], ["y2", this.#height - MARGIN.bottom]]) {
      this.#cursor.setAttribute(name, value);
    }
    this.#cursorDot.setAttribute("cx", x);
    this.#cursorDot.setAttribute("cy", nearest.y);
    for (const node of [this.#cursor, this.#cursorDot]) node.setAttribute("visibility", "visible");
    const value = typeof nearest.value === "number" ? formatNumber(nearest.value) : formatValue(nearest.value);
    this.#tip.textContent = `${value}  ${formatClock(nearest.at)}`;
    this.#tip.hidden = false;
    const half = this.#tip.offsetWidth / 2;
    const left = Math.min(Math.max(x, MARGIN.left + half), this.#width - MARGIN.right - half);
    this.#tip.style.left = `${left}px`;
  }
}

/** Samples of the drawn member inside the span, and the one before it, so that the line enters from the left. */
function visibleSamples({ samples, leaf }, fromMs) {
  let first = samples.findIndex(({ at }) => at >= fromMs);
  first = first < 0 ? Math.max(0, samples.length - 1) : Math.max(0, first - 1);
  return samples.slice(first).map(({ at, value }) => ({ at, value: drawable(leafAt(value, leaf)) }));
}

function drawable(value) {
  return typeof value === "bigint" ? Number(value) : value;
}

/** Splits samples at the breaks. */
function runsOf(samples) {
  const runs = [];
  let run = [];
  for (const sample of samples) {
    if (sample.value === undefined) {
      if (run.length > 0) runs.push(run);
      run = [];
    } else {
      run.push(sample);
    }
  }
  if (run.length > 0) runs.push(run);
  return runs;
}

function spanLabel(ms) {
  if (ms < 60_000 || ms % 60_000 !== 0) {
    return ms > 60_000 ? `${(ms / 60_000).toFixed(2).replace(/0+$/, "")} min` : `${ms / 1000} s`;
  }
  return `${ms / 60_000} min`;
}

function text(content, x, y, anchor) {
  return svgElement("text", { x, y, "text-anchor": anchor }, content);
}
