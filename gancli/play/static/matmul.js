// Matrix products. Both factors are packed into panels, so that the innermost loop reads memory in order; that loop is a
// small WebAssembly program with SIMD, assembled here, or plain JavaScript where the browser has none.
"use strict";

// A panel of the left factor holds ROWS rows, one of the right factor COLUMNS columns: as many as registers hold.
const ROWS = 4, COLUMNS = 8;
const BLOCK_FLOATS = 1 << 18;  // of the right factor at once: 1 MB stays in a processor's cache

// Memory that the WebAssembly program shares: packed weights for good, and scratch at their end.
class Arena {
  constructor(useSimd = true) {
    const simd = useSimd && typeof WebAssembly !== "undefined";
    this.memory = simd ? new WebAssembly.Memory({initial: 64}) : null;
    this.floats = simd ? new Float32Array(this.memory.buffer) : new Float32Array(1 << 20);
    this.used = 0;
    this.kernel = simd ? simdKernel(this.memory) : null;  // null: plain JavaScript
  }

  // Returns the position of n floats that stay, or with `keep` false may be overwritten by the next request.
  take(n, keep = true) {
    const start = this.used, end = start + Math.ceil(n / 4) * 4;
    const missing = end - this.floats.length;
    if (missing > 0 && this.memory) {
      this.memory.grow(Math.ceil(missing / 16384) + 64);
      this.floats = new Float32Array(this.memory.buffer);
    } else if (missing > 0) {
      const before = this.floats;
      this.floats = new Float32Array(end + (1 << 20));
      this.floats.set(before);
    }
    if (keep) this.used = end;
    return start;
  }

  // C = A B for panels at positions a and b: rows and columns are whole panels, C has `columns` floats a row.
  multiply(a, b, c, depth, rows, columns) {
    if (this.kernel) this.kernel(4 * a, 4 * b, 4 * c, depth, rows / ROWS, columns / COLUMNS);
    else multiplyPlain(this.floats, a, b, c, depth, rows, columns);
  }
}

// Packs a matrix (rows, depth), read by at(row, k), for the left side of a product; returns its description.
function packLeft(arena, rows, depth, at) {
  const padded = Math.ceil(rows / ROWS) * ROWS, position = arena.take(padded * depth), f = arena.floats;
  for (let top = 0, to = position; top < padded; top += ROWS) {
    for (let k = 0; k < depth; k++) {
      for (let row = top; row < top + ROWS; row++) f[to++] = row < rows ? at(row, k) : 0;
    }
  }
  return {position, rows, padded, depth};
}

// Multiplies a packed left factor by a right one of n columns, block by block.
// pack(floats, position, from, to): writes columns from..to as panels of (depth, COLUMNS), zeros beyond `to`.
// store(floats, position, stride, from, to): reads the block's result, (rows, stride), of which to - from columns count.
function product(arena, left, n, pack, store) {
  const fitting = Math.floor(BLOCK_FLOATS / left.depth / COLUMNS) * COLUMNS;
  const width = Math.min(Math.max(fitting, COLUMNS), 512, Math.ceil(n / COLUMNS) * COLUMNS);
  const right = arena.take((left.depth + left.padded) * width, false), result = right + left.depth * width;
  for (let from = 0; from < n; from += width) {
    const to = Math.min(from + width, n), columns = Math.ceil((to - from) / COLUMNS) * COLUMNS;
    pack(arena.floats, right, from, to);
    arena.multiply(left.position, right, result, left.depth, left.padded, columns);
    store(arena.floats, result, columns, from, to);
  }
}

// The same loops as the WebAssembly program's, four columns at a time: engines keep 16 sums in registers.
function multiplyPlain(f, a, b, c, depth, rows, columns) {
  for (let top = 0; top < rows; top += ROWS) {
    for (let left = 0; left < columns; left += 4) {
      const panel = left & ~(COLUMNS - 1);
      let i = a + top * depth, j = b + panel * depth + (left - panel);
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let k = 0; k < depth; k++, i += ROWS, j += COLUMNS) {
        const x0 = f[j], x1 = f[j + 1], x2 = f[j + 2], x3 = f[j + 3];
        let w = f[i]; s00 += w * x0; s01 += w * x1; s02 += w * x2; s03 += w * x3;
        w = f[i + 1]; s10 += w * x0; s11 += w * x1; s12 += w * x2; s13 += w * x3;
        w = f[i + 2]; s20 += w * x0; s21 += w * x1; s22 += w * x2; s23 += w * x3;
        w = f[i + 3]; s30 += w * x0; s31 += w * x1; s32 += w * x2; s33 += w * x3;
      }
      let to = c + top * columns + left;
      f[to] = s00; f[to + 1] = s01; f[to + 2] = s02; f[to + 3] = s03; to += columns;
      f[to] = s10; f[to + 1] = s11; f[to + 2] = s12; f[to + 3] = s13; to += columns;
      f[to] = s20; f[to + 1] = s21; f[to + 2] = s22; f[to + 3] = s23; to += columns;
      f[to] = s30; f[to + 1] = s31; f[to + 2] = s32; f[to + 3] = s33;
    }
  }
}

// Returns kernel(a, b, c, depth, row panels, column panels), byte positions first, or null without SIMD.
function simdKernel(memory) {
  try {
    const module = new WebAssembly.Module(assembleKernel());
    return new WebAssembly.Instance(module, {m: {m: memory}}).exports.k;
  } catch {
    return null;  // an old browser, or a policy that allows no WebAssembly
  }
}

// Assembles the program. Its text would be, for each of `rows` panels of a and each of `columns` panels of b:
// set 4 x 2 vectors of sums to zero; for k in depth: load 2 vectors of b, and for each of 4 rows add a[row] times both;
// store the sums as 4 rows of 8 columns of c.
function assembleKernel() {
  const number = (n, bytes = []) => {  // LEB128
    do { bytes.push((n & 127) | (n > 127 ? 128 : 0)); n >>>= 7; } while (n);
    return bytes;
  };
  const section = (id, ...parts) => { const body = parts.flat(); return [id, ...number(body.length), ...body]; };
  const get = i => [0x20, i], set = i => [0x21, i], tee = i => [0x22, i];
  const constant = n => [0x41, ...(n < 64 ? [n] : [(n & 127) | 128, n >> 7])];
  const [ADD, SUB, MUL, SHL] = [0x6a, 0x6b, 0x6c, 0x74];
  const advance = (i, amount) => [...get(i), ...amount, ADD, ...set(i)];
  const repeat = (i, body) => [0x03, 0x40, ...body, ...get(i), ...constant(1), SUB, ...tee(i), 0x0d, 0, 0x0b];
  const load = offset => [0xfd, 0x00, 2, offset], store = offset => [0xfd, 0x0b, 2, offset];
  const splat = offset => [0xfd, 0x09, 2, offset], plus = [0xfd, 0xe4, 0x01], times = [0xfd, 0xe6, 0x01];
  const zero = [0xfd, 0x0c, ...new Array(16).fill(0)];
  // Parameters 0 to 5, then i32 locals, then v128 locals.
  const [a, b, c, depth, rows, columns, panel, left, k, j, stride, out, i] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
  const x0 = 13, x1 = 14, w = 15, sum = (row, half) => 16 + 2 * row + half;
  const all = [0, 1, 2, 3];
  const step = [
    ...get(panel), ...load(0), ...set(x0), ...get(panel), ...load(16), ...set(x1),
    ...all.flatMap(row => [
      ...get(i), ...splat(4 * row), ...tee(w), ...get(x0), ...times, ...get(sum(row, 0)), ...plus, ...set(sum(row, 0)),
      ...get(w), ...get(x1), ...times, ...get(sum(row, 1)), ...plus, ...set(sum(row, 1)),
    ]),
    ...advance(i, constant(16)), ...advance(panel, constant(32)),
  ];
  const tile = [
    ...all.flatMap(row => [...zero, ...set(sum(row, 0)), ...zero, ...set(sum(row, 1))]),
    ...get(a), ...set(i), ...get(depth), ...set(k), ...repeat(k, step),
    ...get(left), ...set(out),
    ...all.flatMap(row => [
      ...get(out), ...get(sum(row, 0)), ...store(0), ...get(out), ...get(sum(row, 1)), ...store(16),
      ...advance(out, get(stride)),
    ]),
    ...advance(left, constant(32)),
  ];
  const code = [
    ...get(columns), ...constant(5), SHL, ...set(stride),  // bytes of a row of c
    ...repeat(rows, [
      ...get(b), ...set(panel), ...get(c), ...set(left), ...get(columns), ...set(j), ...repeat(j, tile),
      ...advance(a, [...get(depth), ...constant(4), SHL]), ...advance(c, [...get(stride), ...constant(4), MUL]),
    ]),
    0x0b,
  ];
  const body = [2, 7, 0x7f, 11, 0x7b, ...code];
  return new Uint8Array([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, [1, 0x60, 6, ...new Array(6).fill(0x7f), 0]),
    ...section(2, [1, 1, 0x6d, 1, 0x6d, 2, 0, 64]),
    ...section(3, [1, 0]),
    ...section(7, [1, 1, 0x6b, 0, 0]),
    ...section(10, [1, ...number(body.length), ...body]),
  ]);
}
