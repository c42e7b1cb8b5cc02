//! What is run: the contracts, the transaction, the fork.
//!
//! Owns the model of a case. Says nothing about engines or about results beyond explicit
//! expectations.

use revm::primitives::{Address, B256, U256, address, hardfork::SpecId};
use std::collections::BTreeMap;

/// The account that sends the transaction.
pub const SENDER: Address = address!("0x000000000000000000000000000000005e4de500");
/// The contract that the transaction calls.
pub const TARGET: Address = address!("0x00000000000000000000000000000000000c0de0");
/// The beneficiary of the block.
pub const BENEFICIARY: Address = address!("0x00000000000000000000000000000000beef1c1a");

/// A contract of the pre-state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contract {
    /// Its bytecode.
    pub code: Vec<u8>,
    /// Its balance.
    pub balance: U256,
    /// Its nonce.
    pub nonce: u64,
    /// Its storage.
    pub storage: BTreeMap<U256, U256>,
    /// An EIP-7702 delegate: the code is the designator, and `code` is ignored.
    pub delegate: Option<Address>,
    /// The code hash that the database claims, where it is not the true one.
    pub hash: Option<B256>,
}

/// A database access that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAt {
    /// Loading an account.
    Account(Address),
    /// Loading a slot.
    Slot(Address, U256),
}

/// What must come out, where a case says so. All of the last transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    /// `Success(Stop)`, `Revert`, `Halt(StackUnderflow)`, `Halt(OutOfGas(Basic))`, `Error(..)`.
    pub result: Option<String>,
    /// Gas used.
    pub gas: Option<u64>,
    /// Output.
    pub output: Option<Vec<u8>>,
    /// Slots of the target that the state must hold, with their values.
    pub slots: BTreeMap<U256, U256>,
    /// Accounts that the state must hold (they were loaded).
    pub loaded: Vec<Address>,
}

/// One program run: everything that decides its result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The comment at the head of the file.
    pub notes: Vec<String>,
    /// The fork.
    pub spec: SpecId,
    /// The transaction's gas limit.
    pub gas: u64,
    /// The transaction's value.
    pub value: U256,
    /// The transaction's data.
    pub calldata: Vec<u8>,
    /// Whether the first frame is static, as if it were a STATICCALL.
    pub is_static: bool,
    /// How often the transaction is run, each on the state that the one before left.
    pub repeat: usize,
    /// The contracts; [`TARGET`] is the one called.
    pub contracts: BTreeMap<Address, Contract>,
    /// Database accesses that fail.
    pub faults: Vec<FaultAt>,
    /// Explicit expectations.
    pub expect: Expect,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            notes: Vec::new(),
            spec: SpecId::CANCUN,
            gas: 1_000_000,
            value: U256::ZERO,
            calldata: Vec::new(),
            is_static: false,
            repeat: 1,
            contracts: BTreeMap::from([(TARGET, Contract::default())]),
            faults: Vec::new(),
            expect: Expect::default(),
        }
    }
}

impl Case {
    /// A case that runs one program with the default settings.
    pub fn of_code(spec: SpecId, code: impl Into<Vec<u8>>) -> Self {
        let mut case = Self { spec, ..Self::default() };
        case.target_mut().code = code.into();
        case
    }

    /// What the notes ask to be run: the case itself, or the case on all forks (`! every fork`), at the N gas limits
    /// from its own upwards (`! sweep N`), or both.
    ///
    /// # Errors
    /// The note that makes no sense.
    pub fn variants(&self) -> Result<Vec<Self>, String> {
        let note = |prefix: &str| self.notes.iter().find_map(|note| note.strip_prefix(prefix));
        let mut cases = vec![self.clone()];
        if note("! every fork").is_some() {
            cases = specs().map(|spec| Self { spec, ..self.clone() }).collect();
        }
        if let Some(count) = note("! sweep ") {
            let count: u64 =
                count.trim().parse().map_err(|_| format!("! sweep {count}: not a number"))?;
            let swept =
                |case: Self| (0..count).map(move |n| Self { gas: case.gas + n, ..case.clone() });
            cases = cases.into_iter().flat_map(swept).collect();
        }
        Ok(cases)
    }

    /// The contract that is called.
    pub fn target_mut(&mut self) -> &mut Contract {
        self.contracts.entry(TARGET).or_default()
    }
}

/// Every fork revm has, in order.
pub fn specs() -> impl Iterator<Item = SpecId> {
    (0..=u8::MAX).map_while(SpecId::try_from_u8)
}

/// A fork by the name of its [`SpecId`], in any case.
pub fn spec_by_name(name: &str) -> Option<SpecId> {
    specs().find(|spec| format!("{spec:?}").eq_ignore_ascii_case(name))
}
