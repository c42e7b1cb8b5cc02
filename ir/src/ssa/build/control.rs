//! How nodes end.

use super::Builder;
use crate::{
    module::Cond,
    opcode::{LOWERING, Lowering, activated_in},
    ssa::{
        function::{BlockId, Target, Terminator, Value},
        simplify::{Compared, compare},
    },
};
use kiln_abi::{ExitId, ExitKind, Pc, Word};
use revm_bytecode::opcode as op;

/// What comes behind a node.
pub(super) enum End {
    /// Only this edge, in the same block if it can be.
    To {
        /// The node, if it is in the region.
        node: Option<usize>,
        /// Its leader.
        pc: Pc,
    },
    /// The terminator.
    Ends(Terminator),
}

impl Builder<'_> {
    /// Lowers an instruction that ends its block.
    pub(super) fn lower_ending(&mut self, node: usize, opcode: u8) -> End {
        let config = self.analysis.config;
        if config.replaced.contains(opcode) || !config.spec.is_enabled_in(activated_in(opcode)) {
            return self.interpret();
        }
        match LOWERING[opcode as usize] {
            Lowering::Jump => self.jump(node),
            Lowering::Jumpi => self.jumpi(node),
            Lowering::Stop => ends(self.halt(ExitKind::Stop, 0)),
            Lowering::Return => self.return_with(ExitKind::Return),
            Lowering::Revert => self.return_with(ExitKind::Revert),
            _ => self.interpret(),
        }
    }

    /// The instruction, and what follows, is the interpreter's.
    pub(super) fn interpret(&mut self) -> End {
        let exit = self.leave(ExitKind::Interpret);
        // It is not charged with the block.
        self.gas_own = 0;
        ends(exit)
    }

    /// Behind its end, code is as if it went on with STOP.
    pub(super) fn end_of_code(&mut self) -> End {
        self.pc = Pc(self.analysis.code.len() as u32);
        self.gas_own = 0;
        let config = self.analysis.config;
        if config.gas[op::STOP as usize] == 0 && !config.replaced.contains(op::STOP) {
            return ends(self.halt(ExitKind::Stop, 0));
        }
        self.interpret()
    }

    /// An exit that ends the frame, of which only the top `words` are read.
    fn halt(&mut self, kind: ExitKind, words: usize) -> ExitId {
        let from = if words == 0 { self.stack.len() } else { self.stack.len() - words };
        let words = self.snapshot(from);
        self.leave_with(kind, self.pc, self.gas_before, self.gas_own, words)
    }

    fn return_with(&mut self, kind: ExitKind) -> End {
        ends(self.halt(kind, 2))
    }

    /// The pc of a valid constant jump destination.
    fn destination(&self, word: &Word) -> Option<Pc> {
        let pc = word.as_u64()?;
        let valid =
            usize::try_from(pc).is_ok_and(|pc| self.analysis.blocks.jump_dests.contains(pc));
        valid.then_some(Pc(pc as u32))
    }

    fn taken(&self, node: usize, pc: Pc) -> Option<usize> {
        let taken = &self.region.nodes[node].taken;
        taken.iter().find(|(to, _)| *to == pc).map(|&(_, node)| node)
    }

    fn jump(&mut self, node: usize) -> End {
        let dest = self.peek(0);
        if let Some(word) = self.draft.graph.word(dest) {
            let Some(pc) = self.destination(&word) else { return self.interpret() };
            self.pop();
            return End::To { node: self.taken(node, pc), pc };
        }
        let otherwise = self.leave(ExitKind::Interpret);
        self.pop();
        End::Ends(self.predicted(node, dest, otherwise))
    }

    /// Compares a computed destination with those predicted, the hottest first: in this block, and in
    /// one more for each further prediction.
    fn predicted(&mut self, node: usize, dest: Value, otherwise: ExitId) -> Terminator {
        let region = self.region;
        let taken = &region.nodes[node].taken;
        let (first, height) = (self.block, self.height());
        let pc = self.draft.blocks[first.0 as usize].pc;
        let behind = self.draft.blocks.len() as u32;
        for _ in 1..taken.len() {
            self.begin(pc, height, Vec::new());
        }
        let mut terminators = Vec::with_capacity(taken.len());
        for (index, &(pc, to)) in taken.iter().enumerate() {
            let b = self.constant(Word::from_u64(u64::from(pc.0)));
            let next = match index + 1 < taken.len() {
                true => Target::Block { block: BlockId(behind + index as u32), args: Vec::new() },
                false => Target::Exit(otherwise),
            };
            let taken = self.edge(Some(to), pc);
            terminators.push(Terminator::Branch { cond: Cond::Eq, a: dest, b, taken, next });
        }
        self.block = first;
        let mut terminators = terminators.into_iter();
        let of_first = terminators.next();
        for (terminator, block) in terminators.zip(behind..) {
            self.draft.blocks[block as usize].terminator = terminator;
        }
        of_first.unwrap_or(Terminator::Jump(Target::Exit(otherwise)))
    }

    fn jumpi(&mut self, node: usize) -> End {
        let (dest, cond) = (self.peek(0), self.peek(1));
        let Some(dest) = self.draft.graph.word(dest) else { return self.interpret() };
        let pc = self.destination(&dest);
        let next = (self.region.nodes[node].next, Pc(self.pc.0 + 1));
        let zero = self.constant(Word::ZERO);
        let compared = match self.draft.graph.word(cond) {
            None if self.analysis.perturb.leaves_ssa() => Compared::Is(Cond::Ne, cond, zero),
            _ => compare(&mut self.draft.graph, Cond::Ne, cond, zero),
        };
        let invalid = match pc {
            Some(_) => None,
            None if compared == Compared::Known(false) => None,
            None => Some(self.leave(ExitKind::Interpret)),
        };
        self.pop();
        self.pop();
        match (compared, pc) {
            (Compared::Known(false), _) => End::To { node: next.0, pc: next.1 },
            (Compared::Known(true), Some(pc)) => End::To { node: self.taken(node, pc), pc },
            (Compared::Known(true), None) => {
                ends(invalid.expect("jumpi: an exit for an invalid destination"))
            }
            (Compared::Is(cond, a, b), pc) => {
                let taken = match (invalid, pc) {
                    (None, Some(pc)) => self.edge(self.taken(node, pc), pc),
                    (invalid, _) => {
                        Target::Exit(invalid.expect("jumpi: an exit for an invalid destination"))
                    }
                };
                let next = self.edge(next.0, next.1);
                End::Ends(Terminator::Branch { cond, a, b, taken, next })
            }
        }
    }
}

fn ends(exit: ExitId) -> End {
    End::Ends(Terminator::Jump(Target::Exit(exit)))
}
