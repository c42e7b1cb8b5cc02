//! What a frame costs that does nothing: a loop that calls a contract of one instruction.

use crate::{BenchError, Budget, Ready, Subject, Tier, Times, Transactions};
use kiln::fixture::{
    Account, Environment, FORMAT, Fixture, Kind, Loaded, Prepared, Transaction, record,
};
use revm::primitives::{Address, B256, Bytes, U256, address, hex, keccak256};
use std::{collections::BTreeMap, path::PathBuf};

const CALLER: Address = address!("1111111111111111111111111111111111111111");
const LOOP: Address = address!("cccccccccccccccccccccccccccccccccccccccc");
/// The contract that does nothing.
pub(crate) const CALLEE: Address = address!("00000000000000000000000000000000000000ca");

/// Calls [`CALLEE`] 400 times: `for (n = 400; n != 0; n--) call(gas, callee, 0, 0, 0, 0, 0)`.
const LOOP_CODE: [u8; 23] = hex!("6101905b5f5f5f5f5f60ca5af150600190038060035700");
/// JUMPDEST, STOP.
const CALLEE_CODE: [u8; 2] = hex!("5b00");

/// Frames of the loop, its own not counted.
pub const FRAMES: u64 = 400;

/// Time of the whole loop, in tier 0's code too.
///
/// # Errors
/// There is no engine on this machine.
pub fn measure(budget: &Budget) -> Result<Times, BenchError> {
    let subject = subject()?;
    let ready = [Ready::new(Tier::Tier0, &subject)?];
    Ok(Transactions::measure(&subject, &ready, budget)?.kept)
}

/// The loop, with what is expected of it.
pub(crate) fn subject() -> Result<Subject, BenchError> {
    let path = PathBuf::from("frames");
    let mut fixture = fixture();
    fixture.expected = Some(record(&fixture).map_err(|kind| kind.at(&path))?);
    let prepared = Prepared::new(&fixture).map_err(|kind| kind.at(&path))?;
    Ok(Subject { loaded: Loaded { path, fixture }, prepared })
}

/// The loop, its callee, and a transaction that calls it.
pub(crate) fn fixture() -> Fixture {
    let codes = [Bytes::from_static(&LOOP_CODE), Bytes::from_static(&CALLEE_CODE)];
    let codes: BTreeMap<B256, Bytes> =
        codes.into_iter().map(|code| (keccak256(&code), code)).collect();
    let account =
        |code: &[u8]| Account { code_hash: Some(keccak256(code)), nonce: 1, ..Account::default() };
    Fixture {
        format: FORMAT.to_owned(),
        kind: Kind::Contract,
        name: "frames".to_owned(),
        source: String::new(),
        chain_id: 1,
        fork: "Osaka".to_owned(),
        tx_gas_limit_cap: false,
        env: environment(),
        txs: vec![transaction()],
        pre_state: [(LOOP, account(&LOOP_CODE)), (CALLEE, account(&CALLEE_CODE))].into(),
        codes,
        block_hashes: BTreeMap::new(),
        header: None,
        expected: None,
    }
}

fn environment() -> Environment {
    Environment {
        number: 1,
        timestamp: 1,
        beneficiary: Address::ZERO,
        gas_limit: u64::MAX,
        basefee: 0,
        difficulty: U256::ZERO,
        prevrandao: Some(B256::ZERO),
        excess_blob_gas: Some(0),
        blob_base_fee_update_fraction: None,
    }
}

fn transaction() -> Transaction {
    Transaction {
        tx_type: 0,
        from: CALLER,
        to: Some(LOOP),
        nonce: 0,
        gas_limit: 10_000_000,
        gas_price: U256::ZERO,
        max_priority_fee: None,
        value: U256::ZERO,
        data: Bytes::new(),
        chain_id: Some(1),
        access_list: Vec::new(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: None,
        index: None,
    }
}
