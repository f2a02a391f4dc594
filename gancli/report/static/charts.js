// Draws the charts of the page as SVG from the JSON in #data. Curves are described in charts.py.
// A click on a chart sends the event "seek" with a step; the event "mark" with a step draws a dashed line there.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const MARGIN = {left: 46, right: 14, top: 26, bottom: 38};  // around the curves, pixels
const COLOURS = 8, DOTS = 24;  // a curve of at most so many points shows them and is not smoothed
const DEFAULT_VIEW = {x: "step", y: "linear", smooth: "off"};
const STEP_TITLES = {step: "step", minutes: "minutes of training", images: "images trained on"};
const view = {...DEFAULT_VIEW};  // as chosen above the charts
let hovered = null, marked = null;  // steps

// The address keeps what was chosen: a running run reloads its page.
function remember(key, value) {
  const chosen = new URLSearchParams(location.hash.slice(1));
  if (value == null) chosen.delete(key); else chosen.set(key, value);
  try { history.replaceState(null, "", "#" + chosen); } catch { /* not allowed for some local files */ }
}

function remembered(key) { return new URLSearchParams(location.hash.slice(1)).get(key); }

function addSvg(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text != null) element.textContent = text;
  return parent.appendChild(element);
}

function pressed(key) { return key.getAttribute("aria-pressed") !== "false"; }

// Position of a step on the chosen axis: the step itself, minutes or images.
function onAxis(step) {
  const axis = data.axes?.[view.x];
  return axis ? interpolate(axis.x, axis.y, step) : step;
}

// All charts have the same axis of steps, so that a step under the pointer is read in every chart.
function stepRange() {
  const ends = data.charts.flatMap(chart => chart.series).filter(s => s.x.length).flatMap(s => [s.x[0], s.x.at(-1)]);
  const low = Math.min(...ends.map(onAxis)), high = Math.max(...ends.map(onAxis));
  if (!(low < high)) return [0, Math.max(high, 1)];
  return [low <= 0.25 * high ? 0 : low, high];
}

class Chart {
  constructor(chart, figure, index) {
    this.chart = chart;
    this.index = index;
    this.plot = figure.querySelector(".plot");
    this.stepText = figure.querySelector(".at");
    this.keys = [...figure.querySelectorAll(".key")];
    this.width = 0;
    this.plot.tabIndex = 0;
    this.plot.setAttribute("role", "group");
    this.plot.setAttribute("aria-label", `${chart.name}: the arrow keys read its values`);
    this.plot.addEventListener("pointermove", event => hover(this.stepAt(event)));
    this.plot.addEventListener("pointerleave", () => hover(null));
    this.plot.addEventListener("blur", () => hover(null));
    this.plot.addEventListener("click", event => this.seek(this.stepAt(event)));
    this.plot.addEventListener("keydown", event => this.readByKey(event));
    for (const key of this.keys) if (key.hasAttribute("aria-pressed")) key.addEventListener("click", () => {
      key.setAttribute("aria-pressed", !pressed(key));
      this.draw();
    });
    new ResizeObserver(() => { if (this.plot.clientWidth !== this.width) this.draw(); }).observe(this.plot);
  }

  get shown() { return this.chart.series.filter((s, i) => pressed(this.keys[i]) && s.window); }

  seek(step) { if (step != null) document.dispatchEvent(new CustomEvent("seek", {detail: step})); }

  // The step of this chart's points that is nearest to a step, or null without points.
  ownStep(step) {
    const steps = this.shown.map(s => s.x[nearest(s.x, step)]);
    return steps.length ? steps.reduce((a, b) => Math.abs(b - step) < Math.abs(a - step) ? b : a) : null;
  }

  stepAt(event) {
    const x = event.clientX - this.plot.getBoundingClientRect().left;
    let best = null, distance = Infinity;
    for (const series of this.shown) for (const step of series.x) {
      const d = Math.abs(this.x(step) - x);
      if (d < distance) [best, distance] = [step, d];
    }
    return best;
  }

  readByKey(event) {
    const steps = [...new Set(this.shown.flatMap(s => s.x))].sort((a, b) => a - b);
    if (!steps.length || event.altKey || event.ctrlKey || event.metaKey) return;
    const last = steps.length - 1, at = hovered == null ? last + 1 : nearest(steps, hovered);
    const next = {ArrowLeft: at - 1, ArrowRight: hovered == null ? 0 : at + 1, Home: 0, End: last}[event.key];
    if (next != null) hover(steps[clamp(next, 0, last)]);
    else if (event.key === "Enter") this.seek(hovered);
    else if (event.key === "Escape") hover(null);
    else return;
    event.preventDefault();
    event.stopPropagation();  // elsewhere the arrow keys choose a grid
  }

  draw() {
    this.width = this.plot.clientWidth;
    this.height = this.plot.clientHeight;
    if (!this.width) return;
    const shown = this.shown, windows = shown.map(s => s.window);
    this.log = view.y === "log" && shown.length > 0 && windows.every(w => w[0] > 0);
    const [low, high] = this.log ? logRange(windows) : linearRange(windows, this.chart);
    const left = MARGIN.left, right = this.width - MARGIN.right, top = MARGIN.top, bottom = this.height - MARGIN.bottom;
    const [first, last] = stepRange(), scale = this.log ? value => Math.log(Math.max(value, 1e-300)) : value => value;
    this.at = position => left + (position - first) / (last - first) * (right - left);
    this.x = step => this.at(onAxis(step));
    this.y = value => bottom - (scale(value) - scale(low)) / (scale(high) - scale(low)) * (bottom - top);
    this.plot.replaceChildren();
    const size = {width: this.width, height: this.height, viewBox: `0 0 ${this.width} ${this.height}`};
    const svg = addSvg(this.plot, "svg", {...size, "aria-hidden": true});
    this.drawValueAxis(svg, low, high, left, right, shown);
    this.drawStepAxis(svg, first, last, right);
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

  drawValueAxis(svg, low, high, left, right, shown) {
    const [values, step] = this.log ? [logTicks(low, high), 0] : ticks(low, high, 4);
    for (const value of values) {
      const y = this.y(value), text = this.log ? formatNumber(value) : formatTick(value, step, Math.max(-low, high));
      addSvg(svg, "line", {class: value === 0 ? "base" : "rule", x1: left, x2: right, y1: y, y2: y});
      addSvg(svg, "text", {x: left - 7, y: y + 4, "text-anchor": "end"}, text);
    }
    const refused = view.y === "log" && !this.log && shown.length ? " (has values of 0 or below: linear)" : "";
    addSvg(svg, "text", {class: "title", x: 0, y: 11}, (this.chart.value_axis ?? "") + (this.log ? ", log" : refused));
  }

  drawStepAxis(svg, first, last, right) {
    const [positions, distance] = ticks(first, last, clamp(this.width / 90, 2, 6)), y = this.height - 21;
    for (const position of view.x === "minutes" ? positions : positions.filter(Number.isInteger)) {
      const fits = this.at(position) <= right - 12, x = fits ? this.at(position) : this.width;
      addSvg(svg, "text", {x, y, "text-anchor": fits ? "middle" : "end"}, formatTick(position, distance, last));
    }
    const title = {class: "title", x: (MARGIN.left + right) / 2, y: this.height - 4, "text-anchor": "middle"};
    addSvg(svg, "text", title, STEP_TITLES[view.x]);
  }

  drawCurve(parent, series) {
    const group = addSvg(parent, "g", {class: "c" + this.chart.series.indexOf(series) % COLOURS});
    const y = value => clamp(this.y(value), -1e4, 1e4).toFixed(1);  // browsers lose precision with larger numbers
    const path = (values, indices) => indices.map(i => this.x(series.x[i]).toFixed(1) + "," + y(values[i])).join("L");
    const smoothed = view.smooth !== "off" && series.x.length > DOTS;
    const values = smoothed ? smooth(series.y, series.window, view.smooth) : series.y;
    for (const indices of stretches(series.y)) {
      if (series.low) {
        const d = `M${path(series.high, indices)}L${path(series.low, [...indices].reverse())}Z`;
        addSvg(group, "path", {class: "band", d});
      }
      if (indices.length > 1) {
        if (smoothed) addSvg(group, "path", {class: "raw", d: "M" + path(series.y, indices)});
        addSvg(group, "path", {class: "line", d: "M" + path(values, indices)});
      }
      const dots = indices.length === 1 || series.x.length <= DOTS ? indices : [];
      for (const i of dots) addSvg(group, "circle", {class: "dot", cx: this.x(series.x[i]), cy: y(series.y[i]), r: 2.5});
    }
  }

  // Draws lines at the hovered and the marked step. The legend shows the values of the step that `at` names.
  drawOverlay() {
    if (!this.overlay) return;
    this.overlay.replaceChildren();
    const top = MARGIN.top, bottom = this.height - MARGIN.bottom, [first, last] = stepRange();
    const rule = (step, name) =>
      addSvg(this.overlay, "line", {class: name, x1: this.x(step), x2: this.x(step), y1: top, y2: bottom});
    if (marked != null && onAxis(marked) >= first && onAxis(marked) <= last) rule(marked, "mark");
    const step = hovered == null ? null : this.ownStep(hovered);
    if (step != null) rule(step, "cursor");
    let text = "";
    this.chart.series.forEach((series, i) => {
      const j = step == null ? series.y.findLastIndex(value => value != null) : indexAt(series.x, step);
      const value = j < 0 ? null : series.y[j];
      this.keys[i].querySelector("output").textContent = formatNumber(value);
      if (j < 0 || !pressed(this.keys[i])) return;
      if (step == null || series.x[j] === step) text ||= stepName(series, j);
      if (step == null || value == null) return;
      const at = {cx: this.x(series.x[j]), cy: clamp(this.y(value), top, bottom), r: 3.5};
      addSvg(this.overlay, "circle", {class: "dot c" + i % COLOURS, ...at});
    });
    this.stepText.textContent = step == null && text ? "last: " + text : text;
  }
}

// Index of the point at a step, -1 where a curve has none there. Buckets of different curves need not agree exactly.
function indexAt(xs, step) {
  const j = nearest(xs, step), gap = Math.min(...[j - 1, j + 1].filter(i => i in xs).map(i => Math.abs(xs[i] - xs[j])));
  return Math.abs(xs[j] - step) <= (gap === Infinity ? 0 : gap / 2) ? j : -1;
}

// "step 250", or "steps 240 to 260" where a point is the median of several rows; and where it is on the chosen axis.
function stepName(series, i) {
  const first = series.first?.[i] ?? series.x[i], final = series.final?.[i] ?? first;
  const name = first === final ? `step ${formatNumber(first)}` : `steps ${formatNumber(first)} to ${formatNumber(final)}`;
  if (view.x === "minutes") return `${name}, ${formatMinutes(onAxis(series.x[i]))}`;
  return view.x === "images" ? `${name}, ${formatNumber(Math.round(onAxis(series.x[i])))} images` : name;
}

function hover(step) {
  hovered = step;
  for (const chart of charts) chart.drawOverlay();
}

function choose(key, value) {
  view[key] = value;
  document.querySelector(".smoothed")?.toggleAttribute("hidden", view.smooth === "off");
  remember(key, value === DEFAULT_VIEW[key] ? null : value);
  for (const chart of charts) chart.draw();
}

document.addEventListener("mark", event => {
  marked = event.detail;
  for (const chart of charts) chart.drawOverlay();
});
const figures = [...document.querySelectorAll(".chart")];
const charts = data.charts.map((chart, i) => new Chart(chart, figures[i], i));
for (const chart of charts) chart.draw();
for (const choice of document.querySelectorAll(".view input")) {
  if (choice.value === remembered(choice.name)) {
    choice.checked = true;
    choose(choice.name, choice.value);
  }
  choice.addEventListener("change", () => choose(choice.name, choice.value));
}
document.querySelector(".view")?.removeAttribute("hidden");
