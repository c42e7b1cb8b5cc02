//! How often the blocks of a program ran.

use crate::cli::{code, error::CliError, run};
use kiln_abi::Pc;
use revm::{
    Context, InspectEvm, Inspector, MainBuilder, MainContext,
    interpreter::{
        Interpreter,
        interpreter_types::{InputsTr, Jumps},
    },
    primitives::{Bytes, hardfork::SpecId},
};

/// How often the blocks of a program ran.
pub(super) enum Profile {
    /// All equally often.
    Even,
    /// By pc.
    Counted(Vec<u64>),
}

impl Profile {
    /// Counts in a call with this calldata, hexadecimal, on an otherwise empty state.
    pub(super) fn of_call(
        bytecode: &Bytes,
        calldata: &str,
        spec: SpecId,
    ) -> Result<Self, CliError> {
        let prepared = run::call(bytecode.clone(), code::calldata(calldata)?, spec);
        let mut steps = Steps(vec![0; bytecode.len()]);
        let mut evm = Context::mainnet()
            .with_db(prepared.db)
            .with_cfg(prepared.cfg)
            .with_block(prepared.block)
            .build_mainnet_with_inspector(&mut steps);
        for tx in prepared.txs {
            evm.inspect_one_tx(tx).map_err(|error| CliError::Usage(error.to_string()))?;
        }
        drop(evm);
        Ok(Self::Counted(steps.0))
    }

    /// How often the block with this leader ran.
    pub(super) fn count(&self, pc: Pc) -> u64 {
        match self {
            Self::Even => 1,
            Self::Counted(counts) => counts.get(pc.0 as usize).copied().unwrap_or(0),
        }
    }
}

/// By pc, the steps of the contract that is called.
struct Steps(Vec<u64>);

impl<CTX> Inspector<CTX> for Steps {
    fn step(&mut self, interpreter: &mut Interpreter, _: &mut CTX) {
        // Initcode has no address.
        if interpreter.input.bytecode_address() == Some(&run::CONTRACT)
            && let Some(count) = self.0.get_mut(interpreter.bytecode.pc())
        {
            *count += 1;
        }
    }
}
