//! Which opcodes of an EVM are revm's own.
//!
//! **Owns** a copy of an instruction table that is known to be revm's, and the comparison with the
//! live one. An instruction's address alone says nothing: the same function has another one in every
//! crate that made a table.
//!
//! **Callers guarantee** that the table they declare is what they say. **Never** calls an
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
    /// The declared table. Without one nothing is known, and everything is interpreted.
    known: Option<Box<[usize; 256]>>,
    declared: OpcodeSet,
    /// What was found when the tables were last looked at.
    last: Option<(kiln_ir::Config, BakedId)>,
}

impl Watch {
    /// Takes the table as it is now for what was declared.
    pub(crate) fn declare<W: InterpreterTypes, H>(
        &mut self,
        table: &InstructionTable<W, H>,
        declared: Declared,
    ) {
        self.known = Some(Box::new(*addresses(table)));
        self.declared = match declared {
            Declared::Mainnet => OpcodeSet::EMPTY,
            Declared::Replaced(opcodes) => opcodes,
        };
        self.last = None;
    }

    /// What is baked into programs for this EVM. Looks at the tables only if `look`, or if the fork
    /// is another than the last time.
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
            Some((config, id)) if !look && config.spec == spec => Some(*id),
            _ => self.look(engine, table, gas, spec),
        }
    }

    /// Whether an instruction was found not to be revm's own when the tables were last looked at.
    #[inline]
    pub(crate) fn replaced(&self) -> bool {
        self.last.as_ref().is_none_or(|(config, _)| !config.replaced.is_empty())
    }

    fn look<W: InterpreterTypes, H>(
        &mut self,
        engine: &Engine,
        table: &InstructionTable<W, H>,
        gas: &GasTable,
        spec: SpecId,
    ) -> Option<BakedId> {
        let known = self.known.as_deref()?;
        let live = addresses(table);
        let mut replaced = self.declared;
        if live != known {
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

    #[test]
    fn differences_from_the_declared_table_are_found() {
        let engine = Engine::new(Config { backend: Backend::Evaluator, ..Config::default() });
        let engine = engine.unwrap();
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
