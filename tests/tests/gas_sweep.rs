//! Programs at every gas limit of a window: wherever the gas runs out, all engines end as the
//! interpreter does. The window of a program begins where its first instruction can be paid and is
//! as wide as what it uses, up to a bound; wider programs are sampled.

use kiln_tests::Case;
use kiln_tests::asm::assemble;
use kiln_tests::case::{Contract, TARGET};
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, oracle};
use kiln_tests::generate::{contract_address, seeded};
use revm::primitives::{U256, hardfork::SpecId};

/// Gas limits tried per program.
const LIMITS: u64 = 700;

const PROGRAMS: [(SpecId, &str); 24] = [
    (SpecId::CANCUN, "PUSH 1 PUSH 2 ADD PUSH 3 MUL PUSH 4 SUB PUSH 5 DIV PUSH 0 MSTORE STOP"),
    (
        SpecId::CANCUN,
        "PUSH 20 l: JUMPDEST PUSH 1 SWAP1 SUB DUP1 PUSH @l JUMPI PUSH 32 PUSH 0 RETURN",
    ),
    (
        SpecId::CANCUN,
        "PUSH 5 l: JUMPDEST DUP1 DUP1 MSTORE PUSH 1 SWAP1 SUB DUP1 PUSH @l JUMPI STOP",
    ),
    (SpecId::CANCUN, "PUSH 64 PUSH 0 KECCAK256 PUSH 0 MSTORE PUSH 100 PUSH 3 KECCAK256 POP STOP"),
    (SpecId::CANCUN, "PUSH 100 PUSH 0 PUSH 0 CALLDATACOPY PUSH 100 PUSH 0 PUSH 77 CODECOPY STOP"),
    (
        SpecId::CANCUN,
        "PUSH 300 PUSH 0 PUSH 5 MCOPY PUSH 0 PUSH 0 PUSH 0 RETURNDATACOPY MSIZE POP STOP",
    ),
    (SpecId::CANCUN, "PUSH 5 TLOAD PUSH 6 TSTORE PUSH 5 PUSH 5 TSTORE STOP"),
    (
        SpecId::CANCUN,
        "PUSH 1 SLOAD PUSH 2 SLOAD PUSH 1 SLOAD ADD ADD POP PUSH 1 PUSH 1 ADD POP STOP",
    ),
    (SpecId::CANCUN, "PUSH 1 PUSH 1 SSTORE PUSH 0 PUSH 1 SSTORE PUSH 2 PUSH 1 SSTORE STOP"),
    (SpecId::LONDON, "PUSH 0 PUSH 1 SSTORE PUSH 1 PUSH 1 SSTORE GAS PUSH 0 MSTORE STOP"),
    (SpecId::ISTANBUL, "PUSH 1 SLOAD POP PUSH 7 PUSH 1 SSTORE PUSH 1 PUSH 2 ADD POP STOP"),
    (SpecId::FRONTIER, "PUSH 1 SLOAD POP PUSH 7 PUSH 1 SSTORE PUSH 9 PUSH 9 EXP POP STOP"),
    (
        SpecId::CANCUN,
        "PUSH 0xffff PUSH 3 EXP PUSH 0 CALLDATALOAD PUSH 7 EXP ADD PUSH 0 MSTORE STOP",
    ),
    (
        SpecId::CANCUN,
        "PUSH 1 PUSH 2 PUSH 40 PUSH 10 LOG2 PUSH 0 PUSH 0 LOG0 PUSH 32 PUSH 0 LOG0 STOP",
    ),
    (
        SpecId::CANCUN,
        "PUSH 0xdead BALANCE PUSH 0xdead EXTCODESIZE PUSH 0xdeaf EXTCODEHASH POP POP POP STOP",
    ),
    (
        SpecId::CANCUN,
        "PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0xc0de1 GAS CALL PUSH 0 MSTORE GAS POP STOP",
    ),
    (
        SpecId::CANCUN,
        "PUSH 64 PUSH 0 PUSH 0 PUSH 0 PUSH 1 PUSH 0xdead PUSH 0 CALL PUSH 0 MSTORE STOP",
    ),
    (
        SpecId::FRONTIER,
        "PUSH 32 PUSH 0 PUSH 32 PUSH 0 PUSH 0 PUSH 0xc0de1 PUSH 300 CALL PUSH 0 MSTORE STOP",
    ),
    (
        SpecId::CANCUN,
        "PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0xc0de1 GAS STATICCALL RETURNDATASIZE ADD POP STOP",
    ),
    (SpecId::PRAGUE, "PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0xc0de2 GAS CALL PUSH 0 MSTORE STOP"),
    (SpecId::AMSTERDAM, "PUSH 1 PUSH 1 SSTORE PUSH 0 PUSH 1 SSTORE PUSH 1 SLOAD POP GAS POP STOP"),
    (
        SpecId::AMSTERDAM,
        "20*( PUSH0 ) DUPN 0x80 SWAPN 0x80 EXCHANGE 0x8e SLOTNUM PUSH 0 MSTORE ADD STOP",
    ),
    (
        SpecId::OSAKA,
        "PUSH 0 CALLDATALOAD CLZ PUSH @e JUMPI PUSH 1 e: JUMPDEST PUSH 500 PUSH 100 REVERT",
    ),
    (
        SpecId::SHANGHAI,
        "PUSH 0 CALLDATALOAD PUSH @a JUMPI INVALID a: JUMPDEST PUSH 9 CALLDATALOAD JUMP",
    ),
];

fn case(spec: SpecId, text: &str) -> Case {
    let mut case = Case::of_code(spec, assemble(text).expect("assembles"));
    case.target_mut().storage.insert(U256::from(1), U256::from(5));
    case.target_mut().balance = U256::from(100);
    case.calldata = vec![0x80, 1, 2, 3, 0, 0, 0, 0, 0, 5, 0, 0, 7];
    let callee = assemble("GAS PUSH 0 MSTORE PUSH 3 SLOAD POP PUSH 32 PUSH 0 RETURN");
    let callee = Contract { code: callee.expect("assembles"), ..Contract::default() };
    case.contracts.insert(contract_address(1), callee);
    let delegated = Contract { delegate: Some(contract_address(1)), ..Contract::default() };
    case.contracts.insert(contract_address(2), delegated);
    case
}

/// Runs a case at up to `count` gas limits from the intrinsic gas to what it uses at most.
fn sweep(engines: &Engines, mut case: Case, count: u64) {
    case.gas = 3_000_000;
    let db = CaseDb::new(&case);
    let full = oracle(&case, &db);
    let Some(Ok(used)) = full.transactions.first().map(|first| first.result.as_ref()) else {
        return;
    };
    let first = (15_000..60_000).step_by(16).find(|gas| {
        let outcome = oracle(&Case { gas: *gas, ..case.clone() }, &db);
        outcome.transactions.first().is_some_and(|first| first.result.is_ok())
    });
    let first = first.unwrap_or(60_000).saturating_sub(16);
    let last = used.gas().total_gas_spent() + 3;
    // The ends of the window in full, its middle in steps.
    let step = ((last.max(first) - first) / count).max(1);
    let edge = count / 4;
    let limits = (first..first + edge).chain((first..last).step_by(step as usize));
    for gas in limits.chain(last.saturating_sub(edge)..last) {
        let case = Case { gas, ..case.clone() };
        let expected = oracle(&case, &db);
        for &kind in Kind::WHOLE {
            let details = differences(&expected, &engines.run(kind, &case, &db));
            assert!(details.is_empty(), "{kind:?} differs: {}\n{case}", details.join("\n"));
        }
    }
    engines.clear();
}

#[test]
fn programs_at_every_gas_limit() {
    let engines = Engines::new().expect("engines start");
    for (spec, text) in PROGRAMS {
        sweep(&engines, case(spec, text), LIMITS);
    }
}

#[test]
fn generated_programs_at_many_gas_limits() {
    let engines = Engines::new().expect("engines start");
    for seed in 0..40 {
        let case = Case { repeat: 1, ..seeded(1_000_000 + seed) };
        assert!(case.contracts.contains_key(&TARGET));
        sweep(&engines, case, 100);
    }
}
