// Image-to-image networks on pictures of any size, tile by tile: what gan translate, gan upscale and gan inpaint do.
"use strict";

const TILE = 96;  // edge in pixels of the input, without the context around it
const WIDEST_HALO = 64;  // a network that sees more than this around a pixel gets the whole picture at once

// Grey of 8-bit colours as Pillow and gancli/images.py compute it.
const greyOf = (r, g, b) => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;

// Position in a row of `side` pixels that continues by reflection at its end; a single pixel repeats.
function reflected(i, side) {
  if (side === 1) return 0;
  const at = i % (2 * side - 2);
  return at < side ? at : 2 * side - 2 - at;
}

// Reads a box of RGBA pixels as planes of floats in [-1, 1]; beyond the picture it is reflected.
function readBox({pixels, width, height}, [left, top, right, bottom], channels) {
  const w = right - left, n = w * (bottom - top), planes = new Float32Array(channels * n);
  for (let y = top, to = 0; y < bottom; y++) {
    const row = reflected(y, height) * width;
    for (let x = left; x < right; x++, to++) {
      const from = 4 * (row + reflected(x, width));
      if (channels === 1) planes[to] = greyOf(pixels[from], pixels[from + 1], pixels[from + 2]) / 127.5 - 1;
      else for (let c = 0; c < 3; c++) planes[c * n + to] = pixels[from + c] / 127.5 - 1;
    }
  }
  return planes;
}

// Runs one tile of RGB input, which may be hidden in part by a mask; returns a tensor of 1 or 3 channels.
function runBox(engine, info, graph, picture, box) {
  const h = box[3] - box[1], w = box[2] - box[0], n = h * w;
  if (info.kind === "upscale" && info.channels === 1) {  // a network for grey enlarges each colour by itself
    const planes = readBox(picture, box, 3), s = info.scale, result = tensor([1, 3, s * h, s * w]);
    for (let c = 0; c < 3; c++) {
      const plane = engine.run(graph, tensor([1, 1, h, w], planes.subarray(c * n, (c + 1) * n)));
      result.data.set(plane.data, c * s * s * n);
    }
    return result;
  }
  const channels = info.sourceChannels - (info.masked ? 1 : 0), planes = readBox(picture, box, channels);
  if (!info.masked) return engine.run(graph, tensor([1, channels, h, w], planes));
  const hidden = new Float32Array((channels + 1) * n);
  for (let y = 0, i = 0; y < h; y++) {
    const row = reflected(box[1] + y, picture.height) * picture.width;
    for (let x = 0; x < w; x++, i++) {
      const hole = picture.mask[row + reflected(box[0] + x, picture.width)] ? 1 : 0;
      for (let c = 0; c < channels; c++) hidden[c * n + i] = planes[c * n + i] * (1 - hole);
      hidden[channels * n + i] = hole;
    }
  }
  return engine.run(graph, tensor([1, channels + 1, h, w], hidden));
}

// Yields {left, top, width, height, pixels, done} for every tile: RGBA of the result, and the fraction that is done.
// picture: {pixels, width, height} in RGBA and, for inpainting, `mask` with 1 where a pixel is repainted.
function* translate(engine, info, graph, picture) {
  const {scale: s, multiple: m} = info, {width, height} = picture;
  const [across, down] = [width, height].map(side => Math.max(Math.ceil(side / m), info.least) * m);
  const whole = info.halo > WIDEST_HALO, halo = Math.ceil(info.halo / m) * m;
  const edge = whole ? Math.max(across, down) : Math.max(m, Math.floor(TILE / m) * m);
  let computed = 0;
  for (let top = 0; top < height; top += edge) {
    for (let left = 0; left < width; left += edge) {
      const right = Math.min(left + edge, across), bottom = Math.min(top + edge, down);
      const box = whole ? [0, 0, across, down] : [
        Math.max(0, left - halo), Math.max(0, top - halo), Math.min(across, right + halo), Math.min(down, bottom + halo),
      ];
      const result = runBox(engine, info, graph, picture, box);
      const w = s * (Math.min(right, width) - left), h = s * (Math.min(bottom, height) - top);
      const pixels = toPixels(result, s * (left - box[0]), s * (top - box[1]), w, h);
      if (info.masked) keepVisible(pixels, picture, left, top, w, h);
      computed += w * h;
      yield {left: s * left, top: s * top, width: w, height: h, pixels, done: computed / (s * s * width * height)};
    }
  }
}

// Pixels outside the mask keep their exact values.
function keepVisible(pixels, {pixels: given, mask, width}, left, top, w, h) {
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const from = (top + y) * width + left + x;
      if (!mask[from]) pixels.set(given.subarray(4 * from, 4 * from + 4), 4 * (y * w + x));
    }
  }
}

// Converts a part of an image (1, 1 or 3, H, W) in [-1, 1] to RGBA. The array rounds halves to even, as PyTorch does.
function toPixels(image, left, top, w, h) {
  const [, channels, tall, wide] = image.shape, plane = tall * wide, pixels = new Uint8ClampedArray(4 * w * h);
  for (let y = 0, to = 0; y < h; y++) {
    for (let x = 0; x < w; x++, to += 4) {
      const from = (top + y) * wide + left + x;
      for (let c = 0; c < 3; c++) pixels[to + c] = (image.data[from + (channels === 3 ? c * plane : 0)] + 1) * 127.5;
      pixels[to + 3] = 255;
    }
  }
  return pixels;
}
