// Convolutions, dense layers, norms, pooling and resizing, with the names and the arguments of PyTorch's ATen.
// `engine` holds the arena of matmul.js; `weight` is a tensor of the file, whose packed form is kept with it.
"use strict";

// --- convolutions -------------------------------------------------------------------------------------------------

// A convolution as a product: the weight (out, in * kh * kw) times a matrix of the input's patches, a column each.
function conv2d(engine, x, weight, bias, stride, padding, dilation, groups) {
  const [n, , h, w] = x.shape, [out, depthIn, kh, kw] = weight.shape;
  const [oh, ow] = [[h, kh], [w, kw]].map(([side, k], i) =>
    Math.floor((side + 2 * padding[i] - dilation[i] * (k - 1) - 1) / stride[i]) + 1);
  const result = tensor([n, out, oh, ow]), pixels = oh * ow, rows = out / groups, depth = depthIn * kh * kw;
  const patch = {h, w, kh, kw, ow, stride, padding, dilation, depth};
  for (let group = 0; group < groups; group++) {
    const left = packed(engine, weight, group, groups, rows, depth, (row, k) => (group * rows + row) * depth + k);
    for (let image = 0; image < n; image++) {
      const input = x.data.subarray((image * groups + group) * depthIn * h * w);
      const top = image * out + group * rows;
      product(engine.arena, left, pixels,
        (floats, position, from, to) => packPatches(floats, position, from, to, input, patch),
        (floats, position, width, from, to) => {
          for (let row = 0; row < rows; row++) {
            const source = floats.subarray(position + row * width, position + row * width + to - from);
            result.data.set(source, (top + row) * pixels + from);
          }
        });
    }
  }
  return bias ? withBias(result, bias) : result;
}

// Returns the packed form of one group of a weight; at(row, k) is the position of an element in the weight.
function packed(engine, weight, group, groups, rows, depth, at) {
  if (!weight.forms[group]) {
    const data = weight.data;
    weight.forms[group] = packLeft(engine.arena, rows, depth, (row, k) => data[at(row, k)]);
    if (group === groups - 1) weight.release();
  }
  return weight.forms[group];
}

// Writes columns from..to of the matrix of patches as panels. A column is the pixels under the kernel at one position.
function packPatches(floats, position, from, to, input, {h, w, kh, kw, ow, stride, padding, dilation, depth}) {
  const panels = Math.ceil((to - from) / COLUMNS);
  floats.fill(0, position, position + panels * COLUMNS * depth);
  const offsets = new Int32Array(to - from);  // of each column, without the row of the kernel
  for (let i = 0; i < offsets.length; i++) offsets[i] = position + (i >> 3) * depth * COLUMNS + (i & 7);
  for (let k = 0; k < depth; k++) {
    const kx = k % kw, ky = Math.floor(k / kw) % kh, plane = Math.floor(k / (kw * kh)) * h * w;
    let oy = Math.floor(from / ow), ox = from - oy * ow;
    for (let i = 0; i < offsets.length;) {
      const end = Math.min(offsets.length, i + ow - ox);  // of this row of the output
      const y = oy * stride[0] - padding[0] + ky * dilation[0];
      if (y >= 0 && y < h) {
        let column = ox * stride[1] - padding[1] + kx * dilation[1];
        for (let j = i; j < end; j++, column += stride[1]) {
          if (column >= 0 && column < w) floats[offsets[j] + k * COLUMNS] = input[plane + y * w + column];
        }
      }
      i = end;
      ox = 0;
      oy++;
    }
  }
}

// A transposed convolution: the weight, transposed to (out * kh * kw, in), times the input's pixels gives the patch that
// each pixel adds to the result.
function convTranspose2d(engine, x, weight, bias, stride, padding, outputPadding, groups, dilation) {
  const [n, channels, h, w] = x.shape, [, out, kh, kw] = weight.shape, depth = channels / groups, taps = out * kh * kw;
  const [oh, ow] = [[h, kh], [w, kw]].map(([side, k], i) =>
    (side - 1) * stride[i] - 2 * padding[i] + dilation[i] * (k - 1) + outputPadding[i] + 1);
  const result = tensor([n, out * groups, oh, ow]), pixels = h * w;
  const patch = {w, kh, kw, oh, ow, stride, padding, dilation, taps};
  for (let group = 0; group < groups; group++) {
    const left = packed(engine, weight, group, groups, taps, depth, (row, k) => (group * depth + k) * taps + row);
    for (let image = 0; image < n; image++) {
      const input = x.data.subarray((image * groups + group) * depth * pixels);
      const output = result.data.subarray((image * groups + group) * out * oh * ow);
      product(engine.arena, left, pixels,
        (floats, position, from, to) => packRows(floats, position, from, to, input, pixels, depth),
        (floats, position, width, from, to) => addPatches(output, floats, position, width, from, to, patch));
    }
  }
  return bias ? withBias(result, bias) : result;
}

// Writes columns from..to of a matrix (depth, n) as panels.
function packRows(floats, position, from, to, input, n, depth) {
  floats.fill(0, position, position + Math.ceil((to - from) / COLUMNS) * COLUMNS * depth);
  for (let i = 0; i < to - from; i++) {
    const start = position + (i >> 3) * depth * COLUMNS + (i & 7);
    for (let k = 0; k < depth; k++) floats[start + k * COLUMNS] = input[k * n + from + i];
  }
}

function addPatches(output, floats, position, width, from, to, {w, kh, kw, oh, ow, stride, padding, dilation, taps}) {
  for (let row = 0; row < taps; row++) {
    const kx = row % kw, ky = Math.floor(row / kw) % kh, plane = Math.floor(row / (kw * kh)) * oh * ow;
    const source = position + row * width;
    let iy = Math.floor(from / w), ix = from - iy * w;
    for (let i = from; i < to;) {
      const end = Math.min(to, i + w - ix), y = iy * stride[0] - padding[0] + ky * dilation[0];
      if (y >= 0 && y < oh) {
        let column = ix * stride[1] - padding[1] + kx * dilation[1];
        for (let j = i; j < end; j++, column += stride[1]) {
          if (column >= 0 && column < ow) output[plane + y * ow + column] += floats[source + j - from];
        }
      }
      i = end;
      ix = 0;
      iy++;
    }
  }
}

function withBias(x, bias) {
  const [n, channels] = x.shape, [, pixels] = around(x, 1);
  for (let i = 0, at = 0; i < n * channels; i++) {
    const value = bias.data[i % channels];
    for (const end = at + pixels; at < end; at++) x.data[at] += value;
  }
  return x;
}

// --- dense layers -------------------------------------------------------------------------------------------------

// Rows of x (..., in) times the weight (out, in): a single row needs no packing, it reads the weight once.
function linear(x, weight, bias) {
  const [out, depth] = weight.shape, rows = x.data.length / depth, w = weight.data;
  const result = tensor(x.shape.with(-1, out));
  for (let row = 0; row < rows; row++) {
    for (let i = 0, at = 0; i < out; i++) {
      let a = 0, b = 0, k = row * depth;
      const end = k + depth;
      for (; k + 1 < end; k += 2, at += 2) { a += x.data[k] * w[at]; b += x.data[k + 1] * w[at + 1]; }
      if (k < end) a += x.data[k] * w[at++];
      result.data[row * out + i] = a + b + (bias ? bias.data[i] : 0);
    }
  }
  return result;
}

// The product of the last two axes, for equal axes before them or none.
function matmul(a, b) {
  const [rows, depth] = a.shape.slice(-2), columns = b.shape.at(-1);
  const n = b.shape.length > 2 ? sizeOf(b.shape.slice(0, -2)) : 1;
  const result = tensor(a.shape.with(-1, columns)), tall = n > 1 ? rows : a.data.length / depth;
  for (let batch = 0; batch < n; batch++) {
    const second = b.data.subarray(batch * depth * columns);
    for (let row = batch * tall; row < (batch + 1) * tall; row++) {
      const to = result.data.subarray(row * columns, (row + 1) * columns);
      for (let k = 0; k < depth; k++) {
        const factor = a.data[row * depth + k];
        if (factor) for (let j = 0; j < columns; j++) to[j] += factor * second[k * columns + j];
      }
    }
  }
  return result;
}

function attention(query, key, value, mask, dropout, causal, scale) {
  const factor = scale ?? 1 / Math.sqrt(query.shape.at(-1));
  return matmul(softmax(map(matmul(query, swap(key, -1, -2)), v => v * factor), -1), value);
}

// --- norms --------------------------------------------------------------------------------------------------------

// Batch norm of a trained network: x times a number per channel plus another, which the exporter computed.
function scaleShift(x, scale, shift) {
  const channels = x.shape[1], [, pixels] = around(x, 1), result = tensor(x.shape);
  for (let at = 0, i = 0; at < x.data.length; i++) {
    const a = scale.data[i % channels], b = shift.data[i % channels];
    for (const end = at + pixels; at < end; at++) result.data[at] = x.data[at] * a + b;
  }
  return result;
}

// Normalises runs of `length` numbers each; then per channel, gain and bias.
function normalised(x, length, epsilon, gain, bias) {
  const result = tensor(x.shape);
  for (let start = 0; start < x.data.length; start += length) {
    let mean = 0, variance = 0;
    for (let i = start; i < start + length; i++) mean += x.data[i] / length;
    for (let i = start; i < start + length; i++) variance += (x.data[i] - mean) ** 2 / length;
    const factor = 1 / Math.sqrt(variance + epsilon);
    for (let i = start; i < start + length; i++) result.data[i] = (x.data[i] - mean) * factor;
  }
  if (!gain) return result;
  return scaleShift(result, gain, bias ?? tensor(gain.shape));
}

// --- pooling and resizing -----------------------------------------------------------------------------------------

// Reduces windows of the last two axes; finish(sum or maximum, pixels inside, pixels with padding).
function pooled(x, kernel, stride, padding, combineTwo, start, finish) {
  const [h, w] = x.shape.slice(-2), steps = stride?.length ? stride : kernel;
  const [oh, ow] = [h, w].map((side, i) => Math.floor((side + 2 * padding[i] - kernel[i]) / steps[i]) + 1);
  const result = tensor([...x.shape.slice(0, -2), oh, ow]);
  for (let to = 0, plane = 0; to < result.data.length; plane += h * w) {
    for (let oy = 0; oy < oh; oy++) {
      const top = oy * steps[0] - padding[0], y0 = Math.max(top, 0), y1 = Math.min(top + kernel[0], h);
      const tall = Math.min(top + kernel[0], h + padding[0]) - top;
      for (let ox = 0; ox < ow; ox++) {
        const left = ox * steps[1] - padding[1], x0 = Math.max(left, 0), x1 = Math.min(left + kernel[1], w);
        const wide = Math.min(left + kernel[1], w + padding[1]) - left;
        let value = start;
        for (let y = y0; y < y1; y++) {
          for (let i = x0; i < x1; i++) value = combineTwo(value, x.data[plane + y * w + i]);
        }
        result.data[to++] = finish(value, (y1 - y0) * (x1 - x0), tall * wide);
      }
    }
  }
  return result;
}

// Means of windows that together cover the map, as equal in size as they can be.
function adaptivePool(x, [oh, ow]) {
  const [h, w] = x.shape.slice(-2), result = tensor([...x.shape.slice(0, -2), oh, ow]);
  const window = (i, side, n) => [Math.floor(i * side / n), Math.ceil((i + 1) * side / n)];
  for (let to = 0, plane = 0; to < result.data.length; plane += h * w) {
    for (let oy = 0; oy < oh; oy++) {
      for (let ox = 0; ox < ow; ox++) {
        const [top, bottom] = window(oy, h, oh), [left, right] = window(ox, w, ow);
        let sum = 0;
        for (let y = top; y < bottom; y++) for (let i = left; i < right; i++) sum += x.data[plane + y * w + i];
        result.data[to++] = sum / ((bottom - top) * (right - left));
      }
    }
  }
  return result;
}

function nearest(x, [oh, ow]) {
  const [h, w] = x.shape.slice(-2), result = tensor([...x.shape.slice(0, -2), oh, ow]);
  for (let to = 0, plane = 0; to < result.data.length; plane += h * w) {
    for (let oy = 0; oy < oh; oy++) {
      const row = plane + Math.floor(oy * h / oh) * w;
      for (let ox = 0; ox < ow; ox++) result.data[to++] = x.data[row + Math.floor(ox * w / ow)];
    }
  }
  return result;
}

const CUBIC = a => t => {
  const x = Math.abs(t);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
};
const LINEAR = t => Math.max(0, 1 - Math.abs(t));

// For every output position its first input and the weights of that and the next ones, which sum to 1. With
// `antialias` the filter widens where the image shrinks and is cut at the edges; without, edges are repeated.
function filterTaps(side, length, filter, support, antialias, corners) {
  const scale = corners ? (side - 1) / Math.max(length - 1, 1) : side / length;
  const widen = antialias ? Math.max(scale, 1) : 1, reach = support * widen;
  return Array.from({length}, (_, i) => {
    const centre = corners ? i * scale + 0.5 : (i + 0.5) * scale;
    const inside = j => antialias ? j >= 0 && j < side : true;
    const first = Math.floor(centre - reach + 0.5), weights = [];
    for (let j = first; j < Math.floor(centre + reach + 0.5) + 1; j++) {
      if (inside(j)) weights.push([Math.min(Math.max(j, 0), side - 1), filter((j + 0.5 - centre) / widen)]);
    }
    const sum = weights.reduce((total, [, weight]) => total + weight, 0);
    return weights.filter(([, weight]) => weight).map(([j, weight]) => [j, weight / sum]);
  });
}

function resized(x, size, filter, support, antialias, corners = false) {
  const along = (image, axis, length) => {
    const [before, behind] = around(image, axis), side = image.shape[axis];
    const result = tensor(image.shape.with(axis, length));
    filterTaps(side, length, filter, support, antialias, corners).forEach((taps, i) => {
      for (const [j, weight] of taps) {
        for (let b = 0; b < before; b++) {
          const from = (b * side + j) * behind, to = (b * length + i) * behind;
          for (let k = 0; k < behind; k++) result.data[to + k] += weight * image.data[from + k];
        }
      }
    });
    return result;
  };
  return along(along(x, 2, size[0]), 3, size[1]);
}

// The size that ATen's ".vec" functions are given, or the one that follows from their factors.
const sizeFor = (x, size, factors) => size ?? factors.map((factor, i) => Math.floor(x.shape[2 + i] * factor));

// Pads the last axes; `sides` are begin and end, the last axis first.
function padded(x, sides, mode = "constant", value = 0) {
  let result = x;
  for (let i = 0; 2 * i < sides.length; i++) {
    const axis = x.shape.length - 1 - i, side = x.shape[axis], [begin, end] = sides.slice(2 * i, 2 * i + 2);
    if (!begin && !end) continue;
    const fitted = tensor(result.shape.with(axis, side + begin + end)), [before, behind] = around(result, axis);
    const mirrored = j => j < 0 ? -j : j >= side ? 2 * side - 2 - j : j;
    for (let b = 0; b < before; b++) {
      for (let j = -begin; j < side + end; j++) {
        const to = (b * (side + begin + end) + j + begin) * behind;
        const source = mode === "reflect" ? mirrored(j) : Math.min(Math.max(j, 0), side - 1);
        if (mode === "constant" && source !== j) fitted.data.fill(value, to, to + behind);
        else fitted.data.set(result.data.subarray((b * side + source) * behind, (b * side + source + 1) * behind), to);
      }
    }
    result = fitted;
  }
  return result;
}

function pixelShuffle(x, r) {
  const [n, channels, h, w] = x.shape, out = channels / (r * r);
  const split = tensor([n, out, r, r, h, w], x.data);
  return tensor([n, out, h * r, w * r], permute(split, [0, 1, 4, 2, 5, 3]).data);
}

const ZERO = [0, 0], ONE = [1, 1];
Object.assign(OPS, {
  conv2d: (x, weight, bias, stride = ONE, padding = ZERO, dilation = ONE, groups = 1) =>
    conv2d(OPS.engine, x, weight, bias, stride, padding, dilation, groups),
  conv_transpose2d: (x, weight, bias, stride = ONE, padding = ZERO, outputPadding = ZERO, groups = 1, dilation = ONE) =>
    convTranspose2d(OPS.engine, x, weight, bias, stride, padding, outputPadding, groups, dilation),
  linear,
  matmul,
  scaled_dot_product_attention: attention,
  scale_shift: scaleShift,
  instance_norm: (x, gain, bias, mean, variance, use, momentum, epsilon) =>
    normalised(x, around(x, 1)[1], epsilon, gain, bias),
  group_norm: (x, groups, gain, bias, epsilon = 1e-5) =>
    normalised(x, x.shape[1] / groups * around(x, 1)[1], epsilon, gain, bias),
  avg_pool2d: (x, kernel, stride, padding = ZERO, ceil = false, countPadding = true, divisor = null) =>
    pooled(x, kernel, stride, padding, (a, b) => a + b, 0,
      (sum, inside, all) => sum / (divisor ?? (countPadding ? all : inside))),
  max_pool2d: (x, kernel, stride, padding = ZERO) => pooled(x, kernel, stride, padding, Math.max, -Infinity, v => v),
  adaptive_avg_pool2d: adaptivePool,
  upsample_nearest2d: (x, size, factors) => nearest(x, sizeFor(x, size, factors)),
  upsample_bilinear2d: (x, size, corners, factors) => resized(x, sizeFor(x, size, factors), LINEAR, 1, false, corners),
  upsample_bicubic2d: (x, size, corners, factors) =>
    resized(x, sizeFor(x, size, factors), CUBIC(-0.75), 2, false, corners),
  _upsample_bicubic2d_aa: (x, size, corners, factors) =>
    resized(x, sizeFor(x, size, factors), CUBIC(-0.5), 2, true, corners),
  _upsample_bilinear2d_aa: (x, size, corners, factors) =>
    resized(x, sizeFor(x, size, factors), LINEAR, 1, true, corners),
  pad: padded,
  pixel_shuffle: pixelShuffle,
});
