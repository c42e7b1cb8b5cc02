//! What is told of a difference: a case file that shows it again, to the hook, into a folder, and to the log.
//!
//! **Owns** the text and the files. The format of the text is that of the test harness's `.evm` files, which can not
//! be used here: it stands above the runtime. **Callers guarantee** that no lock is held. **Never** overwrites a file,
//! and never fails: what can not be written is counted.

use super::Check;
use crate::{
    config::Config,
    hooks::{Tier, fork_name},
    persist::build_digest,
};
use revm::{
    bytecode::Bytecode,
    context_interface::cfg::{GasParams, gas_params::Eip2780TxInfo},
    primitives::{Address, B256, KECCAK_EMPTY, U256, hardfork::SpecId, hex},
    state::AccountInfo,
};
use std::{
    collections::{BTreeMap, HashSet},
    fmt::{self, Write as _},
    fs::{self, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// Reports of one code under one name at most.
const FILES_MAX: u32 = 100;
/// Codes that the log is told of.
const SAID_MAX: usize = 4096;
/// The longest line of a difference.
const LINE_MAX: usize = 400;
/// What a transaction may have from Osaka on (EIP-7825).
const TX_GAS_MAX: u64 = 1 << 24;

/// A difference that a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The check.
    pub check: Check,
    /// Hash of the bytecode: of its bytes, whatever the database says.
    pub code_hash: B256,
    /// The fork it was compiled for.
    pub fork: SpecId,
    /// The compiler.
    pub tier: Tier,
    /// In what it differs, one line each.
    pub differences: Vec<String>,
    /// A case file (`.evm`) that shows it again, as far as the frame's surroundings can be said: `kiln check`.
    pub text: String,
    /// Where the text was written; none if it was not.
    pub path: Option<PathBuf>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { check, code_hash, fork, tier, differences, .. } = self;
        write!(f, "{check}: {tier} {code_hash}@{}", fork_name(*fork))?;
        differences.iter().try_for_each(|line| write!(f, "; {line}"))
    }
}

/// An account, as a frame saw it first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    pub(crate) info: Option<AccountInfo>,
    pub(crate) storage: BTreeMap<U256, U256>,
}

/// A frame run, as far as a case can say it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) target: Address,
    pub(crate) caller: Address,
    pub(crate) depth: usize,
    pub(crate) gas: u64,
    pub(crate) reservoir: u64,
    pub(crate) value: U256,
    pub(crate) calldata: Vec<u8>,
    pub(crate) is_static: bool,
    pub(crate) block: U256,
    pub(crate) timestamp: U256,
    pub(crate) chain: U256,
    pub(crate) accounts: BTreeMap<Address, Account>,
    pub(crate) transient: BTreeMap<(Address, U256), U256>,
    /// Accesses of accounts and slots that were warm.
    pub(crate) warm: usize,
}

/// Whose program it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whose<'a> {
    pub(crate) bytecode: &'a Bytecode,
    pub(crate) fork: SpecId,
    pub(crate) tier: Tier,
}

/// Where reports go, besides the hook.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    folder: Option<PathBuf>,
    said: Mutex<HashSet<B256>>,
}

impl Reports {
    pub(crate) fn new(config: &Config) -> Self {
        Self { folder: config.reports.clone(), said: Mutex::default() }
    }

    /// Makes a report, and writes it down. Whether that failed.
    pub(crate) fn make(
        &self,
        config: &Config,
        whose: Whose<'_>,
        (check, differences): (Check, Vec<String>),
        seen: Option<&Seen>,
    ) -> (Report, Option<io::Error>) {
        let code_hash = whose.bytecode.hash_slow();
        let differences: Vec<_> = differences.iter().map(|line| one_line(line)).collect();
        let text = text(config, whose, (check, &differences), seen);
        let (fork, tier) = (whose.fork, whose.tier);
        let written = self.folder.as_deref().map(|folder| {
            let name = format!("{check}-{:?}-{}", fork, &hex::encode(code_hash)[..16]);
            write_new(folder, &name.to_lowercase(), &text)
        });
        let (path, error) = match written {
            Some(Ok(path)) => (Some(path), None),
            Some(Err(error)) => (None, Some(error)),
            None => (None, None),
        };
        (Report { check, code_hash, fork, tier, differences, text, path }, error)
    }

    /// Whether the log is to tell of this code: once.
    pub(crate) fn says(&self, report: &Report) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.len() < SAID_MAX && said.insert(report.code_hash)
    }
}

fn write_new(folder: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    fs::create_dir_all(folder)?;
    for nth in 0..FILES_MAX {
        let path = folder.join(format!("{name}-{nth}.evm"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(mut file) => return file.write_all(text.as_bytes()).map(|()| path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many reports of this code"))
}

/// Without what would end a note.
fn one_line(line: &str) -> String {
    let line: String = line.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LINE_MAX) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

fn text(
    config: &Config,
    whose: Whose<'_>,
    (check, differences): (Check, &[String]),
    seen: Option<&Seen>,
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = notes(&mut text, config, whose, (check, differences))
        .and_then(|()| case(&mut text, whose, seen));
    text
}

fn notes(
    text: &mut String,
    config: &Config,
    Whose { bytecode, fork, tier }: Whose<'_>,
    (check, differences): (Check, &[String]),
) -> fmt::Result {
    let (version, build) = (env!("CARGO_PKG_VERSION"), build_digest(&config.limits));
    writeln!(text, "# Found by the check `{check}` of kiln {version}, build {build}.")?;
    let again = match check {
        Check::Shadow => "shadow=1",
        check => check.name(),
    };
    writeln!(text, "# Again: KILN_CHECK={again} kiln check THIS_FILE")?;
    for line in differences {
        writeln!(text, "# {line}")?;
    }
    writeln!(text, "# Code {} on {}, compiled by {tier}.", bytecode.hash_slow(), fork_name(fork))?;
    let backend = format!("{:?}", config.backend).to_lowercase();
    let (compile, perturb) = (config.compile, config.limits.perturb);
    writeln!(
        text,
        "# KILN_CHECK={} KILN_FORCE={} KILN_PERTURB={perturb}",
        config.checks, config.force
    )?;
    let arch = std::env::consts::ARCH;
    writeln!(
        text,
        "# Backend {backend}, compile {compile:?}, first tier {}, {arch}.",
        config.first_tier
    )
}

fn case(text: &mut String, whose: Whose<'_>, seen: Option<&Seen>) -> fmt::Result {
    if let Some(seen) = seen {
        surroundings(text, seen)?;
    }
    writeln!(text, "spec: {:?}", whose.fork)?;
    if let Some(seen) = seen {
        writeln!(text, "gas: {}", tx_gas(whose.fork, seen))?;
        if !seen.value.is_zero() {
            writeln!(text, "value: {:#x}", seen.value)?;
        }
        if !seen.calldata.is_empty() {
            writeln!(text, "calldata: {}", hex::encode_prefixed(&seen.calldata))?;
        }
        if seen.is_static {
            writeln!(text, "static: true")?;
        }
        if let Some(account) = seen.accounts.get(&seen.target) {
            state(text, account)?;
        }
    }
    writeln!(text, "code: {}", hex::encode_prefixed(whose.bytecode.original_byte_slice()))?;
    let accounts = seen
        .into_iter()
        .flat_map(|seen| seen.accounts.iter().filter(|(address, _)| **address != seen.target));
    for (address, account) in accounts {
        writeln!(text, "\ncontract {address:#x}:")?;
        state(text, account)?;
        account.info.as_ref().map_or(Ok(()), |info| code(text, info))?;
    }
    Ok(())
}

/// What a case can not say.
fn surroundings(text: &mut String, seen: &Seen) -> fmt::Result {
    let Seen { target, caller, depth, block, timestamp, chain, .. } = seen;
    writeln!(text, "# The frame ran at {target:#x}, called by {caller:#x}, at depth {depth}.")?;
    writeln!(text, "# Block {block}, timestamp {timestamp}, chain {chain}.")?;
    if seen.warm > 0 {
        writeln!(text, "# {} accesses were warm, which may be cold here.", seen.warm)?;
    }
    if seen.reservoir > 0 {
        writeln!(text, "# It had {} gas for state besides.", seen.reservoir)?;
    }
    for ((address, key), value) in &seen.transient {
        writeln!(text, "# Transient storage of {address:#x}: {key:#x} = {value:#x}.")?;
    }
    Ok(())
}

/// The gas limit of a transaction whose first frame has this gas, if there can be one.
fn tx_gas(fork: SpecId, seen: &Seen) -> u64 {
    let eip2780 = fork
        .is_enabled_in(SpecId::AMSTERDAM)
        .then_some(Eip2780TxInfo { value: seen.value, is_self_transfer: false });
    let params = GasParams::new_spec(fork);
    let first = params.initial_tx_gas(&seen.calldata, false, 0, 0, 0, eip2780);
    let before = first.initial_regular_gas.saturating_add(first.initial_state_gas);
    let gas = seen.gas.saturating_add(before).max(first.floor_gas);
    if fork.is_enabled_in(SpecId::OSAKA) { gas.min(TX_GAS_MAX) } else { gas }
}

fn state(text: &mut String, account: &Account) -> fmt::Result {
    if let Some(info) = &account.info {
        if !info.balance.is_zero() {
            writeln!(text, "balance: {:#x}", info.balance)?;
        }
        if info.nonce != 0 {
            writeln!(text, "nonce: {}", info.nonce)?;
        }
    }
    account
        .storage
        .iter()
        .filter(|(_, value)| !value.is_zero())
        .try_for_each(|(key, value)| writeln!(text, "storage: {key:#x} = {value:#x}"))
}

fn code(text: &mut String, info: &AccountInfo) -> fmt::Result {
    match &info.code {
        Some(code) if code.is_empty() => Ok(()),
        Some(code) => match code.eip7702_address() {
            Some(delegate) => writeln!(text, "delegate: {delegate:#x}"),
            None => {
                writeln!(text, "code: {}", hex::encode_prefixed(code.original_byte_slice()))
            }
        },
        // Nobody looked at the code itself.
        None if info.code_hash == KECCAK_EMPTY || info.code_hash.is_zero() => Ok(()),
        None => writeln!(text, "hash: {:#x}", info.code_hash),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytecode() -> Bytecode {
        Bytecode::new_legacy([0x5f, 0x54, 0x00].into())
    }

    fn seen() -> Seen {
        let target = Address::repeat_byte(7);
        let storage = BTreeMap::from([(U256::ZERO, U256::from(5)), (U256::ONE, U256::ZERO)]);
        let info = Some(AccountInfo { balance: U256::from(9), ..AccountInfo::default() });
        let accounts = BTreeMap::from([(target, Account { info, storage })]);
        Seen { target, gas: 1000, calldata: vec![1, 0], accounts, ..Seen::default() }
    }

    #[test]
    fn the_text_has_what_was_seen() {
        let config = Config::default();
        let whose = Whose { bytecode: &bytecode(), fork: SpecId::CANCUN, tier: Tier::Optimised };
        let differences = ["gas: expected 1\nnot 2".to_owned()];
        let text = text(&config, whose, (Check::Shadow, &differences), Some(&seen()));
        for line in
            ["# gas: expected 1", "spec: CANCUN", "gas: 22020", "calldata: 0x0100", "balance: 0x9"]
        {
            assert!(text.lines().any(|found| found.starts_with(line)), "{line}:\n{text}");
        }
        assert!(text.contains("\nstorage: 0x0 = 0x5\ncode: 0x5f5400\n"), "{text}");
        assert!(!text.contains("storage: 0x1") && !text.contains("contract"), "{text}");
    }

    #[test]
    fn files_are_never_overwritten_and_the_log_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { reports: Some(folder.path().join("new")), ..Config::default() };
        let reports = Reports::new(&config);
        let whose = Whose { bytecode: &bytecode(), fork: SpecId::PRAGUE, tier: Tier::Baseline };
        let make = || reports.make(&config, whose, (Check::Twice, vec!["a".repeat(999)]), None);
        let ((first, _), (second, _)) = (make(), make());
        assert!(reports.says(&first) && !reports.says(&second));
        let (first, second) = (first.path.unwrap(), second.path.unwrap());
        assert_ne!(first, second);
        assert!(fs::read_to_string(second).unwrap().contains("aaa...\n"));
        fs::write(folder.path().join("file"), "").unwrap();
        let config = Config { reports: Some(folder.path().join("file")), ..Config::default() };
        let (report, error) =
            Reports::new(&config).make(&config, whose, (Check::Twice, vec![]), None);
        assert!(report.path.is_none() && error.is_some());
    }
}
