//! The text form of a case: the `.evm` file.
//!
//! Owns the format; [`Case`]'s `FromStr` and `Display` are inverse up to comments and layout.
//! `#` lines at the head are kept as notes. Then one `key: value` a line:
//! ```text
//! spec: CANCUN          gas: 100000          value: 5          calldata: 0x..
//! static: true          repeat: 2            fail: slot ADDRESS KEY | fail: account ADDRESS
//! expect: Halt(StackUnderflow)    expect-gas: 21000    expect-output: 0x..
//! expect-slot: KEY = VALUE        expect-loaded: ADDRESS
//! contract ADDRESS:     the next lines describe this contract; before the first, the target
//! code: assembly or 0x.., up to the next line that starts in the first column
//! balance: 1   nonce: 1   storage: KEY = VALUE   delegate: ADDRESS   hash: 0x..
//! ```
//! (one entry a line; two columns here to save space). Addresses may be short: they are padded on
//! the left.

use crate::asm::{AsmError, assemble, disassemble, parse_word};
use crate::case::{Case, Contract, FaultAt, TARGET, spec_by_name};
use revm::primitives::{Address, B256, U256, hex};
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// Why a case file was not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CaseError {
    /// A line that is none of the format's.
    #[error("line {0}: not understood: {1}")]
    Line(usize, String),
    /// The value of a key is malformed.
    #[error("line {0}: bad value: {1}")]
    Value(usize, String),
    /// The assembly is wrong.
    #[error("line {0}: {1}")]
    Asm(usize, AsmError),
}

impl FromStr for Case {
    type Err = CaseError;

    fn from_str(text: &str) -> Result<Self, CaseError> {
        let mut case = Self::default();
        let mut contract = TARGET;
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let number = number + 1;
            let trimmed = line.trim();
            if let Some(note) = trimmed.strip_prefix('#') {
                if !line.starts_with(' ') {
                    case.notes.push(note.strip_prefix(' ').unwrap_or(note).to_owned());
                }
                continue;
            }
            if trimmed.is_empty() {
                continue;
            }
            let not_understood = || CaseError::Line(number, trimmed.to_owned());
            let (key, value) = trimmed.split_once(':').ok_or_else(not_understood)?;
            let (key, value) = (key.trim(), value.trim());
            if let Some(name) = key.strip_prefix("contract ") {
                contract = address(name).ok_or_else(not_understood)?;
                case.contracts.entry(contract).or_default();
            } else if key == "code" {
                let mut code = value.to_owned();
                while let Some((_, line)) = lines.next_if(|(_, line)| continues(line)) {
                    code.push('\n');
                    code.push_str(line);
                }
                let code = assemble(&code).map_err(|error| CaseError::Asm(number, error))?;
                case.contracts.entry(contract).or_default().code = code;
            } else {
                let value = value.split('#').next().unwrap_or_default().trim();
                let known = set(&mut case, contract, key, value)
                    .ok_or_else(|| CaseError::Value(number, trimmed.to_owned()))?;
                if !known {
                    return Err(not_understood());
                }
            }
        }
        Ok(case)
    }
}

/// Whether a line goes on with the code of the line before.
fn continues(line: &str) -> bool {
    line.starts_with([' ', '\t', ';']) || line.is_empty()
}

/// Sets what `key` names; `None` for a bad value, `Some(false)` for an unknown key.
fn set(case: &mut Case, contract: Address, key: &str, value: &str) -> Option<bool> {
    match key {
        "spec" => case.spec = spec_by_name(value)?,
        "gas" => case.gas = parse_u64(value)?,
        "value" => case.value = parse_word(value)?,
        "calldata" => case.calldata = bytes(value)?,
        "static" => case.is_static = value.parse().ok()?,
        "repeat" => case.repeat = value.parse().ok()?,
        "fail" => case.faults.push(fault(value)?),
        "expect" => case.expect.result = Some(value.to_owned()),
        "expect-gas" => case.expect.gas = Some(parse_u64(value)?),
        "expect-output" => case.expect.output = Some(bytes(value)?),
        "expect-slot" => {
            let (key, value) = pair(value)?;
            case.expect.slots.insert(key, value);
        }
        "expect-loaded" => case.expect.loaded.push(address(value)?),
        _ => return set_contract(case.contracts.entry(contract).or_default(), key, value),
    }
    Some(true)
}

fn set_contract(contract: &mut Contract, key: &str, value: &str) -> Option<bool> {
    match key {
        "balance" => contract.balance = parse_word(value)?,
        "nonce" => contract.nonce = parse_u64(value)?,
        "delegate" => contract.delegate = Some(address(value)?),
        "hash" => contract.hash = Some(B256::from(parse_word(value)?)),
        "storage" => {
            let (key, value) = pair(value)?;
            contract.storage.insert(key, value);
        }
        _ => return Some(false),
    }
    Some(true)
}

fn parse_u64(text: &str) -> Option<u64> {
    u64::try_from(parse_word(text)?).ok()
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    hex::decode(text).ok()
}

fn address(text: &str) -> Option<Address> {
    let word = parse_word(text).filter(|word| word.byte_len() <= 20)?;
    Some(Address::from_word(B256::from(word)))
}

fn pair(text: &str) -> Option<(U256, U256)> {
    let (key, value) = text.split_once('=')?;
    Some((parse_word(key.trim())?, parse_word(value.trim())?))
}

fn fault(text: &str) -> Option<FaultAt> {
    let mut words = text.split_whitespace();
    match (words.next()?, words.next()?, words.next()) {
        ("account", at, None) => Some(FaultAt::Account(address(at)?)),
        ("slot", at, Some(key)) => Some(FaultAt::Slot(address(at)?, parse_word(key)?)),
        _ => None,
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{}", format!("# {note}").trim_end())?;
        }
        writeln!(f, "spec: {:?}", self.spec)?;
        writeln!(f, "gas: {}", self.gas)?;
        if !self.value.is_zero() {
            writeln!(f, "value: {:#x}", self.value)?;
        }
        if !self.calldata.is_empty() {
            writeln!(f, "calldata: {}", hex::encode_prefixed(&self.calldata))?;
        }
        if self.is_static {
            writeln!(f, "static: true")?;
        }
        if self.repeat != 1 {
            writeln!(f, "repeat: {}", self.repeat)?;
        }
        for fault in &self.faults {
            match fault {
                FaultAt::Account(at) => writeln!(f, "fail: account {at:#x}")?,
                FaultAt::Slot(at, key) => writeln!(f, "fail: slot {at:#x} {key:#x}")?,
            }
        }
        self.fmt_expect(f)?;
        for (address, contract) in &self.contracts {
            writeln!(f, "\ncontract {address:#x}:")?;
            fmt_contract(contract, f)?;
        }
        Ok(())
    }
}

impl Case {
    fn fmt_expect(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(result) = &self.expect.result {
            writeln!(f, "expect: {result}")?;
        }
        if let Some(gas) = self.expect.gas {
            writeln!(f, "expect-gas: {gas}")?;
        }
        if let Some(output) = &self.expect.output {
            writeln!(f, "expect-output: {}", hex::encode_prefixed(output))?;
        }
        for (key, value) in &self.expect.slots {
            writeln!(f, "expect-slot: {key:#x} = {value:#x}")?;
        }
        for address in &self.expect.loaded {
            writeln!(f, "expect-loaded: {address:#x}")?;
        }
        Ok(())
    }
}

fn fmt_contract(contract: &Contract, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if !contract.balance.is_zero() {
        writeln!(f, "balance: {:#x}", contract.balance)?;
    }
    if contract.nonce != 0 {
        writeln!(f, "nonce: {}", contract.nonce)?;
    }
    for (key, value) in &contract.storage {
        writeln!(f, "storage: {key:#x} = {value:#x}")?;
    }
    if let Some(delegate) = contract.delegate {
        writeln!(f, "delegate: {delegate:#x}")?;
    }
    if let Some(hash) = contract.hash {
        writeln!(f, "hash: {hash:#x}")?;
    }
    if contract.code.len() > 4096 {
        return writeln!(f, "code: {}", hex::encode_prefixed(&contract.code));
    }
    writeln!(f, "code:")?;
    disassemble(&contract.code).lines().try_for_each(|line| writeln!(f, "  {line}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips() {
        let text = "\
# A note.
spec: OSAKA
gas: 0x10000
calldata: 0x0102
static: true
repeat: 2
fail: slot 0xc0de1 7
expect: Halt(StackUnderflow)
expect-slot: 1 = 2
code: PUSH 1
  @skip: ADD   # comment
contract 0xc0de1:
  balance: 1
  storage: 1 = 2
  delegate: 0xc0de0
";
        let text = text.replace("@skip: ", "");
        let case: Case = text.parse().unwrap();
        assert_eq!(case.notes, ["A note."]);
        assert_eq!(case.contracts.len(), 2);
        let again: Case = case.to_string().parse().unwrap();
        assert_eq!(again, case);
    }

    #[test]
    fn refuses() {
        assert!(matches!("nonsense".parse::<Case>(), Err(CaseError::Line(1, _))));
        assert!(matches!("spec: X".parse::<Case>(), Err(CaseError::Value(1, _))));
        assert!(matches!("code: X".parse::<Case>(), Err(CaseError::Asm(1, _))));
        assert!(matches!("what: 1".parse::<Case>(), Err(CaseError::Line(1, _))));
    }
}
