//! The environment of all cases: block, fees, chain.
//!
//! Owns what a case does not say itself. Never touches an engine.

use crate::case::{BENEFICIARY, Case, SENDER, TARGET};
use crate::db::CaseDb;
use crate::handler::CaseContext;
use revm::context::{BlockEnv, CfgEnv, TxEnv};
use revm::primitives::{B256, TxKind, U256, hardfork::SpecId};

/// The context in which a case runs.
pub fn context(case: &Case, db: &CaseDb) -> CaseContext {
    let mut cfg = CfgEnv::default();
    cfg.set_spec_and_mainnet_gas_params(case.spec);
    let mut context = CaseContext::new(db.clone(), case.spec);
    context.cfg = cfg;
    context.block = block(case.spec);
    context
}

/// The block of every case.
pub fn block(spec: SpecId) -> BlockEnv {
    let mut block = BlockEnv {
        number: U256::from(20_000_000),
        beneficiary: BENEFICIARY,
        timestamp: U256::from(1_700_000_000),
        gas_limit: u64::MAX,
        basefee: if spec.is_enabled_in(SpecId::LONDON) { 7 } else { 0 },
        difficulty: U256::from(0x20000),
        prevrandao: Some(B256::repeat_byte(0x5a)),
        slot_num: 77,
        ..BlockEnv::default()
    };
    block.set_blob_excess_gas_and_price(1 << 20, 3_338_477);
    block
}

/// A transaction of a case. The effective gas price is 10 on every fork.
pub fn tx(case: &Case, nonce: u64) -> TxEnv {
    let mut tx = TxEnv {
        caller: SENDER,
        kind: TxKind::Call(TARGET),
        gas_limit: case.gas,
        gas_price: 10,
        value: case.value,
        data: case.calldata.clone().into(),
        nonce,
        chain_id: Some(1),
        ..TxEnv::default()
    };
    if case.spec.is_enabled_in(SpecId::LONDON) {
        tx.tx_type = 2;
        tx.gas_price = 100;
        tx.gas_priority_fee = Some(3);
    }
    if case.spec.is_enabled_in(SpecId::CANCUN) {
        tx.tx_type = 3;
        tx.max_fee_per_blob_gas = 1 << 30;
        let mut hash = B256::repeat_byte(0xb1);
        hash.0[0] = 1;
        tx.blob_hashes = vec![hash];
    }
    tx
}
