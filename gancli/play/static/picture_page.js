// The page of a model that turns pictures into pictures: translated, enlarged, or repainted where a mask hides them.
"use strict";

const BRUSH = 0.03;  // radius of the brush, of the picture's longer side
const COMMANDS = {translate: "gan translate", upscale: "gan upscale", inpaint: "gan inpaint"};
const client = new Client();
let current = null;  // {name, pixels, width, height, mask}

// Largest number of pixels of a picture for this network.
function mostPixels() {
  const most = model.halo > WIDEST_HALO ? MOST_AT_ONCE : MOST_IN_TILES;
  return Math.min(most, MOST_RESULT / model.scale ** 2);
}

async function take(file) {
  try {
    const bitmap = await openPicture(file), {width, height} = bitmap;
    const factor = Math.min(1, Math.sqrt(mostPixels() / (width * height)));
    const [w, h] = [width, height].map(side => Math.max(1, Math.round(side * factor)));
    current = {...pixelsOf(bitmap, w, h), name: fileName(file).replace(/\.\w+$/, "")};
    say(factor < 1 ? `${fileName(file)} has ${width} x ${height} pixels; this page works on ${w} x ${h} of it, and ` +
      `${COMMANDS[model.kind]} takes all.` : "");
    if (model.masked) current.mask = middle(w, h);
    element("result").hidden = false;
    compute();
  } catch (error) {
    say(error.message);
  }
}

// The middle half of each side, as gan inpaint mask=centre.
function middle(width, height) {
  const mask = new Uint8Array(width * height);
  const [h, w] = [height, width].map(side => Math.max(Math.floor(side / 2), 1));
  const [top, left] = [Math.floor((height - h) / 2), Math.floor((width - w) / 2)];
  for (let y = top; y < top + h; y++) mask.fill(1, y * width + left, y * width + left + w);
  return mask;
}

function compute() {
  const {pixels, width, height, mask} = current, s = model.scale, began = performance.now();
  const before = element("before"), after = element("after"), progress = element("progress");
  Object.assign(after, {width: s * width, height: s * height});
  element("compare").style.setProperty("--shape", String(width / height));
  // Small pictures are shown larger than they are, and none wider than its result.
  element("compare").style.setProperty("--most", `${Math.max(s * width, Math.min(420, 16 * width))}px`);
  for (const canvas of element("compare").children) canvas.classList.toggle("coarse", s * width < 300);
  draw(before, {pixels, width, height});
  showMask();
  const graph = model.graphs.back && element("back").checked ? "back" : "image";
  progress.hidden = false;
  progress.value = 0;
  element("sizes").textContent = `${width} x ${height} pixels to ${s * width} x ${s * height}`;
  const picture = {pixels, width, height, mask};
  client.request("picture", {type: "translate", graph, picture}, answer => {
    const tile = new ImageData(answer.pixels, answer.width, answer.height);
    after.getContext("2d").putImageData(tile, answer.left, answer.top);
    progress.value = answer.done;
    const seconds = (performance.now() - began) / 1000, left = seconds / answer.done - seconds;
    element("sizes").textContent = answer.done < 1 ? `about ${Math.ceil(left)} s left`
      : `${width} x ${height} pixels to ${s * width} x ${s * height} in ${seconds.toFixed(1)} s`;
    progress.hidden = answer.done >= 1;
  }, text => { progress.hidden = true; say(text); });
}

function compare(part) {
  element("part").value = part;
  element("compare").style.setProperty("--part", `${100 * part}%`);
}

function dragDivider(box) {
  const follow = event => {
    const {left, width} = box.getBoundingClientRect();
    if (event.buttons) compare(Math.min(Math.max((event.clientX - left) / width, 0), 1));
  };
  box.addEventListener("pointerdown", event => { box.setPointerCapture(event.pointerId); follow(event); });
  box.addEventListener("pointermove", follow);
}

// --- the mask -----------------------------------------------------------------------------------------------------

function showMask() {
  if (!model.masked) return;
  const {width, height, mask} = current, pixels = new Uint8ClampedArray(4 * width * height);
  mask.forEach((hidden, i) => { if (hidden) pixels.set([217, 102, 43, 150], 4 * i); });
  draw(element("mask"), {pixels, width, height});
}

// Paints with the pointer on the picture; the network runs when it is lifted.
function paintMask(canvas) {
  let last = null;
  const painting = on => canvas.classList.toggle("painting", on);
  const paint = event => {
    const box = canvas.getBoundingClientRect(), {width, height, mask} = current;
    const [x, y] = [(event.clientX - box.left) / box.width * width, (event.clientY - box.top) / box.height * height];
    const radius = Math.max(0.5, BRUSH * Math.max(width, height)), from = last ?? [x, y];
    const steps = Math.ceil(Math.hypot(x - from[0], y - from[1]) / radius) || 1;
    for (let i = 1; i <= steps; i++) {
      const cx = from[0] + (x - from[0]) * i / steps, cy = from[1] + (y - from[1]) * i / steps;
      for (let py = Math.max(0, Math.floor(cy - radius)); py < Math.min(height, cy + radius); py++) {
        for (let px = Math.max(0, Math.floor(cx - radius)); px < Math.min(width, cx + radius); px++) {
          if (Math.hypot(px + 0.5 - cx, py + 0.5 - cy) <= radius) mask[py * width + px] = 1;
        }
      }
    }
    last = [x, y];
    showMask();
  };
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    painting(true);
    paint(event);
  });
  canvas.addEventListener("pointermove", event => { if (last) paint(event); });
  canvas.addEventListener("pointerup", () => { last = null; painting(false); compute(); });
  canvas.addEventListener("pointercancel", () => { last = null; painting(false); });
  element("clear").addEventListener("click", () => { current.mask.fill(0); compute(); });
  element("middle").addEventListener("click", () => {
    current.mask = middle(current.width, current.height);
    compute();
  });
}

// --- start --------------------------------------------------------------------------------------------------------

acceptPictures(take);
element("part").addEventListener("input", event => compare(Number(event.target.value)));
element("save").addEventListener("click", () => save(element("after"), `${current.name} ${model.kind}`));
for (const input of document.querySelectorAll("input[name=way]")) {
  input.addEventListener("change", () => { if (current) compute(); });
}
if (model.masked) paintMask(element("compare"));
else dragDivider(element("compare"));
