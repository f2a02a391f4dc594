// What every play page needs: the client of the server, canvases, pictures from files, and texts.
"use strict";

const model = JSON.parse(document.getElementById("data").textContent);
const element = id => document.getElementById(id);
const MEGAPIXEL = 1e6;
// Largest picture: a network that needs all of it at once takes more memory, and a browser draws 16 megapixels safely.
const MOST_AT_ONCE = 0.3 * MEGAPIXEL, MOST_IN_TILES = MEGAPIXEL, MOST_RESULT = 16 * MEGAPIXEL;

// Sends jobs to a worker, or where the browser has none to a server in this page; answers of replaced jobs are dropped.
class Client {
  constructor() {
    this.latest = {};  // {id, onAnswer, onFailure} by channel
    this.ids = 0;
    const load = {type: "load", model, weights: element("weights").textContent, simd: true};
    try {
      if (typeof Worker === "undefined" || typeof Blob === "undefined") throw new Error("no workers");
      const source = new Blob([element("engine").textContent, "\nserve();"], {type: "text/javascript"});
      const worker = new Worker(URL.createObjectURL(source));
      worker.onmessage = ({data}) => this.receive(data);
      worker.onerror = () => this.fallBack(load);  // a policy of the browser or of an extension
      this.send = (message, transferred) => worker.postMessage(message, transferred);
      this.send(load);
    } catch {
      this.fallBack(load);
    }
  }

  fallBack(load) {
    if (this.local) return;
    this.local = true;
    const server = new Server(message => this.receive(message));
    this.send = message => server.receive(message);
    remark("This browser runs no workers here, so the page computes by itself and may stutter.");
    this.send(load);
    for (const {message} of Object.values(this.latest)) if (message) this.send(message);
  }

  request(channel, message, onAnswer, onFailure = text => say(text)) {
    const id = ++this.ids, job = {...message, channel, id};
    this.latest[channel] = {id, onAnswer, onFailure, message: job};
    this.send(job);
  }

  cancel(channel) { delete this.latest[channel]; }

  receive(message) {
    if (message.type === "ready") {
      document.body.dataset.ready = message.fast ? "fast" : "plain";
      if (!message.fast) remark("This browser has no fast WebAssembly, so images take about four times as long.");
      return;
    }
    const job = this.latest[message.channel];
    if (message.type === "failed" && !message.channel) say(message.text);
    if (!job || job.id !== message.id) return;
    if (message.type === "failed") job.onFailure(`The network failed: ${message.text}`);
    else job.onAnswer(message);
  }
}

function say(text) {
  const note = element("note");
  note.textContent = text;
  note.hidden = !text;
}

// Says what this browser lacks, for as long as the page is open.
function remark(text) {
  element("environment").append(` ${text}`);
}

// Draws an answer of the server; a canvas has as many pixels as the image, and the style sheet enlarges it.
function draw(canvas, {width, height, pixels}) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  canvas.getContext("2d").putImageData(new ImageData(pixels, width, height), 0, 0);
}

function save(canvas, name) {
  canvas.toBlob(blob => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name.replace(/[^\p{L}\p{N}.-]+/gu, "-") + ".png";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }, "image/png");
}

const fileName = file => file.name ? `${file.name.slice(0, 60)}` : "The picture";

// Returns a file as a bitmap, upright; an Error says in one sentence why not.
async function openPicture(file) {
  try {
    return await createImageBitmap(file);
  } catch {
    throw new Error(`${fileName(file)} is no picture that this browser can read; drop a PNG, JPEG or WebP.`);
  }
}

// Returns a part of a bitmap as RGBA pixels of width x height. Transparent parts are shown on white.
function pixelsOf(bitmap, width, height, [left, top, w, h] = [0, 0, bitmap.width, bitmap.height]) {
  const canvas = Object.assign(document.createElement("canvas"), {width, height});
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.imageSmoothingEnabled = w !== width || h !== height;
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, left, top, w, h, 0, 0, width, height);
  return {pixels: context.getImageData(0, 0, width, height).data, width, height};
}

// Returns the middle square of a bitmap at the size of the model's images.
function squareOf(bitmap, size) {
  const side = Math.min(bitmap.width, bitmap.height);
  return pixelsOf(bitmap, size, size, [(bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side]);
}

// Calls take(file) for pictures that are dropped, pasted or chosen.
function acceptPictures(take) {
  const input = element("file"), zone = element("drop");
  element("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => { if (input.files[0]) take(input.files[0]); input.value = ""; });
  document.addEventListener("dragover", event => { event.preventDefault(); zone.classList.add("over-it"); });
  document.addEventListener("dragleave", event => { if (!event.relatedTarget) zone.classList.remove("over-it"); });
  document.addEventListener("drop", event => {
    event.preventDefault();
    zone.classList.remove("over-it");
    if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
    else say("What was dropped is no file; drop a picture from a folder, or choose one.");
  });
  document.addEventListener("paste", event => { if (event.clipboardData.files[0]) take(event.clipboardData.files[0]); });
}
