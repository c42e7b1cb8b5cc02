#!/usr/bin/env node
// Compiles workloads/src into workloads/bytecode and workloads/*.json.
//
//   node scripts/compile-workloads.mjs           writes the files
//   node scripts/compile-workloads.mjs --check   writes nothing; exit code 1 if a file would change
//
// `solc` is installed from npm into a temporary folder, which is removed afterwards. What a fixture
// expects is kept where the rest of it did not change; otherwise it is left out, and
// `kiln record workloads/NAME.json` fills it in. What was recorded is compared with the models.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { assemble } from '../workloads/tools/assembler.mjs';
import { configure } from '../workloads/tools/encode.mjs';
import { disagreements, skeleton } from '../workloads/tools/fixture.mjs';
import { workloads } from '../workloads/tools/workloads.mjs';

const SOLC = '0.8.30';
// Sources that are not compiled as everything else is: fork of the target, and whether by way of Yul.
const SETTINGS = {
  'Airdrop.sol': { evmVersion: 'cancun' },
  'Exchange.sol': { evmVersion: 'shanghai' },
  'FixedPoint.sol': { evmVersion: 'prague' },
  'Interpreter.sol': { evmVersion: 'shanghai' },
  'RayMarch.sol': { evmVersion: 'cancun', viaIR: true },
  'Registry.sol': { evmVersion: 'cancun' },
};
// Warnings that are no error here: 2394 says that transient storage needs care.
const ACCEPTED = ['2394'];

const root = join(dirname(fileURLToPath(import.meta.url)), '..', 'workloads');
const check = process.argv.includes('--check');
const problems = [];

function install(folder) {
  const packages = [`solc@${SOLC}`];
  execFileSync('npm', ['install', '--no-audit', '--no-fund', '--silent', '--prefix', folder, ...packages], { stdio: 'inherit' });
  const require = createRequire(join(folder, 'index.js'));
  // js-sha3 is one of solc's own dependencies.
  return { solc: require('solc'), keccak256: require('js-sha3').keccak256 };
}

function compile(solc, file, content) {
  const input = {
    language: 'Solidity',
    sources: { [file]: { content } },
    settings: {
      optimizer: { enabled: true, runs: 200 },
      evmVersion: 'london',
      // Without the metadata hash the bytecode depends on nothing but the code.
      metadata: { appendCBOR: false, bytecodeHash: 'none' },
      outputSelection: { '*': { '*': ['evm.deployedBytecode.object'] } },
      ...SETTINGS[file],
    },
  };
  const output = JSON.parse(solc.compile(JSON.stringify(input)));
  const errors = (output.errors ?? []).filter(({ errorCode }) => !ACCEPTED.includes(errorCode));
  if (errors.length) throw new Error(errors.map((error) => error.formattedMessage).join('\n'));
  return Object.entries(output.contracts[file])
    .map(([name, { evm }]) => [name, evm.deployedBytecode.object])
    .filter(([, code]) => code !== '');
}

/** Runtime bytecode by name of the contract, or of the file of hand-written code. */
function build(solc) {
  const codes = new Map();
  for (const file of readdirSync(join(root, 'src')).sort()) {
    const content = readFileSync(join(root, 'src', file), 'utf8');
    try {
      const built = file.endsWith('.sol') ? compile(solc, file, content) : [[file.replace('.evm', ''), assemble(content)]];
      for (const [name, code] of built) codes.set(name, code);
    } catch (error) {
      throw new Error(`${file}: ${error.message}`);
    }
  }
  return codes;
}

function write(path, text) {
  if (existsSync(path) && readFileSync(path, 'utf8') === text) return;
  if (check) problems.push(`${relative(root, path)} is out of date`);
  else writeFileSync(path, text);
}

/** `value` with all keys sorted: files that `kiln record` wrote have another order. */
function canonical(value) {
  if (Array.isArray(value)) return value.map(canonical);
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, canonical(value[key])]));
}

const same = (a, b) => JSON.stringify(canonical(a)) === JSON.stringify(canonical(b));

function fixture(workload, codes) {
  const path = join(root, `${workload.name}.json`);
  const fresh = skeleton(workload, (name) => {
    if (!codes.has(name)) throw new Error(`${workload.name}: no source of ${name}`);
    return codes.get(name);
  });
  const { expected, ...before } = existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : {};
  if (!same(before, fresh)) write(path, JSON.stringify(fresh) + '\n');
  if (expected && same(before, fresh)) problems.push(...disagreements(workload, expected));
  else problems.push(`${workload.name}.json has no result yet: kiln record workloads/${workload.name}.json`);
}

const folder = mkdtempSync(join(tmpdir(), 'kiln-solc-'));
try {
  const { solc, keccak256 } = install(folder);
  configure(keccak256);
  const codes = build(solc);
  mkdirSync(join(root, 'bytecode'), { recursive: true });
  for (const [name, code] of codes) write(join(root, 'bytecode', `${name}.hex`), `0x${code}\n`);
  for (const workload of workloads()) fixture(workload, codes);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
for (const problem of problems) console.error(problem);
process.exitCode = problems.length ? 1 : 0;
