//! Frame runs in which compiled code is left wherever it can be: [`kiln_ir::Perturb::every_exit`].
//!
//! **Owns** what the host does for it: no polls are left, helpers are those of [`Helpers::leaving`], and what is
//! interpreted goes on in compiled code at any entry, not only at those that jumps lead to. Which of
//! them a frame run has is known when it is compiled, so that others pay nothing. **Never** changes what
//! happens at safepoints: that is for the [`Safepoints`] within.

use super::{Order, Pinned, Safepoints};
use crate::{helpers::Helpers, program::Program, slot::Slot};
use kiln_abi::HelperTable;
use revm::interpreter::Host;
use std::sync::Arc;

/// These safepoints, and every way out between them is taken.
pub(crate) struct EveryExit<S>(pub(crate) S);

impl<S: Safepoints> Safepoints for EveryExit<S> {
    const POLL: u32 = 0;
    const ANY_ENTRY: bool = true;

    fn helpers<H: Host>() -> &'static HelperTable {
        Helpers::<H>::leaving()
    }

    fn order(&mut self, program: &Program) -> Order {
        self.0.order(program)
    }

    fn exchange(&mut self, slot: &Arc<Slot>) -> Pinned {
        self.0.exchange(slot)
    }

    fn resumes(&self) -> bool {
        self.0.resumes()
    }

    fn resume(&mut self, slot: &Arc<Slot>, opcode: u8) -> Option<Arc<Program>> {
        self.0.resume(slot, opcode)
    }
}
