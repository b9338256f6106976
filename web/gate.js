// The figure beside the headline: a line for each device runs to the gate; granted lines pass it and meet
// in this session. Each update that really arrived travels along its line. What stops at the gate stands
// still, because this page knows nothing of it.

import { prefersStillness } from "./dom.js";

const PULSES_MAX = 80;
const PULSE_MS = 1100;
const LINES_MAX = 40;
/** Where gate and session stand, as a share of the width. */
const GATE_AT = 0.5;

export class Gate {
  #canvas;
  #context;
  #devices = [];
  #pulses = [];
  #running = false;
  #size = { width: 0, height: 0 };

  constructor(canvas) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => this.draw()).observe(canvas.parentElement);
  }

  /** Sets the devices whose lines are drawn, in the order of the table. */
  show(devices) {
    this.#devices = devices.slice(0, LINES_MAX);
    this.draw();
  }

  /** Lets one update of this device travel along its line. */
  pulse(device) {
    if (prefersStillness() || document.hidden || this.#pulses.length >= PULSES_MAX) return;
    if (!this.#devices.includes(device)) return;
    this.#pulses.push({ device, startedMs: performance.now() });
    if (this.#running) return;
    this.#running = true;
    requestAnimationFrame((nowMs) => this.#frame(nowMs));
  }

  /** Draws the figure as it stands; call after grants or the theme changed. */
  draw() {
    if (!this.#running) this.#paint(performance.now());
  }

  #frame(nowMs) {
    this.#pulses = this.#pulses.filter(({ device, startedMs }) => device.readable && nowMs - startedMs < PULSE_MS);
    this.#paint(nowMs);
    this.#running = this.#pulses.length > 0;
    if (this.#running) requestAnimationFrame((next) => this.#frame(next));
  }

  #paint(nowMs) {
    const { width, height } = this.#resize();
    const style = getComputedStyle(this.#canvas);
    const colour = (name) => style.getPropertyValue(name);
    const context = this.#context;
    context.clearRect(0, 0, width, height);
    const geometry = { start: 5, gate: width * GATE_AT, end: width - 14, middle: height / 2 };
    const step = (height - 16) / Math.max(1, this.#devices.length - 1);
    const yOf = (i) => (this.#devices.length === 1 ? geometry.middle : 8 + i * step);

    context.lineCap = "round";
    this.#devices.forEach((device, i) => {
      const y = yOf(i);
      const { readable } = device;
      context.strokeStyle = readable ? colour("--accent") : colour("--line-strong");
      context.fillStyle = context.strokeStyle;
      context.lineWidth = 1.25;
      context.globalAlpha = readable ? 0.55 : 1;
      context.setLineDash(device.access === "partial" ? [4, 4] : []);
      context.beginPath();
      context.moveTo(geometry.start, y);
      context.lineTo(geometry.gate - 9, y);
      if (readable) tracePast(context, geometry, y);
      context.stroke();
      context.setLineDash([]);
      context.globalAlpha = 1;
      context.beginPath();
      context.arc(geometry.start, y, 2.4, 0, 2 * Math.PI);
      context.fill();
      if (!readable) {
        context.lineWidth = 2;
        context.beginPath();
        context.moveTo(geometry.gate - 9, y - 3);
        context.lineTo(geometry.gate - 9, y + 3);
        context.stroke();
      }
    });

    context.strokeStyle = colour("--ink");
    context.lineWidth = 2.5;
    context.beginPath();
    context.moveTo(geometry.gate, 1.5);
    context.lineTo(geometry.gate, height - 1.5);
    context.stroke();

    context.fillStyle = colour("--ink");
    context.beginPath();
    context.arc(geometry.end, geometry.middle, 7, 0, 2 * Math.PI);
    context.fill();
    context.fillStyle = colour("--page");
    context.beginPath();
    context.arc(geometry.end, geometry.middle, 2.6, 0, 2 * Math.PI);
    context.fill();

    context.fillStyle = colour("--accent");
    for (const { device, startedMs } of this.#pulses) {
      const y = yOf(this.#devices.indexOf(device));
      const [px, py, alpha] = along(geometry, y, (nowMs - startedMs) / PULSE_MS);
      context.globalAlpha = alpha;
      context.beginPath();
      context.arc(px, py, 3, 0, 2 * Math.PI);
      context.fill();
    }
    context.globalAlpha = 1;
  }

  /** Fits the bitmap to the element and the screen's density. */
  #resize() {
    const { clientWidth: width, clientHeight: height } = this.#canvas;
    const density = window.devicePixelRatio || 1;
    if (this.#canvas.width !== Math.round(width * density) || this.#size.height !== height) {
      this.#canvas.width = Math.round(width * density);
      this.#canvas.height = Math.round(height * density);
      this.#size = { width, height };
    }
    this.#context.setTransform(density, 0, 0, density, 0, 0);
    return { width, height };
  }
}

/** The curve from the gate to the session, continuing the current path. */
function tracePast(context, { gate, end, middle }, y) {
  const bend = (end - gate) * 0.5;
  context.lineTo(gate + 8, y);
  context.bezierCurveTo(gate + bend, y, end - bend, middle, end - 7, middle);
}

/** Place and opacity of a pulse after this share of its way. */
function along({ start, gate, end, middle }, y, progress) {
  const eased = progress < 0.5 ? 2 * progress ** 2 : 1 - (2 - 2 * progress) ** 2 / 2;
  const alpha = Math.min(1, progress * 8, (1 - progress) * 8);
  const share = (gate + 8 - start) / (end - 7 - start);
  if (eased < share) return [start + (eased / share) * (gate + 8 - start), y, alpha];
  const t = (eased - share) / (1 - share);
  const bend = (end - gate) * 0.5;
  const mix = (a, b, c, d) => (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t ** 2 * c + t ** 3 * d;
  return [mix(gate + 8, gate + bend, end - bend, end - 7), mix(y, y, middle, middle), alpha];
}
