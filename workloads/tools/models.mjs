// Owns a second implementation of every workload, in terms of integers and lists: what its transaction
// must return. The models know nothing of the EVM, so that a workload is checked by something else than
// the engine that recorded it.

import { keccak, word } from './encode.mjs';

const wrap = (value) => BigInt.asUintN(256, value);
const mix = (checksum, value) => wrap(checksum * 31n + value);

/** The 64-bit generator of the Solidity sources. */
function* random(seed) {
  for (;;) {
    seed = BigInt.asUintN(64, seed * 6364136223846793005n + 1442695040888963407n);
    yield seed;
  }
}

export function token(balances, rounds) {
  const held = [...balances];
  const numbers = random(1n);
  for (let i = 0; i < rounds; i++) {
    const seed = numbers.next().value;
    const from = Number((seed >> 59n) & 31n);
    const to = Number((seed >> 54n) & 31n);
    const amount = (seed >> 20n) % 500_000n;
    if (held[from] < amount) continue;
    held[from] -= amount;
    held[to] += amount;
  }
  return word(held.reduce(mix, 0n));
}

export function exchange(reserves, rounds) {
  const r = [...reserves];
  const numbers = random(7n);
  let checksum = 0n;
  for (let i = 0; i < rounds; i++) {
    const seed = numbers.next().value;
    const amount = 10n ** 18n + (seed << 2n);
    const side = seed >> 63n ? 1 : 0;
    const withFee = amount * 997n;
    const out = (withFee * r[1 - side]) / (r[side] * 1000n + withFee);
    r[side] += amount;
    r[1 - side] -= out;
    checksum = mix(checksum, out);
  }
  return word(checksum);
}

export function ledger(rounds) {
  const counters = Array(16).fill(0n);
  let checksum = 0n;
  let total = 0n;
  let reverts = 0n;
  for (let i = 0; i < rounds; i++) {
    const amount = BigInt((i % 7 === 6 ? 1000 + i : i) % 2000);
    if (amount >= 1000n) {
      reverts++;
      continue;
    }
    counters[i % 16] += amount;
    total += amount;
    checksum = mix(checksum, counters[i % 16]);
  }
  return word(mix(mix(checksum, total), reverts));
}

const ONE = 10n ** 18n;
const LN2 = 693147180559945309n;
const log2 = (x) => BigInt(x.toString(2).length - 1);

function squareRoot(x) {
  let low = 0n;
  let high = 1n << 128n;
  while (high - low > 1n) {
    const middle = (low + high) >> 1n;
    if (middle * middle <= x) low = middle;
    else high = middle;
  }
  return low;
}

function exponential(x) {
  const r = x % LN2;
  let sum = ONE;
  for (let i = 1n, term = ONE; term !== 0n; i++) {
    term = (term * r) / (ONE * i);
    sum += term;
  }
  return sum << (x / LN2);
}

function logarithm(x) {
  const k = log2(x / ONE);
  const y = x >> k;
  let z = ((y - ONE) * ONE) / (y + ONE);
  const z2 = (z * z) / ONE;
  let sum = 0n;
  for (let i = 1n; z !== 0n; i += 2n) {
    sum += z / i;
    z = (z * z2) / ONE;
  }
  return 2n * sum + k * LN2;
}

export function fixedPoint(rounds) {
  const PRIME = 0x100000001b3n;
  let seed = 0x9e3779b97f4a7c15f39cc0605cedc8341082276bf3a27251f86c6a11d0c18e95n;
  let checksum = 0n;
  for (let i = 0n; i < rounds; i++) {
    seed = wrap(seed * 0x5851f42d4c957f2d14057b7ef767814fn + 0x14057b7ef767814fn);
    const quotient = (seed * wrap(~seed)) / ((seed | (1n << 255n)) - (i << 200n));
    const e = exponential(seed % (40n * ONE));
    checksum = wrap((checksum ^ quotient ^ squareRoot(quotient)) * PRIME + e);
    checksum = wrap((checksum ^ logarithm(ONE + (seed >> 150n))) * PRIME);
  }
  return word(checksum);
}

export function sorting(length) {
  const hashes = [[length, 1], [length, 2], [Math.floor(length / 4), 3]].map(([count, seed]) => {
    const values = Array.from({ length: count }, (_, i) => keccak(word(seed) + word(i)).slice(0, 32));
    return keccak(values.sort().map((half) => half.padStart(64, '0')).join(''));
  });
  return keccak(hashes.join(''));
}

export function rayMarch(width, height) {
  const S = 1n << 32n;
  const norm = ([x, y, z]) => squareRoot(x * x + y * y + z * z);
  const sphere = (p, c, radius) => norm(p.map((value, k) => value - c[k])) - radius;
  const distance = (p) =>
    [sphere(p, [-S / 2n, 0n, 4n * S], S), sphere(p, [S, -S / 4n, 3n * S], S / 2n), p[1] + S]
      .reduce((a, b) => (b < a ? b : a));
  const shade = (p, d) => {
    let light = (distance([p[0] - S / 16n, p[1] + S / 8n, p[2] - S / 16n]) - d) * 8n;
    if (light < 0n) light = 0n;
    if (light > S) light = S;
    return 16n + ((light * 239n) >> 32n);
  };
  const pixel = (u, v) => {
    const ray = [u, v, (3n * S) / 2n];
    const length = norm(ray);
    const direction = ray.map((value) => (value * S) / length);
    for (let step = 0, t = 0n; step < 28 && t <= 24n * S; step++) {
      const p = direction.map((value) => (value * t) >> 32n);
      const d = distance(p);
      if (d < S >> 8n) return shade(p, d);
      t += d;
    }
    return 0n;
  };
  const image = [];
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const u = (BigInt(2 * column + 1) * S) / BigInt(width) - S;
      const v = S - (BigInt(2 * row + 1) * S) / BigInt(height);
      image.push(pixel(u, v));
    }
  }
  const hash = keccak(image.map((value) => value.toString(16).padStart(2, '0')).join(''));
  return hash + word(image.reduce((a, b) => a + b));
}

export function registry(names) {
  const make = (i) => {
    const name = [];
    for (let k = 0, rest = i + 1; k < 3 + ((i * 23) % 70); k++) {
      name.push(97 + (rest % 26));
      rest = Math.floor(rest / 26) + k;
    }
    name[0] = 48 + (Math.floor(i / 10) % 10);
    name[1] = 48 + (i % 10);
    const hex = Buffer.from(name).toString('hex');
    return { id: keccak(hex), owner: i & 7, expiry: BigInt(1000 + i), version: 1n, length: BigInt(name.length) };
  };
  const all = Array.from({ length: names }, (_, i) => make(i));
  const numbers = random(3n);
  for (let i = 0; i < 4 * names; i++) {
    const seed = numbers.next().value;
    const record = all[Number((seed >> 33n) % BigInt(names))];
    record.expiry += seed >> 54n;
    record.version++;
  }
  const index = [...all];
  const lists = Array.from({ length: 8 }, (_, owner) => all.filter((record) => record.owner === owner).reverse());
  for (let i = 0; i < names; i += 3) {
    const at = index.indexOf(all[i]);
    const last = index.pop();
    if (at < index.length) index[at] = last;
    lists[i & 7].splice(lists[i & 7].indexOf(all[i]), 1);
  }
  let checksum = 0n;
  for (const { expiry, version, length, id } of index) {
    checksum = [expiry, version, length, BigInt('0x' + id)].reduce(mix, checksum);
  }
  for (const record of lists.flat()) checksum = mix(checksum, BigInt(index.indexOf(record)));
  return word(checksum);
}

/** The sum of the Collatz lengths of 1..n, and how many instructions `collatz` in workloads.mjs takes. */
export function collatz(n) {
  let total = 0n;
  let steps = 5n;
  for (let i = 1; i <= n; i++) {
    steps += 14n;
    for (let x = i; x !== 1; x = x % 2 ? 3 * x + 1 : x / 2) {
      total++;
      steps += x % 2 ? 17n : 15n;
    }
  }
  return word(total) + word(steps);
}

export function fibonacci(n) {
  let [a, b] = [0n, 1n];
  for (let i = 0; i < n; i++) [a, b] = [b, wrap(a + b)];
  return word(a);
}

export function memory(n) {
  const image = Buffer.alloc(32 * n);
  for (let i = 0; i < n; i++) {
    const value = word(BigInt(i) * BigInt(i) * 0xf39cc0605cedc8341082276bf3a272519e3779b97f4a7c15f86c6a11d0c18e95n);
    image.write(value, 32 * (n - 1 - i), 'hex');
  }
  let sum = 0n;
  for (let offset = 0; offset < 32 * (n - 1); offset += 32) {
    sum = mix(sum, BigInt('0x' + image.toString('hex', offset + 13, offset + 45)));
    image[offset + 7] = Number(sum & 255n);
  }
  return word(sum) + word(32 * n);
}

export function hashChain(n) {
  let hash = word(0);
  for (let i = n; i > 0; i--) hash = keccak(hash + word(i) + (i & 3 ? '' : '00'.repeat(136)));
  return hash;
}

const ping = (depth) => (depth === 0n ? 1n : wrap(pong(depth - 1n) * 3n + depth));
const pong = (depth) => (depth === 0n ? 2n : wrap((ping(depth - 1n) ^ depth) + 1n));
export const pingPong = (depth) => word(ping(BigInt(depth)));

export function pingPongSum(depth, rounds) {
  let sum = 0n;
  for (let i = 0; i < rounds; i++) sum = mix(sum, ping(BigInt(depth)));
  return word(sum);
}

export function modPow(base, exponent, p, n) {
  for (let i = 0; i < n; i++) {
    let result = 1n;
    for (let e = exponent, square = base; e > 0n; e >>= 1n, square = (square * square) % p) {
      if (e & 1n) result = (result * square) % p;
    }
    base = result;
  }
  return word(base);
}
