//! `kiln run`.

use super::{
    Verdict, code,
    error::CliError,
    output::{Output, duration, grouped},
    tier::{Choice, Runner, Tier},
};
use clap::builder::NonEmptyStringValueParser;
use kiln::fixture::{DbAccount, FixtureDb, Prepared, parse_spec};
use revm::{
    bytecode::Bytecode,
    context::{BlockEnv, CfgEnv, TxEnv},
    context_interface::result::ExecutionResult,
    primitives::{Address, B256Map, Bytes, TxKind, U256, address, hardfork::SpecId},
    state::AccountInfo,
};
use std::{io, path::PathBuf, sync::Arc};

/// Where the code is.
const CONTRACT: Address = address!("cccccccccccccccccccccccccccccccccccccccc");
/// Who calls it.
const CALLER: Address = address!("1111111111111111111111111111111111111111");

/// The gas of a transaction, if it is not given.
const GAS: u64 = 30_000_000;

/// Run bytecode in a transaction on an otherwise empty state.
///
/// Prints how it ended, gas, output and logs. A revert or a halt is a result like any other: the
/// exit code is 0.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Bytecode as 0x hexadecimal, or a file that holds hexadecimal or raw bytes.
    #[arg(value_name = "FILE|0xHEX", value_parser = NonEmptyStringValueParser::new())]
    code: String,
    /// Calldata.
    #[arg(long, value_name = "0xHEX", default_value = "0x")]
    calldata: String,
    /// Gas limit of the transaction, its intrinsic gas included.
    #[arg(long, value_name = "N", default_value_t = GAS)]
    gas: u64,
    /// Wei sent along.
    #[arg(long, value_name = "WEI", default_value_t = U256::ZERO)]
    value: U256,
    /// The fork.
    #[arg(long, value_name = "FORK", default_value = "OSAKA", value_parser = spec)]
    spec: SpecId,
    /// What runs the code.
    #[arg(long, value_enum, default_value_t = Tier::Auto)]
    tier: Tier,
    /// Keep machine code in this folder, and take from it what is there: in place of KILN_STORE.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
}

/// Parses a fork's name for clap.
pub(super) fn spec(name: &str) -> Result<SpecId, String> {
    parse_spec(name).ok_or_else(|| {
        let names = (0..=SpecId::NEXT as u8).filter_map(SpecId::try_from_u8);
        let names: Vec<_> = names.map(|spec| format!("{spec:?}")).collect();
        format!("no such fork; there are {}", names.join(", "))
    })
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let calldata = code::calldata(&arguments.calldata)?;
    let code = code::read(&arguments.code)?;
    let mut prepared = call(code, calldata, arguments.spec);
    for tx in &mut prepared.txs {
        (tx.gas_limit, tx.value) = (arguments.gas, arguments.value);
    }
    let (tier, store) = (arguments.tier, arguments.store.clone());
    let runner = Runner::new(&Choice { tier, compile: None, force: None, store })?;
    let (mut executed, _) = runner.run(&prepared);
    runner.flush();
    let elapsed = executed.elapsed.as_nanos().try_into().unwrap_or(u64::MAX);
    match executed.results.pop() {
        Some(Ok(result)) => print(&result, output)?,
        Some(Err(error)) => return Err(CliError::Usage(error.to_string())),
        None => {}
    }
    output.line(format_args!("time:    {} ({})", duration(elapsed), arguments.tier))?;
    Ok(Verdict::Same)
}

/// A call of code on an otherwise empty state.
pub(super) fn call(code: Bytes, calldata: Bytes, spec: SpecId) -> Prepared {
    let mut cfg = CfgEnv::new_with_spec(spec);
    cfg.tx_gas_limit_cap = Some(u64::MAX);
    cfg.disable_balance_check = true;
    let block = BlockEnv { gas_limit: u64::MAX, number: U256::ONE, ..BlockEnv::default() };
    let tx = TxEnv {
        caller: CALLER,
        gas_limit: GAS,
        kind: TxKind::Call(CONTRACT),
        data: calldata,
        ..TxEnv::default()
    };
    // Bytes that look like a delegation but are none are code like any other.
    let bytecode =
        Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code));
    let code_hash = bytecode.hash_slow();
    let contract = AccountInfo { nonce: 1, code_hash, code: None, ..AccountInfo::default() };
    let caller = AccountInfo { balance: U256::MAX >> 1, ..AccountInfo::default() };
    let account = |info| DbAccount { info, ..DbAccount::default() };
    let db = FixtureDb {
        accounts: [(CONTRACT, account(contract)), (CALLER, account(caller))].into_iter().collect(),
        codes: Arc::new(B256Map::from_iter([(code_hash, bytecode)])),
        ..FixtureDb::default()
    };
    Prepared { cfg, block, txs: vec![tx], db }
}

fn print(result: &ExecutionResult, output: &mut Output) -> io::Result<()> {
    let outcome = match result {
        ExecutionResult::Success { reason, .. } => format!("success ({reason:?})"),
        ExecutionResult::Revert { .. } => "revert".to_owned(),
        ExecutionResult::Halt { reason, .. } => format!("halt ({reason:?})"),
    };
    output.line(format_args!("result:  {outcome}"))?;
    let refunded = result.gas().final_refunded();
    let used = grouped(result.tx_gas_used());
    output.line(format_args!("gas:     {used} used, {} refunded", grouped(refunded)))?;
    let data = result.output().cloned().unwrap_or_default();
    output.line(format_args!("output:  {data}"))?;
    output.line(format_args!("logs:    {}", result.logs().len()))?;
    for log in result.logs() {
        output.line(format_args!("  {} {}", log.address, log.data.data))?;
        log.data.topics().iter().try_for_each(|topic| output.line(format_args!("    {topic}")))?;
    }
    Ok(())
}
