// Owns the assembler of the hand-written workloads (`workloads/src/*.evm`).
//
// One token is one of
//   NAME        an opcode
//   name:       a label: a JUMPDEST here
//   @name       PUSH2 of that label's offset
//   123, 0x7b   the shortest PUSH of that number (0 is PUSH1 0: runs on forks before Shanghai)
// and `;` begins a comment.

const FIXED = {
  STOP: 0x00, ADD: 0x01, MUL: 0x02, SUB: 0x03, DIV: 0x04, SDIV: 0x05, MOD: 0x06, SMOD: 0x07,
  ADDMOD: 0x08, MULMOD: 0x09, EXP: 0x0a, SIGNEXTEND: 0x0b, LT: 0x10, GT: 0x11, SLT: 0x12, SGT: 0x13,
  EQ: 0x14, ISZERO: 0x15, AND: 0x16, OR: 0x17, XOR: 0x18, NOT: 0x19, BYTE: 0x1a, SHL: 0x1b, SHR: 0x1c,
  SAR: 0x1d, KECCAK256: 0x20, ADDRESS: 0x30, BALANCE: 0x31, ORIGIN: 0x32, CALLER: 0x33,
  CALLVALUE: 0x34, CALLDATALOAD: 0x35, CALLDATASIZE: 0x36, CALLDATACOPY: 0x37, CODESIZE: 0x38,
  CODECOPY: 0x39, RETURNDATASIZE: 0x3d, RETURNDATACOPY: 0x3e, POP: 0x50, MLOAD: 0x51, MSTORE: 0x52,
  MSTORE8: 0x53, SLOAD: 0x54, SSTORE: 0x55, JUMP: 0x56, JUMPI: 0x57, PC: 0x58, MSIZE: 0x59, GAS: 0x5a,
  CALL: 0xf1, CALLCODE: 0xf2, RETURN: 0xf3, DELEGATECALL: 0xf4, STATICCALL: 0xfa, REVERT: 0xfd,
  INVALID: 0xfe,
};
const JUMPDEST = 0x5b;

function opcode(token) {
  if (token in FIXED) return FIXED[token];
  const family = /^(DUP|SWAP)([1-9]|1[0-6])$/.exec(token);
  if (!family) return undefined;
  return (family[1] === 'DUP' ? 0x7f : 0x8f) + Number(family[2]);
}

function push(value) {
  let hex = value.toString(16);
  if (hex.length % 2) hex = '0' + hex;
  const bytes = hex.match(/../g).map((byte) => parseInt(byte, 16));
  if (bytes.length > 32) throw new Error(`number of more than 32 bytes: ${value}`);
  return [0x5f + bytes.length, ...bytes];
}

/** The bytecode of `source` as hex without a prefix; throws with the line number on a bad token. */
export function assemble(source) {
  const code = [];
  const labels = new Map();
  const uses = [];
  source.split('\n').forEach((text, at) => {
    for (const token of text.replace(/;.*/, '').split(/\s+/).filter(Boolean)) {
      const fail = (reason) => { throw new Error(`line ${at + 1}: ${reason}: ${token}`); };
      if (token.endsWith(':')) {
        if (labels.has(token.slice(0, -1))) fail('label defined twice');
        labels.set(token.slice(0, -1), code.length);
        code.push(JUMPDEST);
      } else if (token.startsWith('@')) {
        uses.push({ name: token.slice(1), offset: code.length + 1, fail });
        code.push(0x61, 0, 0);
      } else if (/^[0-9]/.test(token)) {
        code.push(...push(BigInt(token)));
      } else {
        code.push(opcode(token) ?? fail('unknown opcode'));
      }
    }
  });
  for (const { name, offset, fail } of uses) {
    const target = labels.get(name) ?? fail('unknown label');
    code[offset] = target >> 8;
    code[offset + 1] = target & 255;
  }
  return Buffer.from(code).toString('hex');
}
