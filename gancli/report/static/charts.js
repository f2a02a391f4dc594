// Draws the charts of the page as SVG from the JSON in #data. Curves are described in charts.py.
// A click on a chart sends the event "seek" with a step; the event "mark" with a step draws a dashed line there.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const MARGIN = {left: 46, right: 14, top: 8, bottom: 22};  // around the curves, pixels
const COLOURS = 8, DOTS = 24;  // a curve of at most so many points shows them
let hovered = null, marked = null;  // steps

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

// `largest` is the largest value of the axis, so that all its labels have one unit.
function formatTick(value, step, largest) {
  if (value === 0) return "0";
  if (largest >= 1e9 || step < 1e-4) return value.toExponential(1);
  if (largest >= 1e6) return Number((value / 1e6).toFixed(3)) + "M";
  if (largest >= 1e4) return Number((value / 1e3).toFixed(3)) + "k";
  const digits = Math.max(0, 1 + Math.ceil(-Math.log10(step) - 1e-9));
  return value.toLocaleString("en-US", {maximumFractionDigits: digits});
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

// Lists of indices of the stretches of a curve between gaps.
function stretches(values) {
  const lists = [];
  values.forEach((value, i) => {
    if (value == null) return;
    if (i && values[i - 1] != null) lists.at(-1).push(i); else lists.push([i]);
  });
  return lists;
}

function addSvg(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text != null) element.textContent = text;
  return parent.appendChild(element);
}

// All charts have the same axis of steps, so that a step under the pointer is read in every chart.
function stepAxis() {
  let low = Infinity, high = -Infinity;
  for (const chart of data.charts) for (const series of chart.series) for (const x of series.x) {
    low = Math.min(low, x);
    high = Math.max(high, x);
  }
  if (low >= high) return [low - 1, high + 1];
  return [low <= 0.25 * high ? 0 : low, high];
}
const [firstStep, lastStep] = stepAxis();

class Chart {
  constructor(chart, figure, index) {
    this.chart = chart;
    this.index = index;
    this.plot = figure.querySelector(".plot");
    this.stepText = figure.querySelector(".at");
    this.keys = [...figure.querySelectorAll(".key")];
    this.width = 0;
    this.plot.addEventListener("pointermove", event => hover(this.stepAt(event)));
    this.plot.addEventListener("pointerleave", () => hover(null));
    this.plot.addEventListener("click", event =>
      document.dispatchEvent(new CustomEvent("seek", {detail: this.stepAt(event)})));
    for (const key of this.keys) key.addEventListener("click", () => {
      key.setAttribute("aria-pressed", !pressed(key));
      this.draw();
    });
    new ResizeObserver(() => { if (this.plot.clientWidth !== this.width) this.draw(); }).observe(this.plot);
  }

  stepAt(event) {
    const x = event.clientX - this.plot.getBoundingClientRect().left - MARGIN.left;
    return firstStep + clamp(x / (this.width - MARGIN.left - MARGIN.right), 0, 1) * (lastStep - firstStep);
  }

  valueRange(shown) {
    if (this.chart.unit || !shown.length) return [0, 1];
    const low = Math.min(...shown.map(s => s.window[0])), high = Math.max(...shown.map(s => s.window[1]));
    const pad = high > low ? 0.06 * (high - low) : Math.abs(high) * 0.1 || 1;
    return [low >= 0 && low < 0.25 * high ? 0 : low - pad, high + pad];  // an axis that nearly reaches 0 begins there
  }

  draw() {
    this.width = this.plot.clientWidth;
    this.height = this.plot.clientHeight;
    if (!this.width) return;
    const shown = this.chart.series.filter((s, i) => pressed(this.keys[i]) && s.window);
    const [low, high] = this.valueRange(shown);
    const left = MARGIN.left, right = this.width - MARGIN.right, top = MARGIN.top, bottom = this.height - MARGIN.bottom;
    this.x = step => left + (step - firstStep) / (lastStep - firstStep) * (right - left);
    this.y = value => bottom - (value - low) / (high - low) * (bottom - top);
    this.plot.replaceChildren();
    const size = {width: this.width, height: this.height};
    const svg = addSvg(this.plot, "svg", {...size, role: "img", "aria-label": this.chart.name});
    this.drawAxes(svg, low, high, left, right);
    const id = "clip" + this.index, clip = addSvg(addSvg(svg, "defs"), "clipPath", {id});
    addSvg(clip, "rect", {x: left - 3, y: top - 3, width: right - left + 6, height: bottom - top + 6});
    const inside = addSvg(svg, "g", {"clip-path": `url(#${id})`});
    for (const series of shown) this.drawCurve(inside, series);
    if (!shown.length) {
      const text = this.chart.series.some(s => s.window) ? "nothing chosen" : "no finite value";
      addSvg(svg, "text", {x: (left + right) / 2, y: (top + bottom) / 2 - 8, "text-anchor": "middle"}, text);
    }
    this.overlay = addSvg(svg, "g");
    this.drawOverlay();
  }

  drawAxes(svg, low, high, left, right) {
    const [values, valueStep] = ticks(low, high, 4);
    for (const value of values) {
      const y = this.y(value);
      addSvg(svg, "line", {class: value === 0 ? "base" : "rule", x1: left, x2: right, y1: y, y2: y});
      addSvg(svg, "text", {x: left - 7, y: y + 4, "text-anchor": "end"},
        formatTick(value, valueStep, Math.max(-low, high)));
    }
    const [steps, stepStep] = ticks(firstStep, lastStep, clamp(this.width / 90, 2, 6));
    for (const step of steps.filter(Number.isInteger)) {
      const fits = this.x(step) <= right - 12, x = fits ? this.x(step) : this.width;
      addSvg(svg, "text", {x, y: this.height - 5, "text-anchor": fits ? "middle" : "end"},
        formatTick(step, stepStep, lastStep));
    }
  }

  drawCurve(parent, series) {
    const group = addSvg(parent, "g", {class: "c" + this.chart.series.indexOf(series) % COLOURS});
    const y = value => clamp(this.y(value), -1e4, 1e4).toFixed(1);  // browsers lose precision with larger numbers
    const path = (values, indices) => indices.map(i => this.x(series.x[i]).toFixed(1) + "," + y(values[i])).join("L");
    for (const indices of stretches(series.y)) {
      if (series.low) {
        const d = `M${path(series.high, indices)}L${path(series.low, [...indices].reverse())}Z`;
        addSvg(group, "path", {class: "band", d});
      }
      if (indices.length > 1) addSvg(group, "path", {class: "line", d: "M" + path(series.y, indices)});
      const dots = indices.length === 1 || series.x.length <= DOTS ? indices : [];
      for (const i of dots) addSvg(group, "circle", {class: "dot", cx: this.x(series.x[i]), cy: y(series.y[i]), r: 2.5});
    }
  }

  // Draws lines at the hovered and the marked step. The legend shows the values there, or the last ones.
  drawOverlay() {
    if (!this.overlay) return;
    this.overlay.replaceChildren();
    const top = MARGIN.top, bottom = this.height - MARGIN.bottom;
    const rule = (step, name) =>
      addSvg(this.overlay, "line", {class: name, x1: this.x(step), x2: this.x(step), y1: top, y2: bottom});
    if (marked != null && marked >= firstStep && marked <= lastStep) rule(marked, "mark");
    if (hovered != null) rule(hovered, "cursor");
    this.stepText.textContent = hovered == null ? "" : "step " + formatNumber(Math.round(hovered));
    this.chart.series.forEach((series, i) => {
      const j = hovered == null || !series.x.length ? -1 : nearest(series.x, hovered);
      const value = j < 0 ? series.last : series.y[j];
      this.keys[i].querySelector("output").textContent = formatNumber(value);
      if (j >= 0 && value != null && pressed(this.keys[i])) {
        const at = {cx: this.x(series.x[j]), cy: clamp(this.y(value), top, bottom), r: 3.5};
        addSvg(this.overlay, "circle", {class: "dot c" + i % COLOURS, ...at});
      }
    });
  }
}

function pressed(key) { return key.getAttribute("aria-pressed") === "true"; }
function hover(step) {
  hovered = step;
  for (const chart of charts) chart.drawOverlay();
}
document.addEventListener("mark", event => {
  marked = event.detail;
  for (const chart of charts) chart.drawOverlay();
});
const figures = [...document.querySelectorAll(".chart")];
const charts = data.charts.map((chart, i) => new Chart(chart, figures[i], i));
for (const chart of charts) chart.draw();
