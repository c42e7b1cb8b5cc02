//! What an engine reports at safepoints, in builds with feature `dump`: the whole state of the frame, so that a test
//! finds a wrong word where it arises and not at the end.
//!
//! **Owns** the report, and the one place that makes it. **Callers guarantee** (the frame loop) that the state is
//! canonical: compiled code is not running. **Never** changes anything; without the feature it is nothing at all, and
//! without an observer a comparison for each safepoint.

#[cfg(feature = "dump")]
pub use on::{OnSafepoint, Safepoint, SafepointKind};

#[cfg(feature = "dump")]
pub(crate) use on::Dump;

#[cfg(not(feature = "dump"))]
pub(crate) use off::Dump;

#[cfg(feature = "dump")]
mod on {
    use crate::{engine::Engine, helpers::Interp, hooks::Tier};
    use revm::{interpreter::interpreter_types::Jumps, primitives::U256};
    use std::fmt;

    /// Called at every safepoint, on the thread that runs the frame.
    pub type OnSafepoint = dyn Fn(&Safepoint<'_>) + Send + Sync;

    /// What happens at a safepoint.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum SafepointKind {
        /// Code by this tier is entered.
        Enter(Tier),
        /// Code by this tier was left, and the frame goes on.
        Leave(Tier),
        /// The interpreter begins, or goes on.
        Interpret,
        /// The interpreter stopped where compiled code can take over.
        Stopped,
    }

    impl fmt::Display for SafepointKind {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            match self {
                Self::Enter(tier) => write!(f, "{tier} is entered"),
                Self::Leave(tier) => write!(f, "{tier} was left"),
                Self::Interpret => f.write_str("the interpreter goes on"),
                Self::Stopped => f.write_str("the interpreter stopped"),
            }
        }
    }

    /// The canonical state of a frame, in front of the instruction at `pc`.
    #[derive(Clone, Copy, Debug, PartialEq)]
    #[non_exhaustive]
    pub struct Safepoint<'a> {
        /// What happens.
        pub kind: SafepointKind,
        /// Calls and creates around the frame; 0 for the first.
        pub depth: usize,
        /// The instruction that comes next.
        pub pc: usize,
        /// Gas left.
        pub gas: u64,
        /// Gas refunded so far in this frame.
        pub refunded: i64,
        /// The stack, the top last.
        pub stack: &'a [U256],
        /// Memory.
        pub memory: &'a [u8],
    }

    /// Who is told of a frame run's safepoints.
    #[derive(Clone, Copy)]
    pub(crate) struct Dump<'a> {
        observer: Option<&'a OnSafepoint>,
        depth: usize,
    }

    impl<'a> Dump<'a> {
        pub(crate) fn new(engine: &'a Engine, depth: usize) -> Self {
            Self { observer: engine.hooks().safepoint.as_deref(), depth }
        }

        fn report(self, interpreter: &Interp, kind: impl FnOnce() -> SafepointKind) {
            let Some(observer) = self.observer else { return };
            observer(&Safepoint {
                kind: kind(),
                depth: self.depth,
                pc: interpreter.bytecode.pc(),
                gas: interpreter.gas.remaining(),
                refunded: interpreter.gas.refunded(),
                stack: interpreter.stack.data(),
                memory: &interpreter.memory.context_memory(),
            });
        }

        pub(crate) fn enter(self, interpreter: &Interp, tier: impl FnOnce() -> Tier) {
            self.report(interpreter, || SafepointKind::Enter(tier()));
        }

        pub(crate) fn leave(self, interpreter: &Interp, tier: impl FnOnce() -> Tier) {
            self.report(interpreter, || SafepointKind::Leave(tier()));
        }

        pub(crate) fn interpret(self, interpreter: &Interp) {
            self.report(interpreter, || SafepointKind::Interpret);
        }

        pub(crate) fn stopped(self, interpreter: &Interp) {
            self.report(interpreter, || SafepointKind::Stopped);
        }
    }
}

#[cfg(not(feature = "dump"))]
mod off {
    use crate::{engine::Engine, helpers::Interp, hooks::Tier};
    use std::marker::PhantomData;

    /// Nobody is told.
    #[derive(Clone, Copy)]
    pub(crate) struct Dump<'a>(PhantomData<&'a ()>);

    impl<'a> Dump<'a> {
        #[inline(always)]
        pub(crate) fn new(_: &'a Engine, _: usize) -> Self {
            Self(PhantomData)
        }

        #[inline(always)]
        pub(crate) fn enter(self, _: &Interp, _: impl FnOnce() -> Tier) {}

        #[inline(always)]
        pub(crate) fn leave(self, _: &Interp, _: impl FnOnce() -> Tier) {}

        #[inline(always)]
        pub(crate) fn interpret(self, _: &Interp) {}

        #[inline(always)]
        pub(crate) fn stopped(self, _: &Interp) {}
    }
}
