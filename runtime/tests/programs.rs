//! Small programs: plain revm against every backend, at every gas limit that matters.

mod common;

use common::{call, compare, context, fresh_engines, transact};
use kiln_runtime::{Config, Tiered};
use revm::{MainBuilder, context::result::ExecutionResult, primitives::hardfork::SpecId};

/// Compares at gas limits from just the intrinsic cost up to where nothing changes any more.
fn sweep(spec: SpecId, main: &str, other: &str, data: &[u8], span: u64) {
    let base = 21_000 + 16 * data.len() as u64;
    for gas in (base..base + span).chain([1_000_000]) {
        compare(spec, main, other, &call(gas, data));
    }
}

#[test]
fn a_loop() {
    // i = 10; while (i) { i -= 1 }; return i
    let code = "600a 5b 6001 9003 80 6002 57 5f 52 6020 5f f3";
    sweep(SpecId::CANCUN, code, "", &[], 320);
}

#[test]
fn a_long_loop_comes_back_to_the_host() {
    // i = 5000; do { i -= 1 } while (i); return gas. Then with JUMP in place of JUMPI.
    let branches = "611388 5b 6001 9003 80 6003 57 5a 5f 52 6020 5f f3";
    let jumps = "611388 5b 80 15 6010 57 6001 9003 6003 56 5b 5a 5f 52 6020 5f f3";
    for main in [branches, jumps] {
        let tx = call(1_000_000, &[]);
        compare(SpecId::CANCUN, main, "", &tx);
        for engine in fresh_engines(&Config::eager()) {
            let evm = context(SpecId::CANCUN, main, "").build_mainnet();
            transact(&mut Tiered::mainnet(evm, engine.clone()), tx.clone());
            let stats = engine.stats();
            assert_eq!((stats.native_entries, stats.exits_resume), (5, 4), "{main}: {stats:?}");
        }
    }
}

#[test]
fn running_off_the_end_stops() {
    sweep(SpecId::CANCUN, "6001 6002 01", "", &[], 12);
    sweep(SpecId::CANCUN, "6001 5b", "", &[], 12);
    compare(SpecId::CANCUN, "61 42", "", &call(100_000, &[]));
}

#[test]
fn memory_expansion() {
    // mstore(mload(0x40) + calldataload(0), 7); keccak(0, msize)
    let code = "6040 51 5f 35 01 6007 90 52 59 5f 20 5f 52 6020 5f f3";
    for offset in [0u64, 1, 31, 32, 33, 1000, 1 << 20, 1 << 40, u64::MAX - 3] {
        let mut data = [0; 32];
        data[24..].copy_from_slice(&offset.to_be_bytes());
        compare(SpecId::CANCUN, code, "", &call(100_000, &data));
        compare(SpecId::CANCUN, code, "", &call(22_000, &data));
    }
    compare(SpecId::CANCUN, code, "", &call(100_000, &[0xff; 32]));
    sweep(SpecId::CANCUN, code, "", &[0; 32], 150);
}

#[test]
fn copies() {
    // calldatacopy(3, 1, size); codecopy(40, 2, 90); mcopy(5, 20, 70); return(0, msize)
    let code = "36 6001 6003 37 605a 6002 6028 39 6046 6014 6005 5e 59 5f f3";
    sweep(SpecId::CANCUN, code, "", &[1, 2, 3, 4, 5], 120);
    // Length 0 ignores the offset.
    compare(SpecId::CANCUN, "5f 5f 19 5f 19 37 5f 5f19 5f19 39 59 00", "", &call(50_000, &[]));
    // A return data range behind the end fails even with length 0.
    compare(SpecId::CANCUN, "5f 6001 5f 3e 00", "", &call(50_000, &[]));
}

#[test]
fn storage_and_logs() {
    // sstore(1, sload(1) + 1); tstore(2, 3); log1(0, 32, tload(2)); sstore(1, 0)
    let code = "6001 54 6001 01 6001 55 6003 6002 5d 6002 5c 6020 5f a1 5f 6001 55 00";
    for spec in [SpecId::CANCUN, SpecId::AMSTERDAM] {
        for gas in (21_000..60_000).step_by(37) {
            compare(spec, code, "", &call(gas, &[]));
        }
    }
    // No transient storage, no PUSH0, and other gas.
    let code = "6001 54 6001 01 6001 55 6020 6000 a0 6000 6001 55 00";
    for spec in [SpecId::FRONTIER, SpecId::BYZANTIUM, SpecId::ISTANBUL, SpecId::BERLIN] {
        for gas in (21_000..60_000).step_by(97) {
            compare(spec, code, "", &call(gas, &[]));
        }
    }
}

#[test]
fn not_activated_opcodes_fail_where_they_stand() {
    compare(SpecId::SHANGHAI, "6001 6002 5d 00", "", &call(50_000, &[]));
    compare(SpecId::PRAGUE, "6001 1e 00", "", &call(50_000, &[]));
    compare(SpecId::FRONTIER, "6000 6000 fd", "", &call(50_000, &[]));
}

#[test]
fn jumps() {
    for code in ["6005 56 00 00 5b 00", "6004 56 00 00 5b 00", "5f 6001 57 00", "5f 35 56 5b 00"] {
        for data in [[0u8; 32], [0xff; 32]] {
            compare(SpecId::CANCUN, code, "", &call(50_000, &data));
        }
    }
    // A destination beyond 64 bits; a destination that is computed.
    compare(SpecId::CANCUN, "6801 0000000000000000 6003 01 56 5b 00", "", &call(50_000, &[]));
    compare(
        SpecId::CANCUN,
        "5f 35 80 56 5b 5b 00",
        "",
        &call(50_000, &[&[0; 31][..], &[4]].concat()),
    );
}

#[test]
fn stack_bounds() {
    compare(SpecId::CANCUN, "5b 5f 5f 56", "", &call(100_000, &[]));
    compare(SpecId::CANCUN, "5b 6001 80 80 80 80 5f 56", "", &call(100_000, &[]));
    compare(SpecId::CANCUN, "5b 50 5f 56", "", &call(100_000, &[]));
    compare(SpecId::CANCUN, "01", "", &call(100_000, &[]));
    compare(SpecId::CANCUN, "8f", "", &call(100_000, &[]));
}

#[test]
fn arithmetic_by_helpers() {
    let data: Vec<u8> = (0..96u8).map(|i| i.wrapping_mul(37) | 1).collect();
    for op in ["02", "04", "05", "06", "07", "0a", "0b", "1a", "1b", "1c", "1d", "10", "13", "16"] {
        let code = format!("6020 35 5f 35 {op} 5f 52 6020 5f f3");
        sweep(SpecId::CANCUN, &code, "", &data, 3);
        let code = format!("6020 35 600{{}} {op} 5f 52 6020 5f f3").replace("{}", "5");
        compare(SpecId::CANCUN, &code, "", &call(50_000, &data));
    }
    for op in ["08", "09"] {
        let code = format!("6040 35 6020 35 5f 35 {op} 5f 52 6020 5f f3");
        compare(SpecId::CANCUN, &code, "", &call(50_000, &data));
    }
    let code = "5f 35 1e 5f 35 19 15 01 5f 52 6020 5f f3";
    compare(SpecId::OSAKA, code, "", &call(50_000, &data));
}

#[test]
fn exp_pays_for_its_exponent() {
    sweep(SpecId::CANCUN, "61 0123 6003 0a 5f 52 6020 5f f3", "", &[], 140);
}

const FORWARD: &str = "
    36 5f 5f 37                           # calldatacopy(0, 0, size)
    5f 5f 36 5f 5f 60bb 61ffff f1         # call(0xffff, 0xbb, 0, 0, size, 0, 0)
    3d 5f 5f 3e                           # returndatacopy(0, 0, size)
    3d 01 5f 52 6020 5f f3                # return success + returndatasize";

fn strip(code: &str) -> String {
    code.lines().map(|line| line.split('#').next().unwrap_or_default()).collect()
}

#[test]
fn calls_resume_behind_the_call() {
    let main = strip(FORWARD);
    // Calldata of an inner frame lies in the caller's memory: read it after memory moved.
    let echo = "5f 51 6180 00 50 36 5f 6040 37 6020 35 5f 52 6060 5f f3";
    let data: Vec<u8> = (0..77).collect();
    for other in [echo, "", "5f 5f fd", "fe", "5f 35 5f 55 00", "5b 5f 56", "6001 5f 55 5f 5f f3"] {
        for spec in [SpecId::CANCUN, SpecId::AMSTERDAM] {
            for gas in [22_500, 24_000, 26_000, 40_000, 1_000_000] {
                compare(spec, &main, other, &call(gas, &data));
            }
        }
    }
}

#[test]
fn static_calls_fail_as_in_the_interpreter() {
    let main = "5f 5f 5f 5f 60bb 61ffff fa 5f 52 6020 5f f3";
    for other in ["6001 6002 55 00", "6001 6002 5d 00", "5f 5f a0 00", "5f 54 5f 5c 00"] {
        compare(SpecId::CANCUN, main, other, &call(200_000, &[]));
    }
}

#[test]
fn instructions_without_a_helper() {
    // address, balance, origin, gasprice, coinbase .. basefee, selfbalance, extcode*, blockhash
    let code = "30 31 32 3a 41 42 43 44 45 46 47 48 60bb 3b 60bb 3f 6001 40 \
                6020 5f 5f 60bb 3c 5a 5f 52 59 5f f3";
    for spec in [SpecId::LONDON, SpecId::CANCUN, SpecId::AMSTERDAM] {
        for gas in (21_000..30_000).step_by(53) {
            compare(spec, code, "6001", &call(gas, &[]));
        }
    }
}

#[test]
fn creates_and_selfdestructs() {
    // create(0, 0, 5) of initcode 5f5ff3
    let main = "64 60005ff300 6000 52 6005 601b 5f f0 60bb ff";
    for spec in [SpecId::CANCUN, SpecId::AMSTERDAM] {
        compare(spec, main, "", &call(300_000, &[]));
    }
    compare(SpecId::LONDON, "60 bb ff", "", &call(300_000, &[]));
}

#[test]
fn most_instructions_run_compiled() {
    let code = "61 0400 5b 6001 9003 80 6003 57 00";
    for engine in fresh_engines(&Config::eager()) {
        let evm = context(SpecId::CANCUN, code, "").build_mainnet();
        let mut tiered = Tiered::mainnet(evm, engine.clone());
        let (result, _) = transact(&mut tiered, call(1_000_000, &[]));
        assert!(matches!(result, ExecutionResult::Success { .. }));
        let stats = engine.stats();
        assert_eq!((stats.programs, stats.hits, stats.lookups), (1, 1, 1));
        assert_eq!((stats.interpreted_instructions, stats.native_entries), (0, 1), "{stats:?}");
        assert_eq!((stats.exits_stop, stats.bytecode_bytes), (1, 13));
    }
}
