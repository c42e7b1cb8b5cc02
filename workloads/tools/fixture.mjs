// Owns the evm-fixture-v1 skeleton of a workload: everything but `expected`, which only an engine can
// know (`kiln record` writes it), and the check of a recorded `expected` against the models.

import { address, keccak, quantity } from './encode.mjs';
import { sender } from './workloads.mjs';

const FORKS = ['Byzantium', 'Petersburg', 'Berlin', 'London', 'Shanghai', 'Cancun', 'Osaka'];
const from = (fork, first) => FORKS.indexOf(fork) >= FORKS.indexOf(first);
const GWEI = 10n ** 9n;

function env(fork) {
  if (!FORKS.includes(fork)) throw new Error(`unknown fork ${fork}`);
  const merged = from(fork, 'Shanghai');
  return {
    number: 20_000_000,
    timestamp: 1_700_000_000,
    beneficiary: address(0xbe0e),
    gas_limit: 36_000_000,
    basefee: from(fork, 'London') ? Number(7n * GWEI) : 0,
    difficulty: merged ? '0x0' : '0x20000',
    prevrandao: merged ? '0x' + keccak('') : null,
    excess_blob_gas: from(fork, 'Cancun') ? 0 : null,
    blob_base_fee_update_fraction: from(fork, 'Osaka') ? 5007716 : from(fork, 'Cancun') ? 3338477 : null,
  };
}

function transaction({ to, data }, nonce, fork, several) {
  const priced = from(fork, 'London');
  return {
    type: priced ? 2 : 0,
    from: sender.address,
    to: address(to),
    nonce,
    gas_limit: 16_000_000,
    gas_price: quantity((priced ? 20n : 10n) * GWEI),
    max_priority_fee: priced ? quantity(GWEI) : null,
    value: '0x0',
    data: '0x' + data,
    chain_id: 1,
    ...(several && { index: nonce }),
  };
}

/** The fixture of `workload`; `code(name)` is the runtime bytecode of a source. */
export function skeleton({ name, fork, accounts, txs }, code) {
  const codes = {};
  const pre_state = {
    [sender.address]: { balance: quantity(10n ** 21n), nonce: 0, code_hash: null, storage: {} },
  };
  for (const { at, code: source, storage = {} } of accounts) {
    const hash = '0x' + keccak(code(source));
    codes[hash] = '0x' + code(source);
    const words = Object.entries(storage).map(([slot, value]) => [slot, quantity(value)]);
    pre_state[address(at)] = { balance: '0x0', nonce: 1, code_hash: hash, storage: Object.fromEntries(words) };
  }
  const several = txs.length > 1;
  return {
    format: 'evm-fixture-v1',
    kind: several ? 'block-partial' : 'contract',
    name,
    source: `workloads/src (${accounts.map((account) => account.code).join(', ')})`,
    chain_id: 1,
    fork,
    // A single call may be of any size; a transaction of a block keeps to EIP-7825.
    ...(!several && { tx_gas_limit_cap: false }),
    env: env(fork),
    txs: txs.map((tx, nonce) => transaction(tx, nonce, fork, several)),
    pre_state,
    codes,
    block_hashes: {},
  };
}

/** What in `expected` is not what the models say, as readable lines. */
export function disagreements({ name, txs }, expected) {
  return txs.flatMap(({ expect }, i) => {
    const { status, output } = expected.txs[i];
    const want = `${expect.status} 0x${expect.output}`;
    const have = `${status} ${output}`;
    return want === have ? [] : [`${name}, transaction ${i}: the model says ${want}, recorded is ${have}`];
  });
}
