//! The calls of a [`Host`] that a frame run made, and a second frame run that gets the same answers.
//!
//! **Owns** the record, which grows by some hundred bytes a call. **Callers guarantee** that both runs begin in the
//! same state, and that what the host has of [`Host`]'s provided methods comes to what they are by default: only the
//! others are passed on. **Never** lets the second run reach the host, but for what is the same at any time: block,
//! transaction, configuration. So it changes nothing, and the order of database accesses is that of the first run alone.

use revm::{
    context_interface::{
        cfg::GasParams,
        context::{SStoreResult, SelfDestructResult, StateLoad},
        host::LoadError,
        journaled_state::AccountInfoLoad,
    },
    interpreter::Host,
    primitives::{Address, B256, Log, U256},
};
use std::borrow::Cow;

/// A call of the host, with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Call {
    Account { address: Address, load_code: bool, skip_cold_load: bool },
    Sload { address: Address, key: U256, skip_cold_load: bool },
    Sstore { address: Address, key: U256, value: U256, skip_cold_load: bool },
    Tload { address: Address, key: U256 },
    Tstore { address: Address, key: U256, value: U256 },
    Selfdestruct { address: Address, target: Address, skip_cold_load: bool },
    Log(Log),
    BlockHash(u64),
}

/// What it answered.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Account(Result<AccountInfoLoad<'static>, LoadError>),
    Sload(Result<StateLoad<U256>, LoadError>),
    Sstore(Result<StateLoad<SStoreResult>, LoadError>),
    Tload(U256),
    Selfdestruct(Result<StateLoad<SelfDestructResult>, LoadError>),
    BlockHash(Option<B256>),
    Nothing,
}

/// A host that passes every call on, and keeps it with its answer.
pub(super) struct Recorder<'h> {
    pub(super) host: &'h mut dyn Host,
    pub(super) calls: Vec<(Call, Answer)>,
}

/// A host that answers from a record, for as long as the calls are those of the record. Then every call fails.
pub(crate) struct Replay<'h> {
    host: &'h dyn Host,
    calls: &'h [(Call, Answer)],
    /// Calls so far that were those of the record.
    pub(super) replayed: usize,
    /// The first that was not.
    pub(super) other: Option<Call>,
}

impl<'h> Replay<'h> {
    pub(super) fn new(host: &'h dyn Host, calls: &'h [(Call, Answer)]) -> Self {
        Self { host, calls, replayed: 0, other: None }
    }

    fn answer(&mut self, call: Call) -> Option<Answer> {
        if self.other.is_some() {
            return None;
        }
        match self.calls.get(self.replayed) {
            Some((recorded, answer)) if *recorded == call => {
                self.replayed += 1;
                Some(answer.clone())
            }
            _ => {
                self.other = Some(call);
                None
            }
        }
    }
}

/// What is the same whenever it is asked.
macro_rules! passed_on {
    ($($name:ident($($arg:ident: $type:ty)?) -> $answer:ty;)*) => {
        $(fn $name(&self $(, $arg: $type)?) -> $answer {
            self.host.$name($($arg)?)
        })*
    };
}

macro_rules! environment {
    () => {
        passed_on! {
            basefee() -> U256;
            blob_gasprice() -> U256;
            gas_limit() -> U256;
            difficulty() -> U256;
            prevrandao() -> Option<U256>;
            block_number() -> U256;
            timestamp() -> U256;
            beneficiary() -> Address;
            slot_num() -> U256;
            chain_id() -> U256;
            effective_gas_price() -> U256;
            caller() -> Address;
            blob_hash(number: usize) -> Option<U256>;
            max_initcode_size() -> usize;
            gas_params() -> &GasParams;
            is_amsterdam_eip8037_enabled() -> bool;
        }
    };
}

impl Host for Recorder<'_> {
    environment!();

    fn block_hash(&mut self, number: u64) -> Option<B256> {
        let answer = self.host.block_hash(number);
        self.calls.push((Call::BlockHash(number), Answer::BlockHash(answer)));
        answer
    }

    fn selfdestruct(
        &mut self,
        address: Address,
        target: Address,
        skip_cold_load: bool,
    ) -> Result<StateLoad<SelfDestructResult>, LoadError> {
        let answer = self.host.selfdestruct(address, target, skip_cold_load);
        let call = Call::Selfdestruct { address, target, skip_cold_load };
        self.calls.push((call, Answer::Selfdestruct(answer.clone())));
        answer
    }

    fn log(&mut self, log: Log) {
        self.calls.push((Call::Log(log.clone()), Answer::Nothing));
        self.host.log(log);
    }

    fn sstore_skip_cold_load(
        &mut self,
        address: Address,
        key: U256,
        value: U256,
        skip_cold_load: bool,
    ) -> Result<StateLoad<SStoreResult>, LoadError> {
        let answer = self.host.sstore_skip_cold_load(address, key, value, skip_cold_load);
        let call = Call::Sstore { address, key, value, skip_cold_load };
        self.calls.push((call, Answer::Sstore(answer.clone())));
        answer
    }

    fn sload_skip_cold_load(
        &mut self,
        address: Address,
        key: U256,
        skip_cold_load: bool,
    ) -> Result<StateLoad<U256>, LoadError> {
        let answer = self.host.sload_skip_cold_load(address, key, skip_cold_load);
        let call = Call::Sload { address, key, skip_cold_load };
        self.calls.push((call, Answer::Sload(answer.clone())));
        answer
    }

    fn tstore(&mut self, address: Address, key: U256, value: U256) {
        self.calls.push((Call::Tstore { address, key, value }, Answer::Nothing));
        self.host.tstore(address, key, value);
    }

    fn tload(&mut self, address: Address, key: U256) -> U256 {
        let answer = self.host.tload(address, key);
        self.calls.push((Call::Tload { address, key }, Answer::Tload(answer)));
        answer
    }

    fn load_account_info_skip_cold_load(
        &mut self,
        address: Address,
        load_code: bool,
        skip_cold_load: bool,
    ) -> Result<AccountInfoLoad<'_>, LoadError> {
        let load = self.host.load_account_info_skip_cold_load(address, load_code, skip_cold_load);
        let answer = load.map(|load| AccountInfoLoad {
            account: Cow::Owned(load.account.into_owned()),
            is_cold: load.is_cold,
            is_empty: load.is_empty,
        });
        let call = Call::Account { address, load_code, skip_cold_load };
        self.calls.push((call, Answer::Account(answer.clone())));
        answer
    }
}

impl Host for Replay<'_> {
    environment!();

    fn block_hash(&mut self, number: u64) -> Option<B256> {
        match self.answer(Call::BlockHash(number)) {
            Some(Answer::BlockHash(answer)) => answer,
            _ => None,
        }
    }

    fn selfdestruct(
        &mut self,
        address: Address,
        target: Address,
        skip_cold_load: bool,
    ) -> Result<StateLoad<SelfDestructResult>, LoadError> {
        match self.answer(Call::Selfdestruct { address, target, skip_cold_load }) {
            Some(Answer::Selfdestruct(answer)) => answer,
            _ => Err(LoadError::DBError),
        }
    }

    fn log(&mut self, log: Log) {
        self.answer(Call::Log(log));
    }

    fn sstore_skip_cold_load(
        &mut self,
        address: Address,
        key: U256,
        value: U256,
        skip_cold_load: bool,
    ) -> Result<StateLoad<SStoreResult>, LoadError> {
        match self.answer(Call::Sstore { address, key, value, skip_cold_load }) {
            Some(Answer::Sstore(answer)) => answer,
            _ => Err(LoadError::DBError),
        }
    }

    fn sload_skip_cold_load(
        &mut self,
        address: Address,
        key: U256,
        skip_cold_load: bool,
    ) -> Result<StateLoad<U256>, LoadError> {
        match self.answer(Call::Sload { address, key, skip_cold_load }) {
            Some(Answer::Sload(answer)) => answer,
            _ => Err(LoadError::DBError),
        }
    }

    fn tstore(&mut self, address: Address, key: U256, value: U256) {
        self.answer(Call::Tstore { address, key, value });
    }

    fn tload(&mut self, address: Address, key: U256) -> U256 {
        match self.answer(Call::Tload { address, key }) {
            Some(Answer::Tload(answer)) => answer,
            _ => U256::ZERO,
        }
    }

    fn load_account_info_skip_cold_load(
        &mut self,
        address: Address,
        load_code: bool,
        skip_cold_load: bool,
    ) -> Result<AccountInfoLoad<'_>, LoadError> {
        match self.answer(Call::Account { address, load_code, skip_cold_load }) {
            Some(Answer::Account(answer)) => answer,
            _ => Err(LoadError::DBError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::context_interface::host::DummyHost;

    #[test]
    fn the_same_calls_get_the_same_answers_and_others_none() {
        let mut host = DummyHost::default();
        let (address, key) = (Address::repeat_byte(1), U256::from(2));
        let mut recorder = Recorder { host: &mut host, calls: Vec::new() };
        let act = |host: &mut dyn Host, value: u64| {
            host.tstore(address, key, U256::from(value));
            host.tload(address, key);
            host.balance(address).is_some()
        };
        assert!(act(&mut recorder, 3));
        let calls = recorder.calls;
        assert_eq!(calls.len(), 3);
        let mut replay = Replay::new(&host, &calls);
        assert!(act(&mut replay, 3));
        assert_eq!((replay.replayed, &replay.other), (3, &None));
        assert_eq!(replay.sload(address, key), None, "nothing is left");
        let mut replay = Replay::new(&host, &calls);
        assert!(!act(&mut replay, 4));
        let other = Call::Tstore { address, key, value: U256::from(4) };
        assert_eq!((replay.replayed, replay.other), (0, Some(other)));
    }
}
