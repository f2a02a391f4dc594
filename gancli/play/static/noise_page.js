// The page of a model that generates images from noise: seeds, classes, directions, mixing, a walk and a grid.
"use strict";

const GRID = 24, WALK_SECONDS = 2.5;
const MOST_BUTTONS = 12;  // of classes; more are a list
const state = {
  seed: 0, image: 0, other: {seed: 1, image: 1}, label: null, mix: 0, truncation: 1,
  amounts: model.directions.map(() => 0), towards: {label: 0, part: 0},  // another class, for all images
  given: null,  // latent of a picture
};
const client = new Client();
let walk = null;  // {start: time of its first frame}

const classCount = model.classNames.length;
const labelOf = image => state.label ?? (classCount ? image % classCount : 0);
const oneHot = label => Float32Array.from({length: classCount}, (_, i) => i === label ? 1 : 0);

// The latent of an image by its number, before sliders: z and c are those of gan sample.
function latentOf(seed, image) {
  return {z: noiseOf(seed, image, model.zDim), c: oneHot(labelOf(image))};
}

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
  const number = state.given ? state.given.c.indexOf(1) : labelOf(state.image);
  const label = classCount ? `, class ${model.classNames[number]}` : "";
  return state.mix ? `between ${start} and image ${state.other.image} of seed ${state.other.seed}` : start + label;
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
    const name = classCount ? `, class ${model.classNames[labelOf(i)]}` : "";
    cell.setAttribute("aria-label", `image ${i}${name}`);
    cell.title = classCount ? `${i}: ${model.classNames[labelOf(i)]}` : String(i);
  });
  const chosen = state.label === null ? "" : ` classes=[${model.classNames[state.label]}]`;
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

function addSlider(name, range, value, show, change) {
  const row = element("sliders").appendChild(document.createElement("div"));
  const input = Object.assign(document.createElement("input"), {type: "range", ...range, value});
  const output = document.createElement("output");
  input.setAttribute("aria-label", name);
  const update = () => { output.textContent = show(Number(input.value)); };
  row.append(Object.assign(document.createElement("span"), {textContent: name}), input, output);
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
    const candidates = classCount ? model.classNames.map((_, i) => oneHot(i)) : [oneHot(0)];
    client.request("picture", {type: "encode", picture, candidates}, ({latent}) => {
      setWalk(null);
      Object.assign(state, {given: {z: latent.z, c: latent.c}, mix: 0});
      element("mix").value = 0;
      say("");
      draw(element("original"), picture);
      const decibels = latent.error ? `${(10 * Math.log10(4 / latent.error)).toFixed(1)} dB` : "exact";
      const label = classCount ? `, nearest as class ${model.classNames[latent.c.indexOf(1)]}` : "";
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
