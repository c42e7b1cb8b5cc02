//! Generator of structured cases.
//!
//! Owns the distribution of what the tests and fuzz targets try: valid stacks most of the time,
//! constants at the edges, small memory, loops that end, calls among several contracts. The same
//! choices give the same case. Never promises that a case succeeds; failing is half of the point.

mod inputs;
mod program;
mod values;

pub use inputs::{GROUP, ProgramSet};

use crate::case::{Case, Contract, TARGET, specs};
use program::Program;
use revm::primitives::{Address, U256, hardfork::SpecId};

/// Where decisions come from: a seeded generator, or the bytes of a fuzzer.
#[derive(Clone, Debug)]
pub struct Choices<'a> {
    source: Source<'a>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Seed(fastrand::Rng),
    Bytes(&'a [u8]),
}

impl<'a> Choices<'a> {
    /// Endless choices from a seed.
    pub fn seeded(seed: u64) -> Self {
        Self { source: Source::Seed(fastrand::Rng::with_seed(seed)) }
    }

    /// Choices from bytes; when they are used up, every choice is the first.
    pub fn bytes(bytes: &'a [u8]) -> Self {
        Self { source: Source::Bytes(bytes) }
    }

    /// A number below `n` (0 where `n` is 0).
    pub fn below(&mut self, n: usize) -> usize {
        if n <= 1 {
            return 0;
        }
        match &mut self.source {
            Source::Seed(rng) => rng.usize(..n),
            Source::Bytes(bytes) => {
                let take = if n <= 256 { 1 } else { 4 };
                let (head, tail) = bytes.split_at(take.min(bytes.len()));
                *bytes = tail;
                head.iter().fold(0, |value, byte| value << 8 | *byte as usize) % n
            }
        }
    }

    /// True `percent` times of a hundred.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.below(100) >= 100 - percent
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Whether there is anything left to decide with.
    pub fn is_exhausted(&self) -> bool {
        matches!(self.source, Source::Bytes([]))
    }
}

/// Selectors that programs dispatch by, and that calldata begins with.
const SELECTORS: [u32; 4] = [0xa905_9cbb, 0x70a0_8231, 0x0000_0001, 0xffff_ffff];

/// The address of the n-th contract of a generated case; 0 is the target.
pub fn contract_address(n: usize) -> Address {
    let mut address = TARGET;
    address.0[19] += n as u8;
    address
}

/// A case out of choices.
pub fn case(choices: &mut Choices<'_>) -> Case {
    let spec = spec(choices);
    let count = choices.pick(&[1, 1, 1, 2, 3]);
    let mut case = Case { spec, ..Case::default() };
    for n in 0..count {
        let size = choices.pick(&[4, 8, 16, 30, 60]);
        let contract = Contract {
            code: Program::generate(choices, spec, (n, count), size),
            balance: choices.pick(&[U256::ZERO, U256::from(1000), U256::from(1) << 64]),
            nonce: choices.pick(&[1, 1, 0, u64::MAX]),
            storage: storage(choices),
            ..Contract::default()
        };
        case.contracts.insert(contract_address(n), contract);
    }
    if spec.is_enabled_in(SpecId::PRAGUE) && choices.chance(30) {
        delegate(choices, &mut case, count);
    }
    case.calldata = calldata(choices);
    case.gas = gas(choices, spec);
    case.is_static = choices.chance(6);
    case.repeat = choices.pick(&[1, 1, 1, 2, 4]);
    if choices.chance(20) {
        case.value = choices.pick(&[U256::from(1), U256::from(12345), U256::from(1) << 100]);
    }
    case
}

/// One or two delegated accounts behind the contracts: to one of them, to themselves, to each other, to a
/// precompile, or to nothing.
fn delegate(choices: &mut Choices<'_>, case: &mut Case, count: usize) {
    for nth in 0..choices.pick(&[1, 1, 2]) {
        let to = match choices.below(10) {
            0 => Address::with_last_byte(choices.pick(&[1, 4, 0])),
            _ => contract_address(choices.below(count + 2)),
        };
        let balance = choices.pick(&[U256::ZERO, U256::from(77)]);
        let delegated = Contract { delegate: Some(to), balance, ..Contract::default() };
        case.contracts.insert(contract_address(count + nth), delegated);
    }
}

/// A case for a number.
pub fn seeded(seed: u64) -> Case {
    let mut case = case(&mut Choices::seeded(seed));
    case.notes.push(format!("Generated from seed {seed}."));
    case
}

fn spec(choices: &mut Choices<'_>) -> SpecId {
    let all: Vec<SpecId> = specs().collect();
    match choices.below(10) {
        0 | 1 => SpecId::CANCUN,
        2 | 3 => SpecId::OSAKA,
        4 | 5 => SpecId::AMSTERDAM,
        _ => choices.pick(&all),
    }
}

/// Mostly enough; often a limit in the range where the program ends early.
fn gas(choices: &mut Choices<'_>, spec: SpecId) -> u64 {
    let above = match choices.below(20) {
        0..=13 => 700_000,
        14 => choices.below(1000),
        15 => choices.below(10_000),
        16 => choices.below(50_000),
        17 => choices.below(400_000),
        // Above the cap of EIP-7825: the rest is state gas.
        18 if spec.is_enabled_in(SpecId::AMSTERDAM) => 17_500_000,
        _ => 1_500_000,
    };
    // Above the intrinsic gas of a call with a few words of calldata.
    30_000 + above as u64
}

fn calldata(choices: &mut Choices<'_>) -> Vec<u8> {
    let mut data = Vec::new();
    if choices.chance(40) {
        data.extend(choices.pick(&SELECTORS).to_be_bytes());
    }
    for _ in 0..choices.below(6) {
        data.extend(values::word(choices).to_be_bytes::<32>());
    }
    let cut = choices.pick(&[0, 0, 1, 31]);
    data.truncate(data.len().saturating_sub(cut));
    data
}

fn storage(choices: &mut Choices<'_>) -> std::collections::BTreeMap<U256, U256> {
    (0..choices.below(4)).map(|key| (U256::from(key), values::word(choices))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_choices_same_case() {
        for seed in 0..50 {
            assert_eq!(seeded(seed), seeded(seed));
        }
        assert_eq!(case(&mut Choices::bytes(b"abcdef")), case(&mut Choices::bytes(b"abcdef")));
    }

    #[test]
    fn cases_survive_their_text_form() {
        for seed in 0..200 {
            let case = seeded(seed);
            assert_eq!(case.to_string().parse::<Case>().unwrap(), case, "seed {seed}");
        }
    }
}
