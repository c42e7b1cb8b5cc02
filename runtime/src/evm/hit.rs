//! For the benchmark of a hit: the parts of a frame run, alone and repeated. Not for use.

use super::{EthEvm, Plan, Tables, Tiered};
use crate::frame::enter_often;
use revm::handler::instructions::InstructionProvider;
use revm::interpreter::{
    Gas, InstructionResult, InterpreterAction,
    interpreter_types::{Jumps, LoopControl},
};
use std::hint::black_box;

impl<EVM: EthEvm> Tiered<EVM> {
    /// Runs the frame on top of the stack `rounds` times from its start, as frames are run: looked
    /// up, entered, and left with an action, which is dropped. The code must end by STOP.
    #[doc(hidden)]
    pub fn hit_often(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.rewind();
            let plan = self.plan();
            let action: InterpreterAction = self.act(plan);
            black_box(&action);
        }
    }

    /// Runs it so with the entry into its program that the lookup found the first time.
    #[doc(hidden)]
    pub fn run_often(&mut self, rounds: u32) {
        self.rewind();
        let Plan::Run(index) = self.plan() else { return };
        for _ in 0..rounds {
            self.rewind();
            let action: InterpreterAction = self.act(black_box(Plan::Run(index)));
            black_box(&action);
        }
    }

    /// Enters the compiled code of that frame `rounds` times, with a context that is made once.
    /// Answers false if there is none, or it is no STOP.
    #[doc(hidden)]
    pub fn enter_often(&mut self, rounds: u32) -> bool {
        self.rewind();
        let Plan::Run(index) = self.plan() else { return false };
        let (_, local) = self.member.local();
        let Some(program) = local.resident.entry(index).slot().0.program() else { return false };
        let (context, instructions, _, frames) = self.evm.all_mut();
        let interpreter = &mut frames.get().interpreter;
        let tables = Tables {
            instructions: instructions.instruction_table(),
            gas: instructions.gas_table(),
        };
        let (trampoline, memo) = (self.trampoline, &mut local.memo);
        enter_often(interpreter, context, tables, &program, trampoline, memo, rounds)
    }

    /// Rewinds the frame and does nothing else: what the others do too.
    #[doc(hidden)]
    pub fn rewind_often(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.rewind();
            black_box(&mut *self);
        }
    }

    /// Ends the frame by revm's own `halt`, with an action, which is dropped: what every engine does
    /// at STOP.
    #[doc(hidden)]
    pub fn halt_often(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.rewind();
            let (_, _, _, frames) = self.evm.all_mut();
            let interpreter = &mut frames.get().interpreter;
            interpreter.halt(black_box(InstructionResult::Stop));
            black_box(&interpreter.take_next_action());
        }
    }

    /// Puts the frame on top of the stack back to its start.
    fn rewind(&mut self) {
        let (_, _, _, frames) = self.evm.all_mut();
        let frame = frames.get();
        // Not a transaction's first frame, in front of which tables are compared.
        frame.depth = 1;
        let interpreter = &mut frame.interpreter;
        interpreter.bytecode.absolute_jump(0);
        interpreter.gas = Gas::new(1 << 40);
        debug_assert!(interpreter.bytecode.is_not_end());
    }
}
