//! Gas sweeps: the same case at every gas limit that matters.
//!
//! Owns the choice of limits. One run of plain revm, with an inspector, tells what had been spent in front of
//! each instruction, in all frames. A limit of just that much ends in front of that instruction, one less in
//! the middle of what is before it; so the limits around the *leaders* (where blocks begin: at the code's
//! start, at JUMPDESTs, behind instructions that end a block) are those at which a block's charge can or can
//! not be paid; with its static gas alone an instruction that costs more fails in its own way. Frames keep back
//! a 64th of what they have from frames below them, so there the limit must be higher: both are tried. Callers
//! run every engine at every limit. Never runs an engine itself.

use crate::case::Case;
use crate::db::CaseDb;
use crate::environment::{context, tx};
use crate::handler::CaseContext;
use revm::bytecode::opcode as op;
use revm::context_interface::cfg::{GasParams, gas_params::Eip2780TxInfo};
use revm::handler::FrameResult;
use revm::interpreter::instructions::{GasTable, gas_table_spec};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_types::Jumps;
use revm::interpreter::{FrameInput, Interpreter};
use revm::primitives::hardfork::SpecId;
use revm::{InspectEvm, Inspector, MainBuilder};
use std::collections::BTreeSet;

/// Gas of the run that is recorded.
const GAS_MAX: u64 = 3_000_000;
/// Instructions of it that are looked at: those of a program that goes on for longer are more of the same.
const STEPS_MAX: usize = 20_000;

/// The gas limits that matter to the first transaction of a case, ascending, `max` of them at most: evenly
/// thinned if there are more, half of them around leaders.
pub fn limits(case: &Case, db: &CaseDb, max: usize) -> Vec<u64> {
    let case = Case { gas: case.gas.max(GAS_MAX), repeat: 1, ..case.clone() };
    let mut recorder = Recorder {
        is_static: case.is_static,
        static_gas: gas_table_spec(case.spec),
        first: None,
        frames: Vec::new(),
        leaders: BTreeSet::new(),
        others: BTreeSet::new(),
        steps: 0,
    };
    let mut evm = context(&case, db).build_mainnet_with_inspector(&mut recorder);
    let result = evm.inspect_one_tx(tx(&case, 0));
    let spent = result.ok().map(|result| result.gas().total_gas_spent());
    drop(evm);
    let Recorder { first, leaders, others, .. } = recorder;
    // The first frame has the limit without what the transaction costs before it.
    let Some(intrinsic) = first.map(|limit| case.gas.saturating_sub(limit)) else {
        return spent.into_iter().flat_map(around).take(max).collect();
    };
    // With less than the floor nothing runs: one limit of that is enough.
    let lowest = floor_gas(&case).max(intrinsic);
    let total = |below: u64| intrinsic + below;
    let leaders: BTreeSet<u64> =
        leaders.into_iter().map(total).chain(spent).flat_map(around).collect();
    let mut leaders: BTreeSet<u64> = leaders.into_iter().filter(|limit| *limit >= lowest).collect();
    leaders.insert(lowest.saturating_sub(1));
    let others = others.into_iter().map(total);
    let others: BTreeSet<u64> =
        others.filter(|limit| *limit >= lowest && !leaders.contains(limit)).collect();
    let kept = (max / 2).max(max.saturating_sub(others.len()));
    let mut limits = thinned(&leaders, kept);
    limits.extend(thinned(&others, max - limits.len()));
    limits.sort_unstable();
    limits
}

/// What a transaction must have as its limit, whatever it costs (EIP-7623).
fn floor_gas(case: &Case) -> u64 {
    let eip2780 = Eip2780TxInfo { value: case.value, is_self_transfer: false };
    let eip2780 = case.spec.is_enabled_in(SpecId::AMSTERDAM).then_some(eip2780);
    GasParams::new_spec(case.spec).initial_tx_gas_for_tx(tx(case, 0), eip2780).floor_gas
}

/// A limit and its neighbours: most instructions cost two or three.
fn around(limit: u64) -> [u64; 5] {
    [limit.saturating_sub(3), limit.saturating_sub(1), limit, limit + 1, limit + 3]
}

/// `max` of them at most, with the first and the last.
fn thinned(all: &BTreeSet<u64>, max: usize) -> Vec<u64> {
    if all.len() <= max {
        return all.iter().copied().collect();
    }
    let all: Vec<u64> = all.iter().copied().collect();
    (0..max).map(|nth| all[nth * (all.len() - 1) / max.saturating_sub(1).max(1)]).collect()
}

/// What a frame is known to have spent.
#[derive(Clone, Copy, Debug, Default)]
struct Frame {
    /// What the frames above it had spent when it began, without what they gave it.
    before: u64,
    /// What it has spent itself, and given away.
    spent: u64,
    /// Whether the next instruction is a leader.
    leads: bool,
    /// What is spent with the static gas of the instruction that runs.
    static_paid: u64,
}

#[derive(Debug)]
struct Recorder {
    is_static: bool,
    static_gas: GasTable,
    /// The first frame's limit.
    first: Option<u64>,
    frames: Vec<Frame>,
    leaders: BTreeSet<u64>,
    others: BTreeSet<u64>,
    steps: usize,
}

impl Inspector<CaseContext, EthInterpreter> for Recorder {
    fn frame_start(&mut self, _: &mut CaseContext, input: &mut FrameInput) -> Option<FrameResult> {
        if let (FrameInput::Call(inputs), []) = (input, &self.frames[..]) {
            inputs.is_static |= self.is_static;
        }
        let before = self.frames.last().map_or(0, |above| above.before + above.spent);
        self.frames.push(Frame { before, ..Frame::default() });
        None
    }

    fn frame_end(&mut self, _: &mut CaseContext, _: &FrameInput, _: &mut FrameResult) {
        self.frames.pop();
    }

    fn initialize_interp(&mut self, interp: &mut Interpreter, _: &mut CaseContext) {
        let limit = interp.gas.limit();
        let is_first = self.first.is_none();
        self.first.get_or_insert(limit);
        if let Some(frame) = self.frames.last_mut() {
            // What it was given, it did not spend. A stipend is nobody's.
            frame.before = if is_first { 0 } else { frame.before.saturating_sub(limit) };
            if !is_first {
                // Where the frame above can just give all that it was asked for.
                self.leaders.insert(frame.before + limit + kept_back(limit));
            }
            frame.leads = true;
        }
    }

    fn step(&mut self, interp: &mut Interpreter, _: &mut CaseContext) {
        self.steps += 1;
        let steps = self.steps;
        let Some(frame) = self.frames.last_mut().filter(|_| steps <= STEPS_MAX) else { return };
        let total = frame.before + interp.gas.total_gas_spent();
        let opcode = interp.bytecode.opcode();
        let kept_back = match frame.before {
            0 => 0,
            _ => kept_back(interp.gas.total_gas_spent()),
        };
        if kept_back > 0 && frame.leads {
            // Where the frame above gives all it can.
            self.leaders.insert(total + kept_back);
        }
        match frame.leads || opcode == op::JUMPDEST {
            true => self.leaders.insert(total),
            false => self.others.insert(total),
        };
        frame.leads = ends_block(opcode);
        frame.static_paid = total + u64::from(self.static_gas[opcode as usize]);
    }

    fn step_end(&mut self, interp: &mut Interpreter, _: &mut CaseContext) {
        if let Some(frame) = self.frames.last_mut() {
            frame.spent = interp.gas.total_gas_spent();
            // What it costs besides decides how it fails.
            let paid = frame.before + frame.spent;
            if paid > frame.static_paid && self.steps <= STEPS_MAX {
                self.others.extend([frame.static_paid - 1, frame.static_paid, paid - 1]);
            }
        }
    }
}

/// What a frame must have besides, to be able to give so much to a frame below it (EIP-150).
const fn kept_back(gas: u64) -> u64 {
    gas.saturating_sub(1) / 63
}

/// Whether what follows may be entered on its own.
fn ends_block(opcode: u8) -> bool {
    matches!(
        opcode,
        op::JUMPI
            | op::CALL
            | op::CALLCODE
            | op::DELEGATECALL
            | op::STATICCALL
            | op::CREATE
            | op::CREATE2
            | op::SSTORE
            | op::SLOAD
            | op::LOG0..=op::LOG4
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::assemble;
    use crate::case::Contract;
    use crate::engine::oracle;
    use crate::generate::contract_address;

    fn succeeds(case: &Case, gas: u64) -> bool {
        let case = Case { gas, ..case.clone() };
        let outcome = oracle(&case, &CaseDb::new(&case));
        outcome.transactions[0].result.as_ref().is_ok_and(|result| result.is_success())
    }

    /// The lowest limit with which it succeeds is there, and the one below.
    #[test]
    fn the_limit_of_success_is_one() {
        let programs = [
            "PUSH 1 PUSH 2 ADD POP STOP",
            "PUSH 9 l: JUMPDEST PUSH 1 SWAP1 SUB DUP1 PUSH @l JUMPI STOP",
            "PUSH 5 PUSH 1000 MSTORE PUSH 1 SLOAD POP STOP",
            "PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0 PUSH 0xc0de1 PUSH 30000 CALL PUSH @e JUMPI INVALID e: JUMPDEST STOP",
        ];
        for program in programs {
            let mut case = Case::of_code(SpecId::CANCUN, assemble(program).unwrap());
            let callee = assemble("PUSH 7 PUSH 7 SSTORE STOP").unwrap();
            let callee = Contract { code: callee, ..Contract::default() };
            case.contracts.insert(contract_address(1), callee);
            let limits = limits(&case, &CaseDb::new(&case), 400);
            let lowest = (21_000..100_000).find(|gas| succeeds(&case, *gas)).unwrap_or_default();
            assert!(limits.contains(&lowest), "{program}: {lowest} is none of {limits:?}");
            assert!(limits.contains(&(lowest - 1)), "{program}");
        }
    }

    #[test]
    fn they_are_bounded_and_ascend() {
        let program = "PUSH 99 l: JUMPDEST PUSH 1 SWAP1 SUB DUP1 PUSH @l JUMPI STOP";
        let case = Case::of_code(SpecId::CANCUN, assemble(program).unwrap());
        for max in [1, 2, 10, 64] {
            let limits = limits(&case, &CaseDb::new(&case), max);
            assert_eq!(limits.len(), max);
            assert!(limits.is_sorted_by(|a, b| a < b), "{limits:?}");
        }
    }
}
