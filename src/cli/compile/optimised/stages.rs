//! The time that each stage of compiling regions takes.

use crate::cli::compile::Compiler;
use kiln_ir::ssa;
use kiln_tier0::region;

/// A stage, from bytecode to code objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Decoding and basic blocks.
    Scan,
    /// What each block does to the stack.
    Summaries,
    /// Where jumps go.
    Jumps,
    /// Which blocks are compiled together.
    Choose,
    /// To SSA.
    Build,
    /// In SSA.
    Optimise,
    /// Ways out.
    Place,
    /// To the IR of Cranelift or LLVM.
    Lower,
    /// In LLVM's.
    Passes,
    /// To machine code.
    Codegen,
    /// From Cranelift's code to code objects.
    Assemble,
    /// From LLVM's objects to code objects.
    Load,
}

impl Stage {
    /// All of them, in order, with the names of their figures.
    pub(super) const ALL: [(Self, &'static str); 12] = [
        (Self::Scan, "scan"),
        (Self::Summaries, "summaries"),
        (Self::Jumps, "jumps"),
        (Self::Choose, "choose"),
        (Self::Build, "build"),
        (Self::Optimise, "optimise"),
        (Self::Place, "place"),
        (Self::Lower, "lower"),
        (Self::Passes, "passes"),
        (Self::Codegen, "codegen"),
        (Self::Assemble, "assemble"),
        (Self::Load, "load"),
    ];

    /// Whether it is one of this compiler's.
    fn is_of(self, tier: Compiler) -> bool {
        match self {
            Self::Passes | Self::Load => tier == Compiler::Tier1,
            Self::Assemble => tier == Compiler::Optimised,
            _ => true,
        }
    }
}

impl From<ssa::Stage> for Stage {
    fn from(stage: ssa::Stage) -> Self {
        match stage {
            ssa::Stage::Summaries => Self::Summaries,
            ssa::Stage::Jumps => Self::Jumps,
            ssa::Stage::Build => Self::Build,
            ssa::Stage::Optimise => Self::Optimise,
            ssa::Stage::Place => Self::Place,
        }
    }
}

impl From<region::Stage> for Stage {
    fn from(stage: region::Stage) -> Self {
        match stage {
            region::Stage::Lower => Self::Lower,
            region::Stage::Codegen => Self::Codegen,
            region::Stage::Assemble => Self::Assemble,
        }
    }
}

/// CPU time of this thread, by stage.
#[derive(Debug)]
pub(super) struct Times {
    last_ns: u64,
    ns: [u64; Stage::ALL.len()],
}

impl Times {
    /// The first stage begins now.
    pub(super) fn start() -> Self {
        Self { last_ns: now_ns(), ns: Default::default() }
    }

    /// This stage ends now, and the next begins.
    pub(super) fn ended(&mut self, stage: impl Into<Stage>) {
        let now = now_ns();
        self.ns[stage.into() as usize] += now.saturating_sub(self.last_ns);
        self.last_ns = now;
    }

    /// What has passed since the last stage ended belongs to none.
    pub(super) fn skip(&mut self) {
        self.last_ns = now_ns();
    }

    /// The names and times of a compiler's stages, in nanoseconds.
    pub(super) fn all(&self, tier: Compiler) -> impl Iterator<Item = (&'static str, u64)> {
        Stage::ALL
            .into_iter()
            .filter(move |(stage, _)| stage.is_of(tier))
            .map(|(stage, name)| (name, self.ns[stage as usize]))
    }
}

/// CPU time of this thread, in nanoseconds.
fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
