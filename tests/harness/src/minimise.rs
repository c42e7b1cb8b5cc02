//! Makes a failing case smaller.
//!
//! Owns the shrinking steps. Callers give a predicate that says whether a case still fails; it is
//! called a bounded number of times. Never returns a case for which the predicate did not hold.

use crate::asm::instruction_starts;
use crate::case::{Case, TARGET};
use revm::bytecode::opcode as op;
use revm::primitives::U256;

/// How often a predicate is asked.
const TRIES_MAX: usize = 4000;

/// A smaller case that still fails, given one that does.
pub fn minimise(case: Case, fails: impl FnMut(&Case) -> bool) -> Case {
    let mut shrink = Shrink { best: case, fails, tries: 0 };
    loop {
        let before = shrink.best.clone();
        shrink.settings();
        shrink.contracts();
        shrink.code();
        if shrink.best == before || shrink.tries >= TRIES_MAX {
            return shrink.best;
        }
    }
}

struct Shrink<F> {
    best: Case,
    fails: F,
    tries: usize,
}

impl<F: FnMut(&Case) -> bool> Shrink<F> {
    /// Keeps the changed case if it still fails.
    fn attempt(&mut self, change: impl FnOnce(&mut Case)) -> bool {
        let mut case = self.best.clone();
        change(&mut case);
        if self.tries >= TRIES_MAX || case == self.best {
            return false;
        }
        self.tries += 1;
        let fails = (self.fails)(&case);
        if fails {
            self.best = case;
        }
        fails
    }

    fn settings(&mut self) {
        self.attempt(|case| case.repeat = 1);
        self.attempt(|case| case.value = U256::ZERO);
        self.attempt(|case| case.is_static = false);
        self.attempt(|case| case.calldata.clear());
        while self.attempt(|case| case.calldata.truncate(case.calldata.len() / 2)) {}
        self.attempt(|case| case.gas = 100_000);
    }

    fn contracts(&mut self) {
        let addresses: Vec<_> = self.best.contracts.keys().copied().collect();
        for address in addresses {
            if address != TARGET {
                self.attempt(|case| drop(case.contracts.remove(&address)));
            }
            let mut change = |change: fn(&mut crate::case::Contract)| {
                self.attempt(|case| {
                    case.contracts.entry(address).and_modify(change);
                });
            };
            change(|contract| contract.storage.clear());
            change(|contract| contract.balance = U256::ZERO);
            change(|contract| contract.delegate = None);
            change(|contract| contract.hash = None);
            if !self.best.contracts.contains_key(&address) {
                continue;
            }
        }
    }

    /// Removes runs of instructions, then replaces single ones by JUMPDESTs of the same width (so
    /// that jump targets keep their place), then makes push values small.
    fn code(&mut self) {
        let addresses: Vec<_> = self.best.contracts.keys().copied().collect();
        for address in addresses {
            let len = |case: &Case| case.contracts[&address].code.len();
            let mut chunk = len(&self.best).next_power_of_two();
            while chunk > 0 {
                let mut at = 0;
                while at < len(&self.best) {
                    let starts = instruction_starts(&self.best.contracts[&address].code);
                    let from = *starts.iter().find(|start| **start >= at).unwrap_or(&at);
                    let to = starts.iter().copied().find(|start| *start >= from + chunk);
                    let to = to.unwrap_or(len(&self.best)).max(from);
                    let code = |case: &mut Case, change: &dyn Fn(&mut Vec<u8>)| {
                        change(&mut case.contracts.entry(address).or_default().code);
                    };
                    let removed =
                        self.attempt(|case| code(case, &|code| drop(code.drain(from..to))));
                    if !removed {
                        self.attempt(|case| code(case, &|code| code[from..to].fill(op::JUMPDEST)));
                        at = to.max(at + 1);
                    }
                }
                chunk /= 2;
            }
            self.immediates(address);
        }
    }

    fn immediates(&mut self, address: revm::primitives::Address) {
        let code = self.best.contracts[&address].code.clone();
        for start in instruction_starts(&code) {
            let width = match code[start] {
                opcode @ op::PUSH1..=op::PUSH32 => (opcode - op::PUSH1 + 1) as usize,
                _ => continue,
            };
            if start + 1 + width > code.len() {
                continue;
            }
            for byte in [0, 1] {
                self.attempt(|case| {
                    let code = &mut case.contracts.entry(address).or_default().code;
                    code[start + 1..start + 1 + width].fill(0);
                    code[start + width] = byte;
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use revm::primitives::hardfork::SpecId;

    #[test]
    fn keeps_what_matters() {
        let code = [op::PUSH1, 7, op::POP, op::GAS, op::PUSH2, 9, 9, op::SUB, op::STOP];
        let case = Case { gas: 77, ..Case::of_code(SpecId::CANCUN, code) };
        let mut fails = |case: &Case| case.contracts[&TARGET].code.contains(&op::SUB);
        let small = minimise(case, &mut fails);
        assert_eq!(small.contracts[&TARGET].code, [op::SUB]);
    }
}
