//! Frame runs in which something is forced, for tests.
//!
//! **Owns** the choice of the safepoints they have. **Never** is on the way of other frame runs.

use crate::{
    config::Config,
    force::{Forced, ForcedSafepoints},
    frame::{self, EveryExit, Held, Ordinary, Tables},
    helpers::Interp,
};
use revm::interpreter::Host;

/// What is forced on all frame runs. One pointer, since most have none.
#[derive(Debug)]
pub(super) struct Modes {
    safepoints: Option<Box<Forced>>,
    /// Whether compiled code is left wherever it can be.
    every_exit: bool,
}

impl Modes {
    pub(super) fn new(config: &Config) -> Option<Box<Self>> {
        let safepoints = Forced::new(&config.force);
        let every_exit = config.limits.perturb.every_exit;
        (safepoints.is_some() || every_exit).then(|| Box::new(Self { safepoints, every_exit }))
    }

    /// Runs a frame. Not inlined: the ordinary frame loop is to stay as it is.
    #[cold]
    #[inline(never)]
    pub(super) fn run<H: Host>(
        &mut self,
        interpreter: &mut Interp,
        host: &mut H,
        tables: Tables<'_, H>,
        held: &mut Held<'_>,
    ) {
        let (engine, stats) = (held.engine, held.stats);
        let forced = self.safepoints.as_deref_mut();
        match (forced.map(|forced| ForcedSafepoints { forced, engine, stats }), self.every_exit) {
            (None, _) => frame::run(interpreter, host, tables, held, &mut EveryExit(Ordinary)),
            (Some(mut forced), false) => frame::run(interpreter, host, tables, held, &mut forced),
            (Some(forced), true) => {
                frame::run(interpreter, host, tables, held, &mut EveryExit(forced));
            }
        }
    }
}
