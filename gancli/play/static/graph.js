// Runs the networks of the file: lists of operations that gancli/play/graph.py wrote.
"use strict";

class Engine {
  // model: {graphs, weights}, see gancli/play/graph.py and weights.py; text: the weights' bytes in base64.
  constructor(model, text, useSimd = true) {
    this.arena = new Arena(useSimd);
    OPS.engine = this;
    const bytes = bytesOf(text);
    this.weights = model.weights.map(entry => new Weight(entry, bytes));
    this.graphs = {};
    for (const [name, graph] of Object.entries(model.graphs)) this.graphs[name] = {...graph, lastUse: lastUses(graph)};
  }

  // Returns the result of a graph for its inputs, tensors in the order of their names.
  run(name, ...inputs) {
    const {operations, lastUse, output} = this.graphs[name], values = [...inputs];
    const resolve = argument => {
      if (Array.isArray(argument)) return argument.map(resolve);
      if (argument === null || typeof argument !== "object") return argument;
      return "v" in argument ? values[argument.v] : this.weights[argument.w];
    };
    operations.forEach(([operation, ...given], i) => {
      values.push(OPS[operation](...given.map(resolve)));
      for (const done of lastUse[i]) values[done] = null;  // frees its memory
    });
    return values[output];
  }
}

// For every operation, the values that no later one reads.
function lastUses({inputs, operations, output}) {
  const last = new Map();
  const visit = (argument, i) => {
    if (Array.isArray(argument)) argument.forEach(inner => visit(inner, i));
    else if (argument !== null && typeof argument === "object" && "v" in argument) last.set(argument.v, i);
  };
  operations.forEach((operation, i) => visit(operation, i));
  const lists = operations.map(() => []);
  for (const [value, i] of last) if (value !== output && value >= inputs.length) lists[i].push(value);
  return lists;
}

function bytesOf(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// A tensor that is decoded when it is read. The 8-bit form has a factor for each of its rows.
class Weight {
  constructor({shape, type, at, factors}, bytes) {
    Object.assign(this, {shape, forms: {}, decoded: null});
    const n = sizeOf(shape), read = (size, position, width) => bytes.slice(position, position + size * width).buffer;
    this.decode = () => {
      if (type === "f4") return new Float32Array(read(n, at, 4));
      if (type === "f2") return fromHalf(new Uint16Array(read(n, at, 2)));
      const rows = new Float32Array(read(shape[0], factors, 4)), width = n / shape[0];
      return Float32Array.from(new Int8Array(read(n, at, 1)), (v, i) => v * rows[Math.floor(i / width)]);
    };
  }

  get data() { return this.decoded ??= this.decode(); }

  // Frees the memory of a weight of which packed forms alone are used.
  release() { this.decoded = null; }
}

let halves = null;  // the value of every 16-bit float

function fromHalf(bits) {
  if (!halves) {
    halves = new Float32Array(65536);
    for (let i = 0; i < 65536; i++) {
      const sign = i & 0x8000 ? -1 : 1, exponent = (i >> 10) & 31, fraction = (i & 1023) / 1024;
      halves[i] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
    }
  }
  const result = new Float32Array(bits.length);
  for (let i = 0; i < result.length; i++) result[i] = halves[bits[i]];
  return result;
}
