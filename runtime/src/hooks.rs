//! What a user's own code is told of an engine's work.
//!
//! **Owns** the callbacks, the record they get, and the interceptor that fault tests put between the
//! phases of a compilation.
//!
//! **Callers guarantee** (those who install a callback) that it returns soon: it runs on the thread
//! that compiled, which may be one that executes transactions.
//!
//! **Never** lets a panic of the callback out, and never calls it with a lock held, so that it may
//! use the engine.

use crate::checks::Report;
use revm::primitives::{B256, hardfork::SpecId};
use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

/// Called after every compilation.
pub type OnCompilation = dyn Fn(&Compilation) + Send + Sync;

/// Called for every difference that a check finds.
pub type OnReport = dyn Fn(&Report) + Send + Sync;

/// Called at the start of every phase of a compilation.
#[doc(hidden)]
pub type OnPhase = dyn Fn(&PhaseStart<'_>) -> Fault + Send + Sync;

/// Callbacks of an engine, for [`crate::Engine::with_hooks`].
///
/// An engine keeps them for its life. A callback that holds an [`crate::Engine`] keeps that engine
/// alive for good.
///
/// ```no_run
/// use kiln_runtime::{Config, Engine, Hooks};
///
/// let hooks = Hooks::on_compilation(|compilation| println!("{compilation}"));
/// let engine = Engine::with_hooks(Config::default(), hooks)?;
/// # let _ = engine;
/// # Ok::<(), kiln_runtime::EngineError>(())
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Hooks {
    /// Called after every compilation, on the thread that compiled. A panic in it is caught, and
    /// counted in [`crate::Stats::callback_panics`].
    pub compilation: Option<Arc<OnCompilation>>,
    /// Called for every difference that a check finds ([`crate::Checks`]), on the thread that found it. A panic in it is
    /// caught, and counted in [`crate::Stats::callback_panics`].
    pub report: Option<Arc<OnReport>>,
    /// Called at every safepoint of every frame, on the thread that runs it, with the frame's state: a wrong word is seen
    /// where it arises. For tests: it may panic, which ends the frame run as a panic of the host does.
    #[cfg(feature = "dump")]
    pub safepoint: Option<Arc<crate::OnSafepoint>>,
    /// For fault tests: called at the start of every phase, within the compiler.
    #[doc(hidden)]
    pub phase: Option<Arc<OnPhase>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hooks = f.debug_struct("Hooks");
        hooks.field("compilation", &self.compilation.is_some());
        hooks.field("report", &self.report.is_some());
        #[cfg(feature = "dump")]
        hooks.field("safepoint", &self.safepoint.is_some());
        hooks.field("phase", &self.phase.is_some()).finish()
    }
}

impl Hooks {
    /// Hooks with a callback for every finished compilation.
    pub fn on_compilation(callback: impl Fn(&Compilation) + Send + Sync + 'static) -> Self {
        Self { compilation: Some(Arc::new(callback)), ..Self::default() }
    }

    /// Adds an observer of safepoints, for tests.
    #[cfg(feature = "dump")]
    #[must_use]
    pub fn on_safepoint(
        mut self,
        observer: impl Fn(&crate::Safepoint<'_>) + Send + Sync + 'static,
    ) -> Self {
        self.safepoint = Some(Arc::new(observer));
        self
    }

    /// Adds a callback for every difference that a check finds.
    #[must_use]
    pub fn on_report(mut self, callback: impl Fn(&Report) + Send + Sync + 'static) -> Self {
        self.report = Some(Arc::new(callback));
        self
    }

    /// Adds an interceptor, for fault tests.
    #[doc(hidden)]
    #[must_use]
    pub fn intercept(
        mut self,
        interceptor: impl Fn(&PhaseStart<'_>) -> Fault + Send + Sync + 'static,
    ) -> Self {
        self.phase = Some(Arc::new(interceptor));
        self
    }

    /// Whether anybody wants to know of compilations.
    pub(crate) fn wants_compilations(&self) -> bool {
        self.compilation.is_some()
    }

    /// Tells of a compilation. Answers whether the callback panicked.
    #[must_use]
    pub(crate) fn finished(&self, compilation: &Compilation) -> bool {
        let Some(callback) = &self.compilation else { return false };
        // What a user's callback leaves half done is the user's.
        catch_unwind(AssertUnwindSafe(|| callback(compilation))).is_err()
    }

    /// Tells of a difference. Answers whether the callback panicked.
    #[must_use]
    pub(crate) fn reported(&self, report: &Report) -> bool {
        let Some(callback) = &self.report else { return false };
        // What a user's callback leaves half done is the user's.
        catch_unwind(AssertUnwindSafe(|| callback(report))).is_err()
    }

    /// A phase begins; what is to go wrong in it. Panics if that is what the interceptor does.
    pub(crate) fn phase(&self, start: &PhaseStart<'_>) -> Fault {
        self.phase.as_ref().map_or(Fault::None, |interceptor| interceptor(start))
    }
}

/// Which compiler made a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Tier {
    /// Tier 0: stencils, or the evaluator in its place.
    Baseline,
    /// Tier 0 with optimised regions by Cranelift, or the evaluator of their SSA form.
    Optimised,
    /// Tier 0 with optimised regions by LLVM.
    Tier1,
}

impl Tier {
    /// All, from the first to the best.
    pub const ALL: [Self; 3] = [Self::Baseline, Self::Optimised, Self::Tier1];

    /// As it is written in events, metrics and symbols.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "tier0",
            Self::Optimised => "optimised",
            Self::Tier1 => "tier1",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a compilation took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CompileThread {
    /// On the thread that asked for it.
    Calling,
    /// On a compile thread of the engine.
    Background,
}

impl CompileThread {
    /// As it is written in events and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Calling => "calling",
            Self::Background => "background",
        }
    }
}

impl fmt::Display for CompileThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A finished compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compilation {
    /// Hash of the bytecode: of its bytes, whatever the database says.
    pub code_hash: B256,
    /// Bytes of the bytecode.
    pub code_len: usize,
    /// The fork it was compiled for.
    pub fork: SpecId,
    /// The compiler.
    pub tier: Tier,
    /// What was compiled, or the text of the error.
    pub outcome: Result<Compiled, String>,
    /// CPU time it took.
    pub cpu: PhaseTimes,
    /// Where it took place.
    pub thread: CompileThread,
    /// Programs of this code that were published before.
    pub nth: u32,
}

/// What a compilation made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compiled {
    /// Blocks.
    pub regions: usize,
    /// Bytecode instructions.
    pub instructions: usize,
    /// Bytes of machine code and data; 0 for the evaluator.
    pub code_bytes: usize,
}

/// CPU time of a compilation by phase, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PhaseTimes {
    /// Finding blocks.
    pub analyse_ns: u64,
    /// Building block IR.
    pub lower_ns: u64,
    /// Making machine code.
    pub codegen_ns: u64,
    /// Placing it.
    pub publish_ns: u64,
}

impl PhaseTimes {
    /// All phases together.
    pub fn total_ns(&self) -> u64 {
        self.analyse_ns + self.lower_ns + self.codegen_ns + self.publish_ns
    }
}

impl From<&crate::Stats> for PhaseTimes {
    /// What the compilations that these counters saw took.
    fn from(stats: &crate::Stats) -> Self {
        let crate::Stats { analyse_ns, lower_ns, codegen_ns, publish_ns, .. } = *stats;
        Self { analyse_ns, lower_ns, codegen_ns, publish_ns }
    }
}

impl fmt::Display for Compilation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code_hash, code_len, fork, tier, thread, .. } = self;
        let fork = fork_name(*fork);
        write!(f, "{tier} {code_hash}@{fork} ({code_len} bytes, {thread} thread): ")?;
        match &self.outcome {
            Ok(Compiled { regions, instructions, code_bytes }) => {
                write!(f, "{regions} blocks, {instructions} instructions, {code_bytes} bytes")?;
            }
            Err(error) => f.write_str(error)?,
        }
        write!(f, ", {} ns", self.cpu.total_ns())
    }
}

/// The name of a fork, as revm spells it.
pub(crate) fn fork_name(fork: SpecId) -> &'static str {
    fork.into()
}

/// A step of a compilation.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// Finding blocks.
    Analyse,
    /// Building block IR.
    Lower,
    /// Choosing, building and compiling optimised regions. The baseline has none.
    Optimise,
    /// Making machine code. The evaluator has none.
    Codegen,
    /// Placing machine code. The evaluator has none.
    Publish,
    /// Encoding a program and decoding it, where that is checked. The evaluator has none.
    Reload,
}

impl Phase {
    /// Those of a baseline compilation, in order.
    pub const BASELINE: [Self; 4] = [Self::Analyse, Self::Lower, Self::Codegen, Self::Publish];
}

/// A phase that begins.
#[doc(hidden)]
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct PhaseStart<'a> {
    /// Which one.
    pub phase: Phase,
    /// The bytecode.
    pub code: &'a [u8],
    pub(crate) stop: &'a dyn Fn() -> bool,
}

impl PhaseStart<'_> {
    /// Whether the compilation was told to stop: its deadline passed, or its result is of no use any
    /// more. What never looks here never comes back.
    pub fn cancelled(&self) -> bool {
        (self.stop)()
    }
}

impl fmt::Debug for PhaseStart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PhaseStart")
            .field("phase", &self.phase)
            .field("code_len", &self.code.len())
            .finish_non_exhaustive()
    }
}

/// What an interceptor makes of a phase. It may also panic, or not return.
#[doc(hidden)]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// It goes as it would.
    #[default]
    None,
    /// It fails with this text.
    Error(String),
    /// [`Phase::Codegen`], or the first region of [`Phase::Optimise`], makes so many bytes at least.
    Output(usize),
    /// [`Phase::Lower`] makes code that charges a gas too much for each block.
    Overcharge,
    /// In [`Phase::Reload`] a bit of the encoded program changes.
    Flip,
    /// In [`Phase::Reload`] an entry is lost.
    LoseEntry,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn compilation(outcome: Result<Compiled, String>) -> Compilation {
        Compilation {
            code_hash: B256::repeat_byte(0xab),
            code_len: 7,
            fork: SpecId::CANCUN,
            tier: Tier::Baseline,
            outcome,
            cpu: PhaseTimes { analyse_ns: 1, lower_ns: 20, codegen_ns: 300, publish_ns: 4000 },
            thread: CompileThread::Calling,
            nth: 0,
        }
    }

    #[test]
    fn a_panic_in_a_callback_stays_there() {
        let calls = Arc::new(AtomicU32::new(0));
        let counted = calls.clone();
        let hooks = Hooks::on_compilation(move |compilation| {
            // Relaxed: the same thread reads it.
            counted.fetch_add(1, Ordering::Relaxed);
            assert!(compilation.outcome.is_ok());
        });
        assert!(hooks.wants_compilations());
        let compiled = Compiled { regions: 1, instructions: 2, code_bytes: 3 };
        assert!(!hooks.finished(&compilation(Ok(compiled))));
        assert!(hooks.finished(&compilation(Err("no".to_owned()))));
        assert!(!hooks.finished(&compilation(Ok(compiled))));
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        assert!(!Hooks::default().wants_compilations());
        assert!(!Hooks::default().finished(&compilation(Err("no".to_owned()))));
    }

    #[test]
    fn interceptors_see_phase_and_cancellation() {
        let hooks = Hooks::default().intercept(|start| match start.phase {
            Phase::Analyse => Fault::None,
            Phase::Lower if start.cancelled() => Fault::Error("stopped".to_owned()),
            _ => Fault::Output(start.code.len()),
        });
        let at = |phase, stop: &dyn Fn() -> bool| {
            hooks.phase(&PhaseStart { phase, code: &[0; 9], stop })
        };
        assert_eq!(at(Phase::Analyse, &|| true), Fault::None);
        assert_eq!(at(Phase::Lower, &|| true), Fault::Error("stopped".to_owned()));
        assert_eq!(at(Phase::Lower, &|| false), Fault::Output(9));
        let start = PhaseStart { phase: Phase::Publish, code: &[], stop: &|| false };
        assert_eq!(Hooks::default().phase(&start), Fault::None);
        assert_eq!(format!("{start:?}"), "PhaseStart { phase: Publish, code_len: 0, .. }");
    }

    #[test]
    fn records_are_readable() {
        let compiled = Compiled { regions: 1, instructions: 2, code_bytes: 3 };
        let text = compilation(Ok(compiled)).to_string();
        assert!(text.starts_with("tier0 0xabab"), "{text}");
        let end = "@Cancun (7 bytes, calling thread): 1 blocks, 2 instructions, 3 bytes, 4321 ns";
        assert!(text.ends_with(end), "{text}");
        let text = compilation(Err("over".to_owned())).to_string();
        assert!(text.ends_with("(7 bytes, calling thread): over, 4321 ns"), "{text}");
        let text = format!("{:?}", Hooks::default());
        assert!(
            text.starts_with("Hooks { compilation: false, ") && text.ends_with("phase: false }")
        );
    }
}
