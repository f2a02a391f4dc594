// The page of a model that generates images from noise: seeds, classes or labels, directions, mixing, a walk and a grid.
"use strict";

const GRID = 24, WALK_SECONDS = 2.5;
const GOLDEN = 0.6180339887498949;
const MOST_BUTTONS = 12;  // of classes; more are a list
const state = {
  seed: 0, image: 0, other: {seed: 1, image: 1}, label: null, mix: 0, truncation: 1,
  amounts: model.directions.map(() => 0), towards: {label: 0, part: 0},  // another class, for all images
  given: null,  // latent of a picture
  chosen: model.columns.map(() => null), codes: model.codes,  // of several labels: values by column, and the rows of c
};
const client = new Client();
let walk = null;  // {start: time of its first frame}

const classCount = model.classNames.length;
const labelOf = image => state.label ?? (classCount ? image % classCount : 0);
const oneHot = label => Float32Array.from({length: classCount}, (_, i) => i === label ? 1 : 0);


// Where the part of each column begins in c; a column of a number is one of no values.
const widths = model.columns.map(column => column.values.length || 1);
const starts = widths.map((_, k) => widths.slice(0, k).reduce((sum, width) => sum + width, 0));

// Returns the rows of c with the chosen labels in place, each once and in the order of gan sample.
function chosenCodes() {
  const rows = model.codes.map(row => row.slice());
  state.chosen.forEach((value, k) => {
    if (value === null) return;
    const {values, low, high} = model.columns[k];
    const part = values.length ? values.map((_, i) => Number(i === value)) : [Math.fround((value - low) / (high - low))];
    for (const row of rows) row.splice(starts[k], widths[k], ...part);
  });
  const first = (a, b) => { const i = a.findIndex((v, k) => v !== b[k]); return i < 0 ? 0 : a[i] - b[i]; };
  const sorted = rows.sort(first).filter((row, i) => !i || first(row, rows[i - 1]));
  return sorted.map((row, i) => [i * GOLDEN % 1, row]).sort((a, b) => a[0] - b[0]).map(([, row]) => row);
}

const conditionOf = image =>
  model.columns.length ? Float32Array.from(state.codes[image % state.codes.length]) : oneHot(labelOf(image));

// The latent of an image by its number, before sliders: z and c are those of gan sample.
function latentOf(seed, image) {
  return {z: noiseOf(seed, image, model.zDim), c: conditionOf(image)};
}

const number = v => String(Number(v.toPrecision(4)));

// Returns what c asks for, such as "class cat" or "shape circle, size 3".
function described(c) {
  if (classCount) return `class ${model.classNames[c.indexOf(1)]}`;
  return model.columns.map(({name, values, low, high}, k) => {
    const part = [...c.slice(starts[k], starts[k] + widths[k])];
    const value = values.length ? values[part.indexOf(Math.max(...part))] : number(low + part[0] * (high - low));
    return `${name} ${value}`;
  }).join(", ");
}

// Returns a word as a shell takes it.
const quoted = word => /^[\w.,=[\]-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;

// Returns texts that are not empty, with commas between them.
const joined = (...texts) => texts.filter(Boolean).join(", ");

function edited({z, c}) {
  const moved = z.map(v => v * state.truncation);
  state.amounts.forEach((amount, k) => {
    if (amount) model.directions[k].forEach((v, i) => { moved[i] += amount * v; });
  });
  const {label, part} = state.towards;
  return {z: moved, c: part ? c.map((v, i) => (1 - part) * v + (i === label ? part : 0)) : c};
}

const first = () => state.given ?? latentOf(state.seed, state.image);
const second = () => latentOf(state.other.seed, state.other.image);

function mixed() {
  const [a, b, t] = [first(), second(), state.mix];
  if (!t) return a;
  return {z: slerp(a.z, b.z, t), c: a.c.map((v, i) => (1 - t) * v + t * b.c[i])};
}

function title() {
  const start = state.given ? "your picture" : `image ${state.image} of seed ${state.seed}`;
  if (state.mix) return `between ${start} and image ${state.other.image} of seed ${state.other.seed}`;
  return joined(start, described(first().c));
}

function showImage(then = () => {}) {
  client.request("image", {type: "generate", latents: [edited(mixed())]}, answer => {
    draw(element("image"), answer);
    element("image").setAttribute("aria-label", title());
    element("caption").textContent = title();
    then();
  });
}

function showEnds() {
  const canvases = [element("first"), element("second")];
  client.request("ends", {type: "generate", latents: [first(), second()].map(edited)}, answer => {
    draw(canvases[answer.i], answer);
  });
}

function showGrid() {
  const cells = [...element("grid").children];
  const latents = cells.map((_, i) => edited(latentOf(state.seed, i)));
  client.request("grid", {type: "generate", latents}, answer => draw(cells[answer.i].firstChild, answer));
  cells.forEach((cell, i) => {
    cell.setAttribute("aria-pressed", String(!state.given && i === state.image));
    const label = described(conditionOf(i));
    cell.setAttribute("aria-label", joined(`image ${i}`, label));
    cell.title = label ? `${i}: ${label.replace(/^class /, "")}` : String(i);
  });
  const labels = model.columns.map(({name, values}, k) =>
    state.chosen[k] === null ? "" : ` ${quoted(`labels.${name}=${values[state.chosen[k]] ?? state.chosen[k]}`)}`);
  const chosen = state.label === null ? labels.join("") : ` ${quoted(`classes=[${model.classNames[state.label]}]`)}`;
  element("grid-title").textContent = `Images 0 to ${cells.length - 1} of seed ${state.seed}`;
  const edits = state.truncation !== 1 || state.towards.part || state.amounts.some(Boolean);
  element("grid-note").textContent =
    edits ? "with the changes above" : `as gan sample seed=${state.seed}${chosen} generates them`;
}

function showAll() { showImage(); showEnds(); showGrid(); }

// --- what can be changed ------------------------------------------------------------------------------------------

const randomSeed = () => crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000;

const another = () => ({seed: randomSeed(), image: randomSeed() % GRID});

function setSeed(seed) {
  setWalk(null);
  Object.assign(state, {seed, given: null, mix: 0});
  element("seed").value = seed;
  element("mix").value = 0;
  showAll();
}

function setMix(t) {
  setWalk(null);
  state.mix = t;
  element("mix").value = t;
  showImage();
}

function addClasses() {
  const choices = [["all", null], ...model.classNames.map((name, i) => [name, i])];
  const box = element("classes");
  box.hidden = false;
  const choose = label => {
    state.label = label;
    // A picture keeps its latent and becomes one of the class.
    if (state.given && label !== null) state.given.c = oneHot(label);
    else state.given = null;
    showAll();
  };
  if (classCount > MOST_BUTTONS) {
    const list = box.appendChild(document.createElement("select"));
    for (const [name, label] of choices) list.add(new Option(name, label ?? ""));
    list.setAttribute("aria-label", "class");
    list.addEventListener("change", () => choose(list.value === "" ? null : Number(list.value)));
    return;
  }
  for (const [name, label] of choices) {
    const key = box.appendChild(document.createElement("label")), input = document.createElement("input");
    Object.assign(input, {type: "radio", name: "class", checked: label === null});
    input.addEventListener("change", () => choose(label));
    key.append(input, Object.assign(document.createElement("span"), {textContent: name}));
  }
}

// Adds a control for each label: a list of the values of classes, a slider for a number.
function addLabels() {
  const inputs = model.columns.map(({name, values, low, high}, k) => {
    const choose = value => {
      state.chosen[k] = value;
      state.codes = chosenCodes();
    };
    if (!values.length) {
      const within = v => Math.min(Math.max(Number(number(v)), low), high);  // with as many digits as are shown
      const range = {min: low, max: high, step: "any"};
      return addSlider(name, range, (low + high) / 2, number, v => choose(within(v)), "labels");
    }
    const row = element("labels").appendChild(document.createElement("div")), list = document.createElement("select");
    for (const [i, value] of ["any", ...values].entries()) list.add(new Option(value, i - 1));
    list.setAttribute("aria-label", name);
    list.addEventListener("change", () => { choose(list.value === "-1" ? null : Number(list.value)); showAll(); });
    list.reset = () => { list.value = "-1"; };
    row.append(Object.assign(document.createElement("span"), {textContent: name, title: name}), list);
    return list;
  });
  const chooseNone = () => {
    for (const input of inputs) {
      input.reset();
      if (input.nextSibling) input.nextSibling.textContent = "any";  // of a slider
    }
    state.chosen.fill(null);
    state.codes = chosenCodes();
  };
  element("any").addEventListener("click", () => { chooseNone(); showAll(); });
  chooseNone();
}

function addSlider(name, range, value, show, change, box = "sliders") {
  const row = element(box).appendChild(document.createElement("div"));
  const input = Object.assign(document.createElement("input"), {type: "range", ...range, value});
  const output = document.createElement("output");
  input.setAttribute("aria-label", name);
  const update = () => { output.textContent = show(Number(input.value)); };
  row.append(Object.assign(document.createElement("span"), {textContent: name, title: name}), input, output);
  input.addEventListener("input", () => { update(); change(Number(input.value)); showAll(); });
  input.classList.toggle("signed", range.min === -range.max);
  input.reset = () => { input.value = value; update(); change(value); };
  update();
  return input;
}

function addSliders() {
  const signed = v => (v > 0 ? "+" : "") + v.toFixed(1).replace("-", "−");
  const inputs = model.directions.map((_, k) =>
    addSlider(`direction ${k + 1}`, {min: -6, max: 6, step: 0.1}, 0, signed, v => { state.amounts[k] = v; }));
  if (classCount) {
    const list = document.createElement("select");
    for (const [i, name] of model.classNames.entries()) list.add(new Option(name, i));
    list.setAttribute("aria-label", "class to go towards");
    list.addEventListener("change", () => { state.towards.label = Number(list.value); showAll(); });
    const move = v => { state.towards.part = v; };
    const part = addSlider("towards", {min: 0, max: 1, step: 0.01}, 0, v => v.toFixed(2), move);
    part.previousSibling.append(list);
    inputs.push(part);
  }
  const truncate = v => { state.truncation = v; };
  inputs.push(addSlider("truncation", {min: 0, max: 1.2, step: 0.01}, 1, v => v.toFixed(2), truncate));
  element("reset").addEventListener("click", () => { inputs.forEach(input => input.reset()); showAll(); });
}

function addGrid() {
  for (let i = 0; i < GRID; i++) {
    const cell = element("grid").appendChild(document.createElement("button"));
    cell.append(Object.assign(document.createElement("canvas"), {width: model.size, height: model.size}));
    cell.addEventListener("click", () => {
      setWalk(null);
      Object.assign(state, {image: i, given: null, mix: 0});
      element("mix").value = 0;
      showAll();
    });
  }
}

// --- walking and dragging -----------------------------------------------------------------------------------------

// A walk mixes the first image into the second one, which then is the first. Each frame waits for the one before it.
function frame(mine, time) {
  if (walk !== mine) return;
  walk.start ??= time - state.mix * WALK_SECONDS * 1000;
  const t = (time - walk.start) / 1000 / WALK_SECONDS;
  if (t >= 1) {
    Object.assign(state, {...state.other, given: null, other: another(), mix: 0});
    element("seed").value = state.seed;
    walk.start = time;
    showEnds();
    showGrid();
  } else {
    state.mix = t * t * (3 - 2 * t);  // slow at both ends
  }
  element("mix").value = state.mix;
  showImage(() => requestAnimationFrame(next => frame(mine, next)));
}

function setWalk(started) {
  walk = started;
  element("play").classList.toggle("on", Boolean(walk));
  element("play").setAttribute("aria-label", walk ? "stop the walk" : "walk from seed to seed");
  if (walk) requestAnimationFrame(time => frame(started, time));
}

function dragAcross(canvas) {
  const follow = event => {
    const box = canvas.getBoundingClientRect();
    setMix(Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1));
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    canvas.dragged = event;
  });
  canvas.addEventListener("pointermove", event => {
    // A finger that scrolls or a click is no drag.
    if (canvas.dragged && Math.abs(event.clientX - canvas.dragged.clientX) > 4) canvas.moved = true;
    if (canvas.moved) follow(event);
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => { canvas.dragged = null; canvas.moved = false; });
  }
}

// --- pictures -----------------------------------------------------------------------------------------------------

async function encodePicture(file) {
  try {
    const bitmap = await openPicture(file), picture = squareOf(bitmap, model.size);
    const fitted = bitmap.width !== model.size || bitmap.height !== model.size;
    const given = `${bitmap.width} x ${bitmap.height} pixels`, fit = `${model.size} x ${model.size}`;
    const rows = model.columns.length ? state.codes.map(row => Float32Array.from(row)) : [oneHot(0)];
    const candidates = classCount ? model.classNames.map((_, i) => oneHot(i)) : rows;
    client.request("picture", {type: "encode", picture, candidates}, ({latent}) => {
      setWalk(null);
      Object.assign(state, {given: {z: latent.z, c: latent.c}, mix: 0});
      element("mix").value = 0;
      say("");
      draw(element("original"), picture);
      const decibels = latent.error ? `${(10 * Math.log10(4 / latent.error)).toFixed(1)} dB` : "exact";
      const label = described(latent.c) && `, nearest as ${described(latent.c)}`;
      element("fidelity").textContent =
        `${fitted ? `The middle of its ${given} was fitted to ${fit}. ` : ""}The large image is its reconstruction, PSNR ${decibels}${label}; the sliders edit it.`;
      element("given").hidden = false;
      showAll();
    });
  } catch (error) {
    say(error.message);
  }
}

// --- start --------------------------------------------------------------------------------------------------------

if (classCount) addClasses();
if (model.columns.length) addLabels();
addSliders();
addGrid();
dragAcross(element("image"));
element("seed").addEventListener("change", event => {
  const seed = Math.floor(Number(event.target.value));
  if (Number.isSafeInteger(seed)) setSeed(seed);
  else event.target.value = state.seed;
});
element("shuffle").addEventListener("click", () => setSeed(randomSeed()));
element("other").addEventListener("click", () => {
  state.other = another();
  showEnds();
  showImage();
});
element("mix").addEventListener("input", event => setMix(Number(event.target.value)));
element("play").addEventListener("click", () => setWalk(walk ? null : {start: null}));
element("save").addEventListener("click", () => save(element("image"), `${model.title} ${title()}`));
if (model.graphs.encode) acceptPictures(encodePicture);
showAll();
