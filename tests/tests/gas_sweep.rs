//! Programs at every gas limit of a window: wherever the gas runs out, all engines end as the
//! interpreter does. The window of a program begins where its first instruction can be paid and is
//! as wide as what it uses, up to a bound; wider programs are sampled. What generators make is swept in
//! `generated.rs`, at the limits that `kiln_tests::sweep` chooses.

use kiln_tests::Case;
use kiln_tests::asm::assemble;
use kiln_tests::case::Contract;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::oracle;
use kiln_tests::generate::contract_address;
use kiln_tests::hunt::{Found, Hunter};
use kiln_tests::sweep;
use revm::primitives::{U256, hardfork::SpecId};
use std::collections::BTreeSet;

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

/// From the intrinsic gas to what the case uses at most: every limit at both ends, and every `step`th
/// between.
fn window(case: &Case) -> Vec<u64> {
    let db = CaseDb::new(case);
    let runs = |gas: u64| oracle(&Case { gas, ..case.clone() }, &db).transactions.remove(0);
    let first = (15_000..60_000).step_by(16).find(|gas| runs(*gas).result.is_ok());
    let first = first.unwrap_or(60_000) - 16;
    let last = runs(3_000_000).gas_spent().unwrap_or(first).max(first) + 3;
    let (step, edge) = (((last - first) / LIMITS).max(1), LIMITS / 4);
    let middle = (first..last).step_by(step as usize);
    let limits = (first..first + edge).chain(middle).chain(last.saturating_sub(edge)..=last);
    limits.collect::<BTreeSet<u64>>().into_iter().collect()
}

#[test]
fn programs_at_every_gas_limit() {
    let mut hunter = Hunter::new().expect("engines start");
    for (nth, (spec, text)) in (0..).zip(PROGRAMS) {
        let case = case(spec, text);
        let found = hunter.at_limits(nth, &case, window(&case));
        let texts: Vec<String> = found.iter().map(Found::to_string).collect();
        assert!(found.is_empty(), "{text}:\n{}", texts.join("\n"));
    }
    assert!(hunter.tally.cases > PROGRAMS.len() as u64 * 100);
}

/// The limits that the harness chooses are those at which something changes: between two of them a program
/// that only computes ends the same way, and has run as far.
#[test]
fn nothing_changes_between_chosen_limits() {
    let text = "PUSH 3 l: JUMPDEST PUSH 7 MLOAD POP PUSH 1 SWAP1 SUB DUP1 PUSH @l JUMPI PUSH 0 PUSH 0 RETURN";
    let case = case(SpecId::CANCUN, text);
    let db = CaseDb::new(&case);
    let limits: BTreeSet<u64> = sweep::limits(&case, &db, 1000).into_iter().collect();
    let ends = |gas: u64| {
        let outcome = oracle(&Case { gas, ..case.clone() }, &db);
        outcome.transactions[0].name()
    };
    let lowest = limits.first().expect("there are some") + 1;
    let range = lowest..22_000;
    let changes = range.filter(|gas| ends(*gas) != ends(gas + 1));
    let mut count = 0;
    for gas in changes {
        count += 1;
        assert!(limits.contains(&gas) && limits.contains(&(gas + 1)), "{gas}: {limits:?}");
    }
    assert!(count > 0);
}
