// Owns what the workloads are: contracts, their state before, the transactions, and what each must
// return. Everything is a pure function of `code(name)`, the runtime bytecode.

import { address, bytes, call, keccak, mapped, offsets, selector, word } from './encode.mjs';
import * as models from './models.mjs';

const SENDER = 0x1111111111111111111111111111111111111111n;
const MAIN = 0xc0de000000000000000000000000000000000001n;
const OTHER = 0xc0de000000000000000000000000000000000002n;
const THIRD = 0xc0de000000000000000000000000000000000003n;
const FOURTH = 0xc0de000000000000000000000000000000000004n;

const success = (output) => ({ status: 'success', output });
const revert = (output) => ({ status: 'revert', output });

/** A workload of one contract and one call. */
function single(name, fork, code, data, output) {
  return { name, fork, accounts: [{ at: MAIN, code }], txs: [{ to: MAIN, data, expect: success(output) }] };
}

function token() {
  const balances = Array.from({ length: 32 }, (_, i) => 1_000_000n + BigInt(i) * 1000n);
  const storage = { '0x0': balances.reduce((a, b) => a + b) + 5000n, [mapped(SENDER, 1)]: 5000n };
  balances.forEach((balance, i) => { storage[mapped(0x1000 + i, 1)] = balance; });
  const yes = success(word(1));
  return {
    name: 'token',
    fork: 'London',
    accounts: [{ at: MAIN, code: 'Token', storage }],
    txs: [
      { data: call('transfer(address,uint256)', 0x9000, 1234), expect: yes },
      { data: call('approve(address,uint256)', SENDER, 3000), expect: yes },
      { data: call('transferFrom(address,address,uint256)', SENDER, 0x9001, 2000), expect: yes },
      {
        data: call('transferFrom(address,address,uint256)', SENDER, 0x9001, 2000),
        expect: revert(call('InsufficientAllowance(address,uint256,uint256)', SENDER, 1000, 2000)),
      },
      {
        data: call('transfer(address,uint256)', 0x9000, 5000),
        expect: revert(call('InsufficientBalance(address,uint256,uint256)', SENDER, 1766, 5000)),
      },
      { data: call('run(uint256)', 900), expect: success(models.token(balances, 900)) },
      { data: call('balanceOf(address)', 0x9001), expect: success(word(2000)) },
    ].map((tx) => ({ to: MAIN, ...tx })),
  };
}

function exchange() {
  const reserves = [10n ** 24n, 25n * 10n ** 23n];
  const rounds = 220;
  const held = (pool) => ({
    '0x0': pool + 10n ** 27n, [mapped(MAIN, 1)]: 10n ** 27n, [mapped(OTHER, 1)]: pool,
  });
  return {
    name: 'exchange',
    fork: 'Shanghai',
    accounts: [
      { at: MAIN, code: 'Trader' },
      {
        at: OTHER,
        code: 'Exchange',
        storage: {
          '0x0': THIRD,
          '0x1': FOURTH,
          '0x2': reserves[0] | (reserves[1] << 112n) | (1_690_000_000n << 224n),
          '0x5': 1n,
        },
      },
      { at: THIRD, code: 'Token', storage: held(reserves[0]) },
      { at: FOURTH, code: 'Token', storage: held(reserves[1]) },
    ],
    txs: [
      { to: MAIN, data: call('run(address,uint256)', OTHER, rounds), expect: success(models.exchange(reserves, rounds)) },
      { to: OTHER, data: call('swap(uint256,uint256,address)', 1000, 0, SENDER), expect: revert(selector('NothingPaid()')) },
    ],
  };
}

function airdrop() {
  const leaves = Array.from({ length: 1024 }, (_, i) => ({
    index: i, account: 0xa000n + BigInt(i) * 7919n, amount: 10n ** 18n + BigInt(i * i),
  }));
  const levels = [leaves.map(({ index, account, amount }) => keccak(keccak(word(index) + word(account) + word(amount))))];
  while (levels.at(-1).length > 1) {
    const below = levels.at(-1);
    levels.push(below.flatMap((node, i) => (i % 2 ? [] : [keccak([node, below[i + 1]].sort().join(''))])));
  }
  const claim = ({ index, account, amount }) => {
    const proof = levels.slice(0, -1).map((level, depth) => level[(index >> depth) ^ 1]);
    return word(index) + word(account) + word(amount) + word(128) + word(proof.length) + proof.join('');
  };
  const tuple = '(uint256,address,uint256,bytes32[])';
  const many = leaves.filter(({ index }) => index % 17 === 3);
  const one = (leaf) => selector(`claim(${tuple})`) + word(32) + claim(leaf);
  const total = many.reduce((sum, { amount }) => sum + amount, 0n);
  return {
    name: 'airdrop',
    fork: 'Cancun',
    accounts: [
      { at: MAIN, code: 'Airdrop', storage: { '0x0': BigInt('0x' + levels.at(-1)[0]), '0x1': OTHER } },
      { at: OTHER, code: 'Token', storage: { '0x0': 10n ** 24n, [mapped(MAIN, 1)]: 10n ** 24n } },
    ],
    txs: [
      {
        data: selector(`claimMany(${tuple}[])`) + word(32) + word(many.length) + offsets(many.map(claim)),
        expect: success(word(total)),
      },
      { data: one(leaves[20]), expect: revert(call('AlreadyClaimed(uint256)', 20)) },
      { data: one({ ...leaves[21], amount: 10n ** 20n }), expect: revert(call('InvalidProof(uint256)', 21)) },
      { data: one(leaves[21]), expect: success(word(leaves[21].amount)) },
    ].map((tx) => ({ to: MAIN, ...tx })),
  };
}

function proxy() {
  const slot = (layer) => '0x' + keccak(Buffer.from(`kiln.workload.proxy.${layer}`).toString('hex')).replace(/^0+/, '');
  return {
    name: 'proxy',
    fork: 'London',
    accounts: [
      { at: MAIN, code: 'Caller' },
      { at: OTHER, code: 'OuterProxy', storage: { [slot('outer')]: THIRD, [slot('inner')]: FOURTH } },
      { at: THIRD, code: 'InnerProxy' },
      { at: FOURTH, code: 'Ledger' },
    ],
    txs: [{ to: MAIN, data: call('run(address,uint256)', OTHER, 600), expect: success(models.ledger(600)) }],
  };
}

/** A program for Interpreter.sol: cell 0 counts down, cell 1 is the sum. */
function collatz() {
  const at = {};
  const code = [];
  const label = (name) => { at[name] = code.length; };
  const emit = (...items) => code.push(...items);
  const jump = (opcode, name) => code.push(opcode, { name, part: 8 }, { name, part: 0 });
  label('outer');
  emit(0x0f, 0, 0x0c); jump(0x0e, 'end');
  emit(0x0f, 0);
  label('inner');
  emit(0x02, 0, 0x01, 1, 0x0b); jump(0x0e, 'next');
  emit(0x0f, 1, 0x01, 1, 0x05, 0x10, 1);
  emit(0x02, 0, 0x01, 2, 0x09); jump(0x0e, 'odd');
  emit(0x01, 2, 0x08); jump(0x0d, 'inner');
  label('odd');
  emit(0x01, 3, 0x07, 0x01, 1, 0x05); jump(0x0d, 'inner');
  label('next');
  emit(0x04, 0x0f, 0, 0x01, 1, 0x06, 0x10, 0); jump(0x0d, 'outer');
  label('end');
  emit(0x0f, 1, 0x00);
  return code.map((item) => (typeof item === 'number' ? item : (at[item.name] >> item.part) & 255))
    .map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

function interpreter() {
  const signature = 'run(bytes,uint256)';
  const run = (code, input) => selector(signature) + word(64) + word(input) + bytes(code);
  return {
    name: 'interpreter',
    fork: 'Shanghai',
    accounts: [{ at: MAIN, code: 'Interpreter' }],
    txs: [
      { to: MAIN, data: run(collatz(), 20), expect: success(models.collatz(20)) },
      { to: MAIN, data: run('010a0513', 0), expect: revert(call('StackUnderflow(uint256)', 3)) },
      { to: MAIN, data: run('0101ff', 0), expect: revert(call('BadOpcode(uint256,uint8)', 2, 0xff)) },
    ],
  };
}

function pingPong() {
  const accounts = [
    { at: MAIN, code: 'ping', storage: { '0x0': OTHER } },
    { at: OTHER, code: 'pong', storage: { '0x0': MAIN } },
  ];
  return {
    name: 'ping-pong',
    fork: 'Berlin',
    accounts,
    txs: [
      { to: MAIN, data: word(101), expect: success(models.pingPong(101)) },
      { to: MAIN, data: word(40) + word(60), expect: success(models.pingPongSum(40, 60)) },
    ],
  };
}

function modPow() {
  const base = 0x2545f4914f6cdd1d9e3779b97f4a7c15f39cc0605cedc8341082276bf3a27251n;
  const exponent = (1n << 255n) - 0x1234567n;
  const p = (1n << 256n) - 189n;
  const data = word(base) + word(exponent) + word(p) + word(40);
  return single('modpow', 'Shanghai', 'modpow', data, models.modPow(base, exponent, p, 40));
}

/** All workloads. A function, because hashing has to be configured before. */
export const workloads = () => [
  token(),
  exchange(),
  airdrop(),
  proxy(),
  single('fixed-point', 'Osaka', 'FixedPoint', call('run(uint256)', 80), models.fixedPoint(80)),
  single('sorting', 'London', 'Sorting', call('run(uint256)', 160), models.sorting(160)),
  single('ray-march', 'Cancun', 'RayMarch', call('run(uint256,uint256)', 12, 10), models.rayMarch(12, 10)),
  single('registry', 'Cancun', 'Registry', call('run(uint256)', 60), models.registry(60)),
  interpreter(),
  single('fibonacci', 'Osaka', 'fibonacci', word(20_000), models.fibonacci(20_000)),
  single('memory', 'Petersburg', 'memory', word(2_500), models.memory(2_500)),
  single('keccak', 'Byzantium', 'keccak', word(2_000), models.hashChain(2_000)),
  pingPong(),
  modPow(),
];

export const sender = { at: SENDER, address: address(SENDER) };
