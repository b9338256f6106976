// Round numbers for an axis.

/**
 * A scale that holds `low` to `high` with some air, whose ticks are round numbers:
 * `{from, to, ticks, label(tick)}`.
 */
export function numberScale(low, high, tickCount) {
  if (low === high) {
    const air = Math.max(Math.abs(low) * 0.01, 1);
    return numberScale(low - air, high + air, tickCount);
  }
  const span = high - low;
  const padded = span * 0.06;
  const step = roundStep((span + 2 * padded) / tickCount);
  // Ends lie on half steps: close to the data, and still at rest while it moves a little.
  const from = (Math.floor(((low - padded) / step) * 2) / 2) * step;
  const to = (Math.ceil(((high + padded) / step) * 2) / 2) * step;
  const ticks = [];
  const last = Math.floor(to / step + 1e-9);
  for (let i = Math.ceil(from / step - 1e-9); i <= last; i += 1) ticks.push(i * step);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return { from, to, ticks, label: (tick) => (Math.abs(tick) < step / 2 ? 0 : tick).toFixed(Math.min(digits, 8)) };
}

/** The smallest of 1, 2, 5 or 10 times a power of ten that is not below `raw`. */
function roundStep(raw) {
  const power = 10 ** Math.floor(Math.log10(raw));
  const ratio = raw / power;
  if (ratio <= 1) return power;
  if (ratio <= 2) return 2 * power;
  return ratio <= 5 ? 5 * power : 10 * power;
}
