//! What each EVM has of its own, so that running frames writes nothing that another thread reads often.
//!
//! **Owns** caches and counters; an engine keeps those of EVMs that are gone for those to come, so that
//! an EVM that lives for one transaction finds them warm. **Never** pins a program.

use crate::{keccak::Memo, resident::Resident, stats::Counters};
use std::sync::Arc;

/// One EVM's part.
#[derive(Debug, Default)]
pub(crate) struct Local {
    pub(crate) resident: Resident,
    pub(crate) memo: Memo,
    /// Written by this EVM alone.
    pub(crate) counters: Arc<Counters>,
}
