//! Makes a failing case smaller.
//!
//! Owns the shrinking steps. Callers give a predicate that says whether a case still fails; it is
//! called a bounded number of times. Never returns a case for which the predicate did not hold.

use crate::asm::instruction_starts;
use crate::case::{Case, TARGET};
use revm::bytecode::opcode as op;
use revm::primitives::{Address, U256};
use std::ops::Range;

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

    /// Removes runs of instructions, with jump targets moved along or as they are; where that does not do,
    /// replaces them by JUMPDESTs of the same width. Then makes push values small.
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
                    let removed = self
                        .attempt(|case| code(case, &|code| *code = without(code, from..to)))
                        || self.attempt(|case| code(case, &|code| drop(code.drain(from..to))));
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

    /// Zero and one in place of what is pushed, with as little code as that needs.
    fn immediates(&mut self, address: Address) {
        // Code gets shorter on the way, but the nth instruction stays the nth.
        for nth in 0.. {
            let code = &self.best.contracts[&address].code;
            let Some(&start) = instruction_starts(code).get(nth) else { return };
            let width = match code[start] {
                opcode @ op::PUSH1..=op::PUSH32 => (opcode - op::PUSH1 + 1) as usize,
                _ => continue,
            };
            let end = start + 1 + width;
            if end > code.len() {
                continue;
            }
            for byte in [0, 1] {
                let mut change = |change: &dyn Fn(&mut Vec<u8>)| {
                    self.attempt(|case| {
                        change(&mut case.contracts.entry(address).or_default().code);
                    })
                };
                let narrowed = width > 1
                    && change(&|code| {
                        *code = without(code, start + 2..end);
                        code[start..start + 2].copy_from_slice(&[op::PUSH1, byte]);
                    });
                if narrowed {
                    break;
                }
                change(&|code| {
                    code[start + 1..end].fill(0);
                    code[end - 1] = byte;
                });
            }
        }
    }
}

/// Code without a range of its bytes, where what looks like a jump's target (a PUSH2 of a JUMPDEST's place) is
/// still that JUMPDEST's place.
fn without(code: &[u8], range: Range<usize>) -> Vec<u8> {
    let starts = instruction_starts(code);
    let mut moved = code.to_vec();
    for &start in &starts {
        let [op::PUSH2, high, low, ..] = code[start..] else { continue };
        let target = usize::from(u16::from_be_bytes([high, low]));
        let is_target =
            code.get(target) == Some(&op::JUMPDEST) && starts.binary_search(&target).is_ok();
        if is_target && target >= range.end {
            let target = (target - range.len()) as u16;
            moved[start + 1..start + 3].copy_from_slice(&target.to_be_bytes());
        }
    }
    moved.drain(range);
    moved
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

    #[test]
    fn jumps_keep_their_targets() {
        let code = "PUSH @over JUMP INVALID INVALID over: JUMPDEST PUSH 0x77 PUSH @end JUMP end: JUMPDEST SUB";
        let code = crate::asm::assemble(code).unwrap();
        let shorter =
            "PUSH @over JUMP INVALID over: JUMPDEST PUSH 0x77 PUSH @end JUMP end: JUMPDEST SUB";
        assert_eq!(without(&code, 4..5), crate::asm::assemble(shorter).unwrap());
    }

    /// What is reached by jumps only comes to a few instructions.
    #[test]
    fn what_is_jumped_over_goes() {
        let code = "5*( PUSH32 0x1234 POP ) PUSH @a JUMP 40*( INVALID ) a: JUMPDEST \
            PUSH 3 PUSH @b JUMPI 9*( ADDRESS POP ) b: JUMPDEST CALLER SUB STOP";
        let case = Case::of_code(SpecId::CANCUN, crate::asm::assemble(code).unwrap());
        let fails = |case: &Case| {
            let outcome = crate::engine::oracle(case, &crate::db::CaseDb::new(case));
            outcome.transactions[0].name() == "Halt(StackUnderflow)"
                && case.contracts[&TARGET].code.contains(&op::SUB)
        };
        let small = minimise(case, fails);
        assert_eq!(small.contracts[&TARGET].code, [op::SUB]);
    }
}
