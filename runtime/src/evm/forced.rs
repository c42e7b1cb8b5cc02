//! Frame runs in which something is forced, for tests, or checked.
//!
//! **Owns** the choice of the safepoints they have, and of the frames that are checked. **Never** is on the way of
//! other frame runs.

use crate::{
    checks::{
        replay::Replay,
        shadow::{self, Own},
    },
    config::Config,
    force::{Forced, ForcedSafepoints},
    frame::{self, EveryExit, Held, Ordinary, Tables},
    helpers::Interp,
};
use revm::interpreter::{GasTable, Host};
use std::num::NonZeroU32;

/// What is forced on all frame runs. One pointer, since most have none.
#[derive(Debug)]
pub(super) struct Modes {
    safepoints: Option<Box<Forced>>,
    /// Whether compiled code is left wherever it can be.
    every_exit: bool,
    /// One frame of so many that begin is run by the interpreter, too.
    shadow: Option<NonZeroU32>,
}

impl Modes {
    pub(super) fn new(config: &Config) -> Option<Box<Self>> {
        let safepoints = Forced::new(&config.force);
        let every_exit = config.limits.perturb.every_exit;
        let shadow = config.checks.shadow;
        (safepoints.is_some() || every_exit || shadow.is_some())
            .then(|| Box::new(Self { safepoints, every_exit, shadow }))
    }

    /// Runs a frame, unless nothing is forced on it: false, and it is to run as others do. That is left to the caller, so
    /// that the ordinary frame loop is in one place, and inlined there.
    #[cold]
    #[inline(never)]
    pub(super) fn run<H: Host>(
        &mut self,
        interpreter: &mut Interp,
        host: &mut H,
        tables: Tables<'_, H>,
        held: &mut Held<'_>,
    ) -> bool {
        match self.shadow {
            Some(every) if shadow::is_due(interpreter, held, every) => {
                let gas = tables.gas;
                let mut compiled =
                    |copy: &mut Interp, replay: &mut Replay<'_>, held: &mut Held<'_>| {
                        self.replayed(copy, replay, gas, held);
                    };
                shadow::run(interpreter, host, gas, held, &mut compiled);
                true
            }
            _ => self.forced(interpreter, host, tables, held),
        }
    }

    /// Runs a checked frame in compiled code. For no type of the user's, so that there is one of it.
    fn replayed(
        &mut self,
        copy: &mut Interp,
        replay: &mut Replay<'_>,
        gas: &GasTable,
        held: &mut Held<'_>,
    ) {
        let tables = Tables { instructions: Own::table(), gas };
        if !self.forced(copy, replay, tables, held) {
            frame::run(copy, replay, tables, held, &mut Ordinary);
        }
    }

    /// Runs a frame, if something is forced.
    fn forced<H: Host>(
        &mut self,
        interpreter: &mut Interp,
        host: &mut H,
        tables: Tables<'_, H>,
        held: &mut Held<'_>,
    ) -> bool {
        let (engine, stats) = (held.engine, held.stats);
        let forced = self.safepoints.as_deref_mut();
        match (forced.map(|forced| ForcedSafepoints { forced, engine, stats }), self.every_exit) {
            (None, false) => return false,
            (None, true) => frame::run(interpreter, host, tables, held, &mut EveryExit(Ordinary)),
            (Some(mut forced), false) => frame::run(interpreter, host, tables, held, &mut forced),
            (Some(forced), true) => {
                frame::run(interpreter, host, tables, held, &mut EveryExit(forced));
            }
        }
        true
    }
}
