// Owns the encodings that the fixtures need: words, ABI arguments, storage keys, Keccak.
// `configure` must have been called with js-sha3's keccak256 before any hash is taken.

let keccakHex;

/** Sets the hash function (from the `js-sha3` that comes with `solc`). */
export function configure(keccak256) {
  keccakHex = keccak256;
}

/** Keccak-256 of a hex string, as hex; both without a prefix. */
export const keccak = (hex) => keccakHex(Buffer.from(hex, 'hex'));
export const keccakText = (text) => keccak(Buffer.from(text).toString('hex'));

const MASK = (1n << 256n) - 1n;
/** A 256-bit word as hex without a prefix; negative numbers wrap. */
export const word = (value) => (BigInt(value) & MASK).toString(16).padStart(64, '0');
/** A quantity of the fixture format: no leading zeros. */
export const quantity = (value) => '0x' + (BigInt(value) & MASK).toString(16);
export const address = (value) => '0x' + BigInt(value).toString(16).padStart(40, '0');

/** Calldata of `signature` with static arguments (numbers) only. */
export const call = (signature, ...values) => selector(signature) + values.map(word).join('');
export const selector = (signature) => keccakText(signature).slice(0, 8);

/** ABI `bytes`, without its head. */
export function bytes(hex) {
  return word(hex.length / 2) + hex.padEnd(Math.ceil(hex.length / 64) * 64, '0');
}

/** Elements of a dynamic type behind their offsets, as in the tail of an array. */
export function offsets(elements) {
  let at = 32 * elements.length;
  const heads = elements.map((element) => {
    const head = word(at);
    at += element.length / 2;
    return head;
  });
  return heads.join('') + elements.join('');
}

/** Storage key of `mapping[key]` for the mapping at `slot`. */
export const mapped = (key, slot) => quantity('0x' + keccak(word(key) + word(slot)));
