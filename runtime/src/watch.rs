//! Which opcodes of an EVM are revm's own.
//!
//! **Owns** a copy of an instruction table that is known to be revm's, and the comparison with the
//! live one. An instruction's address alone says nothing: the same function has another one in every
//! crate that made a table.
//!
//! **Callers guarantee** that the table they declare is what they say, and of an EVM that is sealed, that
//! they [`expose`](Watch::expose) its tables before anybody else could write to them. **Never** calls an
//! instruction.

use crate::engine::{BakedId, Engine};
use kiln_ir::OpcodeSet;
use revm::{
    interpreter::{GasTable, Instruction, InstructionTable, InterpreterTypes},
    primitives::hardfork::SpecId,
};

/// What a user says about the instruction table of an EVM that kiln did not build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Declared {
    /// All instructions are revm's own.
    Mainnet,
    /// All but these are revm's own.
    Replaced(OpcodeSet),
}

/// Follows the tables of one EVM.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    /// A copy of the declared table; of a sealed EVM only once its own may be another.
    known: Option<Box<[usize; 256]>>,
    /// Without a declaration nothing is known, and everything is interpreted.
    declared: Option<OpcodeSet>,
    /// Whether the EVM's tables change only while they are exposed.
    sealed: bool,
    /// Whether they were exposed since they were last looked at.
    exposed: bool,
    /// What was found when the tables were last looked at.
    last: Option<(kiln_ir::Config, BakedId)>,
}

impl Watch {
    /// From now on the tables change only while they are [exposed](Self::expose), and are not looked at
    /// otherwise. Comparing them reads 5 KB, which is most of what kiln costs a small transaction.
    pub(crate) fn seal(&mut self) {
        self.sealed = true;
    }

    /// Somebody gets the tables, and may write to them.
    #[inline]
    pub(crate) fn expose<W: InterpreterTypes, H>(&mut self, table: &InstructionTable<W, H>) {
        if self.sealed && self.known.is_none() {
            self.copy(table);
        }
        self.exposed = true;
    }

    #[cold]
    #[inline(never)]
    fn copy<W: InterpreterTypes, H>(&mut self, table: &InstructionTable<W, H>) {
        self.known = Some(Box::new(*addresses(table)));
    }

    /// Takes the table as it is now for what was declared.
    pub(crate) fn declare<W: InterpreterTypes, H>(
        &mut self,
        table: &InstructionTable<W, H>,
        declared: Declared,
    ) {
        self.known = None;
        if !self.sealed {
            self.copy(table);
        }
        self.declared = Some(match declared {
            Declared::Mainnet => OpcodeSet::EMPTY,
            Declared::Replaced(opcodes) => opcodes,
        });
        self.last = None;
    }

    /// What is baked into programs for this EVM. Looks at the tables only if `look` and they may have
    /// changed, or if the fork is another than the last time.
    #[inline]
    pub(crate) fn baked<W: InterpreterTypes, H>(
        &mut self,
        engine: &Engine,
        table: &InstructionTable<W, H>,
        gas: &GasTable,
        spec: SpecId,
        look: bool,
    ) -> Option<BakedId> {
        match &self.last {
            Some((config, id)) if !(look && self.may_differ()) && config.spec == spec => Some(*id),
            _ => self.look(engine, table, gas, spec),
        }
    }

    /// Whether an instruction was found not to be revm's own when the tables were last looked at.
    #[inline]
    pub(crate) fn replaced(&self) -> bool {
        self.last.as_ref().is_none_or(|(config, _)| !config.replaced.is_empty())
    }

    /// Whether the tables may be others than when they were last looked at.
    #[inline]
    fn may_differ(&self) -> bool {
        !self.sealed || self.exposed
    }

    #[inline(never)]
    fn look<W: InterpreterTypes, H>(
        &mut self,
        engine: &Engine,
        table: &InstructionTable<W, H>,
        gas: &GasTable,
        spec: SpecId,
    ) -> Option<BakedId> {
        let mut replaced = self.declared?;
        self.exposed = false;
        let live = addresses(table);
        // Without a copy the table is the one that was declared.
        if let Some(known) = self.known.as_deref().filter(|&known| live != known) {
            let differs = (0..=255u8).filter(|&op| live[op as usize] != known[op as usize]);
            replaced = replaced.union(&differs.collect());
        }
        if let Some((config, id)) = &self.last
            && config.spec == spec
            && config.gas == *gas
            && config.replaced == replaced
        {
            return Some(*id);
        }
        let config = kiln_ir::Config { spec, gas: *gas, replaced };
        let id = engine.intern(&config);
        self.last = Some((config, id));
        Some(id)
    }
}

/// The addresses of a table's functions.
fn addresses<W: InterpreterTypes, H>(table: &InstructionTable<W, H>) -> &[usize; 256] {
    const {
        assert!(size_of::<Instruction<W, H>>() == size_of::<usize>());
        assert!(align_of::<Instruction<W, H>>() == align_of::<usize>());
    }
    let table: *const InstructionTable<W, H> = table;
    // SAFETY: an `Instruction` is a struct of one function pointer, by its definition in revm; its
    // size and alignment are asserted. Function pointers may be read as integers.
    unsafe { &*table.cast() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Config};
    use revm::{
        context_interface::host::DummyHost,
        interpreter::{
            InstructionContext, InstructionExecResult, gas_table, instruction_table,
            interpreter::EthInterpreter,
        },
    };

    type Table = InstructionTable<EthInterpreter, DummyHost>;

    fn foreign(_: InstructionContext<'_, DummyHost, EthInterpreter>) -> InstructionExecResult {
        Ok(())
    }

    fn evaluator() -> Engine {
        Engine::new(Config { backend: Backend::Evaluator, ..Config::default() }).unwrap()
    }

    #[test]
    fn differences_of_a_sealed_table_are_found_once_it_was_exposed() {
        let engine = evaluator();
        let mut table: Table = instruction_table();
        let mut gas = gas_table();
        let mut watch = Watch::default();
        let look = |watch: &mut Watch, table: &Table, gas: &GasTable| {
            watch.baked(&engine, table, gas, SpecId::CANCUN, true)
        };
        watch.seal();
        assert_eq!(look(&mut watch, &table, &gas), None, "nothing declared");
        watch.declare(&table, Declared::Mainnet);
        let plain = look(&mut watch, &table, &gas);
        assert!(plain.is_some());
        watch.expose(&table);
        assert_eq!(look(&mut watch, &table, &gas), plain);
        for _ in 0..2 {
            watch.expose(&table);
            table[0x54] = Instruction::new(foreign);
            let replaced = look(&mut watch, &table, &gas);
            assert_ne!(replaced, plain);
            assert_eq!(look(&mut watch, &table, &gas), replaced);
            assert_eq!(watch.last.as_ref().unwrap().0.replaced, [0x54].into_iter().collect());
            watch.expose(&table);
            table[0x54] = instruction_table()[0x54];
            assert_eq!(look(&mut watch, &table, &gas), plain);
        }
        watch.expose(&table);
        gas[0x01] = 7;
        assert_ne!(look(&mut watch, &table, &gas), plain);
    }

    #[test]
    fn differences_from_the_declared_table_are_found() {
        let engine = evaluator();
        let mut table: Table = instruction_table();
        let mut gas = gas_table();
        let mut watch = Watch::default();
        let look = |watch: &mut Watch, table: &Table, gas: &GasTable| {
            watch.baked(&engine, table, gas, SpecId::CANCUN, true)
        };
        assert_eq!(look(&mut watch, &table, &gas), None, "nothing declared");
        watch.declare(&table, Declared::Mainnet);
        let plain = look(&mut watch, &table, &gas);
        assert!(plain.is_some());
        assert_eq!(watch.last.as_ref().unwrap().0.replaced, OpcodeSet::EMPTY);
        table[0x54] = Instruction::new(foreign);
        let replaced = look(&mut watch, &table, &gas);
        assert_ne!(replaced, plain);
        assert_eq!(watch.last.as_ref().unwrap().0.replaced, [0x54].into_iter().collect());
        table[0x54] = instruction_table()[0x54];
        assert_eq!(look(&mut watch, &table, &gas), plain);
        gas[0x01] = 7;
        assert_ne!(look(&mut watch, &table, &gas), plain);
    }
}
