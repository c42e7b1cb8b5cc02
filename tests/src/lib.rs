//! The differential tests. The harness is a crate of its own, which the `kiln` command uses too.

pub use kiln_harness::*;
