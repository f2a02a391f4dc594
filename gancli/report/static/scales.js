// Numbers as text, ticks, scales and smoothing of the charts. Nothing here touches the page.
"use strict";
const SMOOTHING = {light: 0.012, strong: 0.04};  // standard deviation as a fraction of a curve's points

// Numbers look as formatting.number() writes them in Python.
function formatNumber(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1e6 || (size > 0 && size < 1e-3)) return value.toExponential(2);
  if (size >= 1000 || Number.isInteger(value)) return Math.round(value).toLocaleString("en-US");
  return String(Number(value.toPrecision(4)));
}

function clamp(value, low, high) { return Math.max(low, Math.min(high, value)); }

// Round numbers between low and high, and the distance between two of them.
function ticks(low, high, count) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(i * step);
  return [values, step];
}

// Powers of ten between low and high, with 2 and 5 times them where there are few; round numbers where there are none.
function logTicks(low, high) {
  const decades = Math.log10(high / low), factors = decades > 4 ? [1] : decades > 1.5 ? [1, 3] : [1, 2, 5];
  const values = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++)
    for (const factor of factors) values.push(factor * 10 ** power);
  const inside = values.filter(value => value >= low && value <= high);
  return inside.length > 2 ? inside : ticks(low, high, 4)[0];
}

// `largest` is the largest value of the axis, so that all its labels have one unit.
function formatTick(value, step, largest) {
  if (value === 0) return "0";
  if (largest >= 1e9 || step < 1e-4) return value.toExponential(1).replace(/(\.0)?e\+?/, "e");  // 2e24 fits beside the axis
  if (largest >= 1e6) return Number((value / 1e6).toFixed(3)) + "M";
  if (largest >= 1e4) return Number((value / 1e3).toFixed(3)) + "k";
  const digits = Math.max(0, 1 + Math.ceil(-Math.log10(step) - 1e-9));
  return value.toLocaleString("en-US", {maximumFractionDigits: digits});
}

function formatMinutes(minutes) {
  if (minutes < 1) return Math.round(minutes * 60) + " s";
  return minutes < 60 ? Number(minutes.toPrecision(3)) + " min" : Number((minutes / 60).toPrecision(3)) + " h";
}

// Index of the value of a sorted array that is nearest to x.
function nearest(sorted, x) {
  let a = 0, b = sorted.length - 1;
  while (b - a > 1) {
    const middle = (a + b) >> 1;
    if (sorted[middle] < x) a = middle; else b = middle;
  }
  return Math.abs(sorted[a] - x) <= Math.abs(sorted[b] - x) ? a : b;
}

// Value at x of the polygon through (0, 0) and points with ascending `xs`; beyond the last point it is constant.
function interpolate(xs, ys, x) {
  const i = xs.findIndex(value => value >= x);
  if (i < 0) return ys.at(-1);
  const [x0, y0] = i ? [xs[i - 1], ys[i - 1]] : [0, 0];
  return xs[i] > x0 ? y0 + (ys[i] - y0) * (x - x0) / (xs[i] - x0) : ys[i];
}

// Lists of indices of the stretches of a curve between gaps.
function stretches(values) {
  const lists = [];
  values.forEach((value, i) => {
    if (value == null) return;
    if (i && values[i - 1] != null) lists.at(-1).push(i); else lists.push([i]);
  });
  return lists;
}

// Values averaged with Gaussian weights over the points around each, so that nothing moves to the right. Gaps stay, and
// a spike counts no more than the end of the `window` of values that is drawn.
function smooth(values, window, amount) {
  const deviation = Math.max(SMOOTHING[amount] * values.length, 1), reach = Math.ceil(3 * deviation);
  const inside = values.map(value => value == null ? null : clamp(value, ...window));
  return inside.map((value, i) => {
    if (value == null) return null;
    let sum = 0, total = 0;
    for (let j = Math.max(0, i - reach); j <= Math.min(values.length - 1, i + reach); j++) {
      if (inside[j] == null) continue;
      const weight = Math.exp(-(((i - j) / deviation) ** 2) / 2);
      sum += weight * inside[j];
      total += weight;
    }
    return sum / total;
  });
}

// Range of the axis of values: that of the shown curves with a margin, not so small that noise fills it: see ValueAxis
// in charts.py. Probabilities: 0 to 1.
function linearRange(windows, {unit, least = 0, relative = 0}) {
  if (unit || !windows.length) return [0, 1];
  let low = Math.min(...windows.map(w => w[0])), high = Math.max(...windows.map(w => w[1]));
  const positive = low >= 0, smallest = Math.max(least, relative * Math.max(Math.abs(low), Math.abs(high)));
  const missing = smallest - (high - low);
  if (missing > 0) [low, high] = [low - missing / 2, high + missing / 2];
  if (high === low) [low, high] = [low - 1, high + 1];
  const pad = 0.06 * (high - low);
  // An axis that nearly reaches 0 begins there.
  return [positive && low < 0.25 * high ? 0 : low - pad, high + pad];
}

function logRange(windows) {
  const low = Math.min(...windows.map(w => w[0])), high = Math.max(...windows.map(w => w[1]));
  const pad = Math.max((high / low) ** 0.06, (1.5 * low / high) ** 0.5, 1.02);
  return [low / pad, high * pad];
}
