//! The database of a case: its pre-state, faults on demand, and a record of every access.
//!
//! Owns what the EVM asked for and in which order, because the order of host accesses is part of
//! the result. Never fails but where the case says so.

use crate::case::{Case, FaultAt, SENDER};
use revm::bytecode::Bytecode;
use revm::database_interface::DBErrorMarker;
use revm::primitives::{Address, AddressMap, B256, KECCAK_EMPTY, U256, keccak256};
use revm::state::{Account, AccountInfo};
use revm::{Database, DatabaseCommit};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

/// An access that the case made fail.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("fault at {0:?}")]
pub struct Fault(pub FaultAt);

impl DBErrorMarker for Fault {}

/// One access, in the order in which they came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An account.
    Account(Address),
    /// A slot.
    Slot(Address, U256),
    /// A code by its hash.
    Code(B256),
    /// A block hash.
    BlockHash(u64),
}

/// The state of a case.
#[derive(Clone, Debug, Default)]
pub struct CaseDb {
    accounts: HashMap<Address, (AccountInfo, BTreeMap<U256, U256>)>,
    faults: Vec<FaultAt>,
    /// What was asked for.
    pub accesses: Vec<Access>,
}

impl CaseDb {
    /// The pre-state of a case. Bytecode is analysed here, once for all clones.
    pub fn new(case: &Case) -> Self {
        let mut accounts = HashMap::new();
        let rich = AccountInfo { balance: U256::from(1) << 200, ..AccountInfo::default() };
        accounts.insert(SENDER, (rich, BTreeMap::new()));
        for (&address, contract) in &case.contracts {
            let code = match contract.delegate {
                Some(delegate) => Bytecode::new_eip7702(delegate),
                None => Bytecode::new_legacy(contract.code.clone().into()),
            };
            let hash = contract.hash.unwrap_or_else(|| code.hash_slow());
            let mut info = AccountInfo::new(contract.balance, contract.nonce, hash, code);
            info.account_id = None;
            accounts.insert(address, (info, contract.storage.clone()));
        }
        Self { accounts, faults: case.faults.clone(), accesses: Vec::new() }
    }

    /// The pre-state of a case that differs from this one's in storage, balances and faults only.
    pub fn with_state_of(&self, case: &Case) -> Self {
        let mut db = Self { faults: case.faults.clone(), ..self.clone() };
        for (address, contract) in &case.contracts {
            if let Some((info, storage)) = db.accounts.get_mut(address) {
                info.balance = contract.balance;
                storage.clone_from(&contract.storage);
            }
        }
        db
    }

    fn access(&mut self, access: Access) -> Result<(), Fault> {
        self.accesses.push(access);
        let at = match access {
            Access::Account(address) => FaultAt::Account(address),
            Access::Slot(address, key) => FaultAt::Slot(address, key),
            Access::Code(_) | Access::BlockHash(_) => return Ok(()),
        };
        if self.faults.contains(&at) { Err(Fault(at)) } else { Ok(()) }
    }
}

impl Database for CaseDb {
    type Error = Fault;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Fault> {
        self.access(Access::Account(address))?;
        Ok(self.accounts.get(&address).map(|(info, _)| info.clone()))
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, Fault> {
        self.access(Access::Code(hash))?;
        let found = self.accounts.values().find(|(info, _)| info.code_hash == hash);
        Ok(found.and_then(|(info, _)| info.code.clone()).unwrap_or_default())
    }

    fn storage(&mut self, address: Address, key: U256) -> Result<U256, Fault> {
        self.access(Access::Slot(address, key))?;
        let value = self.accounts.get(&address).and_then(|(_, storage)| storage.get(&key));
        Ok(value.copied().unwrap_or_default())
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, Fault> {
        self.access(Access::BlockHash(number))?;
        Ok(keccak256(number.to_be_bytes()))
    }
}

impl DatabaseCommit for CaseDb {
    fn commit(&mut self, changes: AddressMap<Account>) {
        for (address, account) in changes {
            if !account.is_touched() {
                continue;
            }
            let gone = account.is_selfdestructed()
                || (account.is_empty() && account.info.code_hash == KECCAK_EMPTY);
            if gone {
                self.accounts.remove(&address);
                continue;
            }
            let entry = self.accounts.entry(address).or_default();
            if account.is_created() {
                entry.1.clear();
            }
            entry.0 = account.info;
            entry.1.extend(account.storage.iter().map(|(key, slot)| (*key, slot.present_value)));
        }
    }
}
