//! The artifact store and the engine: what was compiled once is kept, and found again after a restart.
//!
//! **Owns** the ways between programs and artifacts. **Callers guarantee** that code of an artifact is one for
//! this build and CPU: its key says so, and it was checked. **Never** is on the path of a frame that finds its
//! program.

mod program;
mod types;

pub(crate) use program::{LoadError, rank_of, tier_of};
