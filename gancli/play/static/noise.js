// The noise of gan sample, number for number: image i of a seed is the same here and on the command line.
"use strict";

// gan sample draws noise in blocks of 64 images, each from a seed of its own (gancli/inference/generator.py).
const BLOCK = 64;
const noiseBlocks = new Map();  // the last ones, by "seed/block"

// Returns z of image `index` of `seed`, a view of z_dim numbers.
function noiseOf(seed, index, zDim) {
  const block = Math.floor(index / BLOCK), key = `${seed}/${block}`;
  if (!noiseBlocks.has(key)) {
    if (noiseBlocks.size > 16) noiseBlocks.clear();
    noiseBlocks.set(key, randomNormal(deriveSeed(seed, "z", block), BLOCK * zDim));
  }
  const start = (index - block * BLOCK) * zDim;
  return noiseBlocks.get(key).subarray(start, start + zDim);
}

// derive_seed of gancli/runtime/seeding.py. Of its 63 bits torch's generator uses the lower 32 alone.
function deriveSeed(seed, purpose, block) {
  const digest = blake2b8(new TextEncoder().encode(`(${seed}, '${purpose}', ${block})`));
  return Number((digest >> 1n) & 0xffffffffn);
}

const BLAKE_IV = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
const BLAKE_SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4], [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5], [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];

// BLAKE2b (RFC 7693) of at most 128 bytes with a digest of 8 bytes, as hashlib.blake2b(digest_size=8), big-endian.
function blake2b8(bytes) {
  const buffer = new Uint8Array(128);
  buffer.set(bytes);
  const m = [...new BigUint64Array(buffer.buffer)];
  const h = [...BLAKE_IV];
  h[0] ^= 0x01010008n;  // a digest of 8 bytes, no key
  const v = [...h, ...BLAKE_IV];
  v[12] ^= BigInt(bytes.length);
  v[14] ^= 0xffffffffffffffffn;  // the last block
  const add = (...terms) => BigInt.asUintN(64, terms.reduce((a, b) => a + b));
  const rotate = (x, n) => BigInt.asUintN(64, (x >> n) | (x << (64n - n)));
  const mix = (a, b, c, d, x, y) => {
    v[a] = add(v[a], v[b], x); v[d] = rotate(v[d] ^ v[a], 32n);
    v[c] = add(v[c], v[d]); v[b] = rotate(v[b] ^ v[c], 24n);
    v[a] = add(v[a], v[b], y); v[d] = rotate(v[d] ^ v[a], 16n);
    v[c] = add(v[c], v[d]); v[b] = rotate(v[b] ^ v[c], 63n);
  };
  for (let round = 0; round < 12; round++) {
    const s = BLAKE_SIGMA[round % 10];
    for (let i = 0; i < 4; i++) mix(i, 4 + i, 8 + i, 12 + i, m[s[2 * i]], m[s[2 * i + 1]]);
    for (let i = 0; i < 4; i++) {
      mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
    }
  }
  const word = h[0] ^ v[0] ^ v[8];
  return new DataView(new BigUint64Array([word]).buffer).getBigUint64(0, false);
}

// Mersenne Twister (Matsumoto and Nishimura 1998), seeded as torch.Generator().manual_seed.
class MersenneTwister {
  constructor(seed) {
    this.state = new Uint32Array(624);
    this.state[0] = seed;
    for (let i = 1; i < 624; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
    this.position = 624;
  }

  next() {
    if (this.position === 624) this.refill();
    let y = this.state[this.position++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  refill() {
    const s = this.state;
    for (let i = 0; i < 624; i++) {
      const y = (s[i] & 0x80000000) | (s[(i + 1) % 624] & 0x7fffffff);
      s[i] = s[(i + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
    }
    this.position = 0;
  }
}

// torch.randn of n numbers on the CPU, n a multiple of 16: uniforms of 24 bits, then Box-Muller on groups of 16.
function randomNormal(seed, n) {
  const twister = new MersenneTwister(seed), z = new Float32Array(n);
  for (let i = 0; i < n; i++) z[i] = (twister.next() & 0xffffff) / 0x1000000;
  for (let start = 0; start < n; start += 16) {
    for (let j = start; j < start + 8; j++) {
      const radius = Math.sqrt(-2 * Math.log(1 - z[j])), angle = 2 * Math.PI * z[j + 8];
      z[j] = radius * Math.cos(angle);
      z[j + 8] = radius * Math.sin(angle);
    }
  }
  return z;
}

// Interpolates along the arc from a to b, as slerp of gancli/inference/generator.py.
function slerp(a, b, t) {
  let product = 0, lengthA = 0, lengthB = 0;
  for (let i = 0; i < a.length; i++) {
    product += a[i] * b[i];
    lengthA += a[i] * a[i];
    lengthB += b[i] * b[i];
  }
  const angle = Math.acos(Math.max(-1, Math.min(1, product / Math.max(Math.sqrt(lengthA * lengthB), 1e-8))));
  const sine = Math.sin(angle), straight = sine < 1e-4;
  const p = straight ? 1 - t : Math.sin((1 - t) * angle) / sine, q = straight ? t : Math.sin(t * angle) / sine;
  return a.map((x, i) => p * x + q * b[i]);
}
