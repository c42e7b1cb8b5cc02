//! An EVM that stays for many cases, as a node's does.
//!
//! Owns the EVM of one engine, or of the oracle. Every run begins with a new context, so nothing of a
//! case is left for the next one but what the engine knows of code. Callers give cases in any order.
//! Never keeps an EVM in which something panicked.

use crate::case::Case;
use crate::db::CaseDb;
use crate::engine::{Outcome, transact};
use crate::environment::context;
use crate::handler::CaseContext;
use kiln_runtime::{Engine, Tiered};
use revm::MainBuilder;
use revm::handler::{EvmTr, MainnetEvm};
use revm::primitives::hardfork::SpecId;

type Plain = MainnetEvm<CaseContext>;

/// The EVM and its engine.
#[derive(Debug)]
pub struct WarmEvm {
    /// None for plain revm.
    engine: Option<Engine>,
    /// With the fork that it is for.
    evm: Option<(SpecId, Evm)>,
}

#[derive(Debug)]
enum Evm {
    Plain(Box<Plain>),
    Tiered(Box<Tiered<Plain>>),
}

impl Evm {
    fn context(&mut self) -> &mut CaseContext {
        match self {
            Self::Plain(evm) => evm.ctx(),
            Self::Tiered(evm) => evm.ctx(),
        }
    }
}

impl WarmEvm {
    /// Plain revm: the oracle.
    pub const fn oracle() -> Self {
        Self { engine: None, evm: None }
    }

    /// kiln with an engine.
    pub const fn of(engine: Engine) -> Self {
        Self { engine: Some(engine), evm: None }
    }

    /// The engine, if it is kiln.
    pub const fn engine(&self) -> Option<&Engine> {
        self.engine.as_ref()
    }

    /// Forgets all programs and the EVM, so that what follows does not depend on what was before.
    pub fn clear(&mut self) {
        self.evm = None;
        if let Some(engine) = &self.engine {
            engine.clear();
        }
    }

    /// Runs a case from the state that `db` holds.
    pub fn run(&mut self, case: &Case, db: &CaseDb) -> Outcome {
        let context = context(case, db);
        // Instruction tables and precompiles are the fork's.
        let kept = self.evm.take().filter(|(spec, _)| *spec == case.spec);
        let mut evm = match kept {
            Some((_, mut evm)) => {
                *evm.context() = context;
                evm
            }
            None => self.build(context),
        };
        let outcome = match &mut evm {
            Evm::Plain(evm) => transact(case, evm.as_mut()),
            Evm::Tiered(evm) => transact(case, evm.as_mut()),
        };
        let sound = outcome.transactions.iter().all(|transaction| !transaction.panicked());
        self.evm = sound.then_some((case.spec, evm));
        outcome
    }

    fn build(&self, context: CaseContext) -> Evm {
        let evm = context.build_mainnet();
        match &self.engine {
            None => Evm::Plain(Box::new(evm)),
            Some(engine) => Evm::Tiered(Box::new(Tiered::mainnet(evm, engine.clone()))),
        }
    }
}
