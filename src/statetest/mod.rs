//! GeneralStateTest files: one transaction each on a small state, for every fork, checked by the
//! state root and the hash of the logs.
//!
//! **Owns** running them the way revm's own runner (`revme statetest`) does, the two roots, and the
//! comparison with a file of golden results.
//!
//! **Callers guarantee** that the engine they pass executes the transaction it is given and commits
//! it to the database it is given.
//!
//! **Never** names an engine, and never panics on a file.

mod error;
mod golden;
mod roots;
mod runner;

pub use error::{StateTestError, VariantError};
pub use golden::{Golden, GoldenResult, describe};
pub use roots::{logs_root, state_root};
pub use runner::{
    Failure, Input, Options, Outcome, Report, StateTestDb, StateTestEvm, codes, database, find,
    plain, plain_evm, run,
};
