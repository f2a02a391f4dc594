// Tensors and their plain operations, with the names and the arguments of PyTorch's ATen.
// A tensor is {shape, data}: data is a Float32Array in row-major order. Results may share data with their inputs.
"use strict";

const OPS = {};  // by name; layers.js adds more

const sizeOf = shape => shape.reduce((product, side) => product * side, 1);
const tensor = (shape, data = new Float32Array(sizeOf(shape))) => ({shape, data});
const axisOf = (x, dim) => dim < 0 ? dim + x.shape.length : dim;
const isTensor = value => value !== null && typeof value === "object" && "shape" in value;

// Splits a shape at an axis into the products before it and behind it.
function around(x, axis) {
  return [sizeOf(x.shape.slice(0, axis)), sizeOf(x.shape.slice(axis + 1))];
}

function stridesOf(shape) {
  const strides = new Array(shape.length);
  for (let i = shape.length - 1, step = 1; i >= 0; step *= shape[i--]) strides[i] = step;
  return strides;
}

function map(x, f) {
  const from = x.data, to = new Float32Array(from.length);
  for (let i = 0; i < to.length; i++) to[i] = f(from[i]);
  return tensor(x.shape, to);
}

// Its own loop, because engines do not inline a function that `map` is called with among many.
function rectified(x, slope) {
  const from = x.data, to = new Float32Array(from.length);
  for (let i = 0; i < to.length; i++) to[i] = from[i] > 0 ? from[i] : slope * from[i];
  return tensor(x.shape, to);
}

function added(a, b) {
  const x = a.data, y = b.data, to = new Float32Array(x.length);
  for (let i = 0; i < to.length; i++) to[i] = x[i] + y[i];
  return tensor(a.shape, to);
}

const sameShape = (a, b) => isTensor(a) && isTensor(b) && String(a.shape) === String(b.shape);

// Copies x to another shape; element (i, j, ...) is read at offset + i * strides[0] + j * strides[1] + ...
function gather(x, shape, strides, offset = 0) {
  const result = tensor(shape), {data} = result, last = shape.length - 1;
  if (!data.length) return result;
  if (last < 0) { data[0] = x.data[offset]; return result; }
  const width = shape[last], step = strides[last], index = new Array(last).fill(0);
  for (let to = 0, from = offset; to < data.length;) {
    for (let i = 0, at = from; i < width; i++, at += step) data[to++] = x.data[at];
    for (let axis = last - 1; axis >= 0; axis--) {  // the next row
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return result;
}

function expanded(x, shape) {
  const added = shape.length - x.shape.length, strides = stridesOf(x.shape);
  const sides = shape.map((side, i) => side === -1 ? x.shape[i - added] : side);
  if (sizeOf(sides) === x.data.length) return tensor(sides, x.data);
  return gather(x, sides, sides.map((_, i) => i < added || x.shape[i - added] === 1 ? 0 : strides[i - added]));
}

// Combines two operands of which each is a tensor or a number, with broadcasting.
function combine(a, b, f) {
  if (!isTensor(a) && !isTensor(b)) return f(a, b);
  if (!isTensor(b)) return map(a, x => f(x, b));
  if (!isTensor(a)) return map(b, y => f(a, y));
  const rank = Math.max(a.shape.length, b.shape.length);
  const side = (x, i) => x.shape[i - rank + x.shape.length] ?? 1;
  const shape = Array.from({length: rank}, (_, i) => side(a, i) === 1 ? side(b, i) : side(a, i));
  const x = expanded(a, shape).data, y = expanded(b, shape).data, to = new Float32Array(x.length);
  for (let i = 0; i < to.length; i++) to[i] = f(x[i], y[i]);
  return tensor(shape, to);
}

function slice(x, dim, start, end, step = 1) {
  const axis = axisOf(x, dim), side = x.shape[axis];
  const inside = value => Math.min(Math.max(value < 0 ? value + side : value, 0), side);
  const first = inside(start ?? 0), length = Math.max(0, Math.ceil((inside(end ?? side) - first) / step));
  if (length === side && step === 1) return x;
  const shape = x.shape.with(axis, length), strides = stridesOf(x.shape);
  return gather(x, shape, strides.with(axis, step * strides[axis]), first * strides[axis]);
}

function concatenate(parts, dim) {
  const given = parts.filter(x => x.data.length), axis = axisOf(parts[0], dim);
  if (given.length < 2) return given[0] ?? parts[0];
  const shape = given[0].shape.with(axis, given.reduce((sum, x) => sum + x.shape[axis], 0));
  const result = tensor(shape), [before, behind] = around(result, axis);
  let to = 0;
  for (let i = 0; i < before; i++) {
    for (const x of given) {
      const n = x.shape[axis] * behind;
      result.data.set(x.data.subarray(i * n, (i + 1) * n), to);
      to += n;
    }
  }
  return result;
}

function reshape(x, shape) {
  const known = -shape.reduce((product, side) => product * side, 1);
  return tensor(shape.includes(-1) ? shape.map(side => side === -1 ? x.data.length / known : side) : shape, x.data);
}

function permute(x, order) {
  const axes = order.map(dim => axisOf(x, dim)), strides = stridesOf(x.shape);
  return gather(x, axes.map(i => x.shape[i]), axes.map(i => strides[i]));
}

function swap(x, a, b) {
  const order = x.shape.map((_, i) => i), [i, j] = [axisOf(x, a), axisOf(x, b)];
  return permute(x, order.with(i, j).with(j, i));
}

// Sums or averages over some axes, all if none are given.
function reduce(x, dims, keep, mean) {
  const axes = (dims?.length ? dims : x.shape.map((_, i) => i)).map(dim => axisOf(x, dim));
  const rest = x.shape.map((_, i) => i).filter(i => !axes.includes(i));
  const rows = permute(x, [...rest, ...axes]), n = sizeOf(axes.map(i => x.shape[i]));
  const shape = keep ? x.shape.map((side, i) => axes.includes(i) ? 1 : side) : rest.map(i => x.shape[i]);
  const result = tensor(shape);
  for (let row = 0, at = 0; row < result.data.length; row++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += rows.data[at++];
    result.data[row] = mean ? sum / n : sum;
  }
  return result;
}

function softmax(x, dim) {
  const axis = axisOf(x, dim), [before, behind] = around(x, axis), n = x.shape[axis], result = tensor(x.shape);
  for (let i = 0; i < before; i++) {
    for (let j = 0; j < behind; j++) {
      let top = -Infinity, sum = 0;
      for (let k = 0, at = i * n * behind + j; k < n; k++, at += behind) top = Math.max(top, x.data[at]);
      for (let k = 0, at = i * n * behind + j; k < n; k++, at += behind) {
        sum += result.data[at] = Math.exp(x.data[at] - top);
      }
      for (let k = 0, at = i * n * behind + j; k < n; k++, at += behind) result.data[at] /= sum;
    }
  }
  return result;
}

function flip(x, dims) {
  const strides = stridesOf(x.shape);
  let offset = 0;
  for (const dim of dims) {
    const axis = axisOf(x, dim);
    offset += (x.shape[axis] - 1) * strides[axis];
    strides[axis] *= -1;
  }
  return gather(x, x.shape, strides, offset);
}

function chunk(x, n, dim) {
  const axis = axisOf(x, dim), size = Math.ceil(x.shape[axis] / n), parts = [];
  for (let at = 0; at < x.shape[axis]; at += size) parts.push(slice(x, axis, at, at + size));
  return parts;
}

const sigmoid = x => 1 / (1 + Math.exp(-x));

Object.assign(OPS, {
  getitem: (list, i) => list[i],
  "sym_size.int": (x, dim) => x.shape[axisOf(x, dim)],
  relu: x => rectified(x, 0),
  leaky_relu: (x, slope = 0.01) => rectified(x, slope),
  tanh: x => map(x, Math.tanh),
  sigmoid: x => map(x, sigmoid),
  silu: x => map(x, v => v * sigmoid(v)),
  softplus: x => map(x, v => v > 20 ? v : Math.log1p(Math.exp(v))),
  glu: (x, dim = -1) => {
    const [a, b] = chunk(x, 2, dim);
    return combine(a, b, (v, gate) => v * sigmoid(gate));
  },
  exp: x => map(x, Math.exp),
  sqrt: x => map(x, Math.sqrt),
  rsqrt: x => map(x, v => 1 / Math.sqrt(v)),
  abs: x => map(x, Math.abs),
  log: x => map(x, Math.log),
  sin: x => map(x, Math.sin),
  cos: x => map(x, Math.cos),
  square: x => map(x, v => v * v),
  neg: x => map(x, v => -v),
  pow: (x, power) => combine(x, power, Math.pow),
  clamp: (x, low, high) => map(x, v => Math.min(Math.max(v, low ?? -Infinity), high ?? Infinity)),
  clamp_min: (x, low) => map(x, v => Math.max(v, low)),
  prelu: (x, weight) => {
    const [, behind] = around(x, 1), n = weight.data.length, result = tensor(x.shape);
    result.data.forEach((_, i) => {
      const v = x.data[i];
      result.data[i] = v > 0 ? v : v * weight.data[n > 1 ? Math.floor(i / behind) % n : 0];
    });
    return result;
  },
  add: (a, b, times = 1) => times === 1 && sameShape(a, b) ? added(a, b) : combine(a, b, (x, y) => x + times * y),
  sub: (a, b, times = 1) => combine(a, b, (x, y) => x - times * y),
  rsub: (a, b, times = 1) => combine(a, b, (x, y) => y - times * x),
  mul: (a, b) => combine(a, b, (x, y) => x * y),
  div: (a, b) => combine(a, b, (x, y) => x / y),
  floordiv: (a, b) => Math.floor(a / b),
  alias: x => x,
  dropout: x => x,  // not while training
  cat: (parts, dim = 0) => concatenate(parts, dim),
  chunk: (x, n, dim = 0) => chunk(x, n, dim),
  slice: (x, dim = 0, start = null, end = null, step = 1) => slice(x, dim, start, end, step),
  narrow: (x, dim, start, length) => {
    const first = start < 0 ? start + x.shape[axisOf(x, dim)] : start;
    return slice(x, dim, first, first + length);
  },
  select: (x, dim, i) => OPS.squeeze(OPS.narrow(x, dim, i, 1), axisOf(x, dim)),
  flip: (x, dims) => flip(x, dims),
  unsqueeze: (x, dim) => tensor(x.shape.toSpliced(dim < 0 ? dim + x.shape.length + 1 : dim, 0, 1), x.data),
  squeeze: (x, dim) => {
    const axis = axisOf(x, dim);
    return x.shape[axis] === 1 ? tensor(x.shape.toSpliced(axis, 1), x.data) : x;
  },
  flatten: (x, start = 0, end = -1) => {
    const [from, to] = [axisOf(x, start), axisOf(x, end)];
    return tensor(x.shape.toSpliced(from, to - from + 1, sizeOf(x.shape.slice(from, to + 1))), x.data);
  },
  unflatten: (x, dim, sizes) => {
    const axis = axisOf(x, dim), rest = reshape(tensor([x.shape[axis]], {length: x.shape[axis]}), sizes).shape;
    return tensor(x.shape.toSpliced(axis, 1, ...rest), x.data);
  },
  view: (x, shape) => reshape(x, shape),
  reshape: (x, shape) => reshape(x, shape),
  expand: (x, shape) => expanded(x, shape),
  permute: (x, order) => permute(x, order),
  transpose: (x, a, b) => swap(x, a, b),
  "mean.dim": (x, dims, keep) => reduce(x, dims, keep, true),
  "sum.dim_IntList": (x, dims, keep) => reduce(x, dims, keep, false),
  softmax: (x, dim) => softmax(x, dim),
});
