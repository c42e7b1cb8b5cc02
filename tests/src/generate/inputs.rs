//! A set of programs with many inputs: what is compiled once is run often, as in real life.
//!
//! Owns the inputs' distribution. They come in groups: a *leader* with enough gas, and followers that
//! change one thing: a word of calldata, the gas limit to about what the leader used or to anything below
//! it, value, state, or being static. Callers run a leader before they ask for its followers. The same
//! seed gives the same inputs. Never changes the programs.

use super::{Choices, calldata, case, storage, values};
use crate::case::Case;
use crate::db::CaseDb;
use crate::engine::{Outcome, oracle};
use revm::primitives::U256;

/// Inputs of a group: the leader, and those that differ from it in one thing.
pub const GROUP: usize = 4;

/// Gas that programs get that would burn all of it, in most groups: what they do after the first
/// thousands of instructions they have done before.
const GAS_OF_BURNERS: u64 = 40_000;
/// A group in so many has what the programs were generated with.
const FULL_GAS_EVERY: usize = 8;

/// Programs with their pre-state, and the inputs that they are run with.
#[derive(Clone, Debug)]
pub struct ProgramSet {
    /// What everything follows from.
    pub seed: u64,
    /// The programs, with the first leader's input.
    base: Case,
    /// Whether nearly all gas is spent however much there is.
    burns: bool,
    /// The base's pre-state, with its codes analysed.
    db: CaseDb,
}

impl ProgramSet {
    /// The programs of a seed. Runs them once on the oracle, to see what they use.
    pub fn seeded(seed: u64) -> Self {
        let mut base = case(&mut Choices::seeded(seed));
        base.repeat = 1;
        let db = CaseDb::new(&base);
        let spent = gas_spent(&oracle(&base, &db));
        let burns = spent > 3 * GAS_OF_BURNERS && spent > base.gas / 2;
        Self { seed, base, burns, db }
    }

    /// The pre-state of one of its inputs.
    pub fn db(&self, input: &Case) -> CaseDb {
        self.db.with_state_of(input)
    }

    /// The first input of a group.
    pub fn leader(&self, group: usize) -> Case {
        let mut case = self.base.clone();
        let mut choices = self.choices(group * GROUP);
        case.notes = vec![self.note(group * GROUP)];
        if self.burns && !group.is_multiple_of(FULL_GAS_EVERY) {
            case.gas = case.gas.min(GAS_OF_BURNERS + 100 * choices.below(400) as u64);
        }
        if group == 0 {
            return case;
        }
        case.calldata = calldata(&mut choices);
        case.is_static = choices.chance(6);
        case.repeat = choices.pick(&[1, 1, 1, 1, 1, 1, 2, 3]);
        case.value = value(&mut choices, 20);
        if choices.chance(30) {
            new_state(&mut choices, &mut case);
        }
        case
    }

    /// Another input of a group: `nth` from 1 up, `outcome` is what the leader came to on the oracle.
    pub fn follower(&self, group: usize, nth: usize, leader: &Case, outcome: &Outcome) -> Case {
        let mut choices = self.choices(group * GROUP + nth);
        let mut case = Case { notes: vec![self.note(group * GROUP + nth)], ..leader.clone() };
        let spent = gas_spent(outcome);
        match nth {
            1 => new_word(&mut choices, &mut case.calldata),
            2 => {
                let less = choices.pick(&[0, 1, 1, 2, 3, 5, 8, spent / 64, spent / 2]);
                case.gas = spent.saturating_sub(less).max(21_000);
            }
            _ => match choices.below(4) {
                0 => case.is_static = !case.is_static,
                1 => case.value = value(&mut choices, 100),
                2 => new_state(&mut choices, &mut case),
                _ => {
                    let range = spent.saturating_sub(21_000) as usize;
                    case.gas = 21_000 + choices.below(range.max(1)) as u64;
                }
            },
        }
        case
    }

    /// One input on its own, however many there are.
    pub fn input(&self, index: usize) -> Case {
        let (group, nth) = (index / GROUP, index % GROUP);
        let leader = self.leader(group);
        if nth == 0 {
            return leader;
        }
        let outcome = oracle(&leader, &self.db(&leader));
        self.follower(group, nth, &leader, &outcome)
    }

    fn choices(&self, index: usize) -> Choices<'static> {
        // Apart from the programs' own choices.
        let index = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Choices::seeded(self.seed.rotate_left(32) ^ index)
    }

    fn note(&self, index: usize) -> String {
        format!("Generated: programs of seed {}, input {index}.", self.seed)
    }
}

/// Gas that the first transaction spent; nothing if it did not run.
fn gas_spent(outcome: &Outcome) -> u64 {
    outcome.transactions.first().and_then(|first| first.gas_spent()).unwrap_or_default()
}

fn value(choices: &mut Choices<'_>, percent: usize) -> U256 {
    match choices.chance(percent) {
        true => choices.pick(&[U256::from(1), U256::from(12345), U256::from(1) << 100]),
        false => U256::ZERO,
    }
}

/// Replaces a word, or adds one.
fn new_word(choices: &mut Choices<'_>, calldata: &mut Vec<u8>) {
    let at = 32 * choices.below(calldata.len() / 32 + 1);
    let word = values::word(choices).to_be_bytes::<32>();
    let end = calldata.len().min(at + 32);
    calldata.splice(at..end, word);
}

/// Another storage, and sometimes another balance, of one contract.
fn new_state(choices: &mut Choices<'_>, case: &mut Case) {
    let nth = choices.below(case.contracts.len());
    let Some(contract) = case.contracts.values_mut().nth(nth) else { return };
    contract.storage = storage(choices);
    if choices.chance(30) {
        contract.balance = choices.pick(&[U256::ZERO, U256::from(1), U256::from(1) << 64]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_input_is_the_same_alone_and_in_its_group() {
        for seed in 0..20 {
            let set = ProgramSet::seeded(seed);
            for group in 0..4 {
                let leader = set.leader(group);
                assert_eq!(leader, set.input(group * GROUP));
                let outcome = oracle(&leader, &set.db(&leader));
                for nth in 1..GROUP {
                    let follower = set.follower(group, nth, &leader, &outcome);
                    assert_eq!(follower, ProgramSet::seeded(seed).input(group * GROUP + nth));
                }
            }
        }
    }

    #[test]
    fn inputs_change_no_program() {
        for seed in 0..20 {
            let set = ProgramSet::seeded(seed);
            let codes = |case: &Case| {
                case.contracts.values().map(|contract| contract.code.clone()).collect::<Vec<_>>()
            };
            let inputs: Vec<Case> = (0..16).map(|index| set.input(index)).collect();
            assert!(inputs.iter().all(|input| codes(input) == codes(&inputs[0])), "seed {seed}");
            let different: BTreeSet<_> = inputs.iter().map(Case::to_string).collect();
            assert_eq!(different.len(), 16, "seed {seed}");
        }
    }

    #[test]
    fn a_state_is_the_inputs_own() {
        for seed in 0..50 {
            let set = ProgramSet::seeded(seed);
            let input = set.input(7);
            let (own, derived) = (CaseDb::new(&input), set.db(&input));
            assert_eq!(oracle(&input, &own), oracle(&input, &derived), "seed {seed}");
        }
    }
}
