//! The tiers that are measured, and engines whose programs are compiled by one of them.
//!
//! **Owns** their options, so that a tier is measured alone: nothing is promoted to another one in the
//! middle. **Callers guarantee** nothing. **Never** runs anything while time is taken.

use crate::{BenchError, Subject, median, transactions::verify};
use clap::ValueEnum;
use kiln::{
    Compile, Config, Engine, Stats, Tiered,
    fixture::{execute, plain_evm},
};

/// Times a fixture's codes are compiled again.
const ROUNDS: usize = 3;

/// What compiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Stencils; whole contracts.
    Tier0,
    /// Tier 0 and regions compiled by Cranelift, of what a recorded run came through.
    Optimised,
    /// Tier 0 and regions compiled by LLVM, of what a recorded run came through.
    Tier1,
}

impl Tier {
    /// What this build can compile with, workers of other executables not considered.
    pub const BUILT: &[Self] = match cfg!(feature = "llvm") {
        true => &[Self::Tier0, Self::Optimised, Self::Tier1],
        false => &[Self::Tier0, Self::Optimised],
    };

    /// As the command names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tier0 => "tier0",
            Self::Optimised => "optimised",
            Self::Tier1 => "tier1",
        }
    }

    /// An engine that compiles with this tier and no other, at once, on the thread that asks.
    pub fn config(self) -> Config {
        let (tier, compile) = match self {
            Self::Tier0 => (kiln::Tier::Baseline, Compile::All),
            Self::Optimised => (kiln::Tier::Optimised, Compile::Seen),
            Self::Tier1 => (kiln::Tier::Tier1, Compile::Seen),
        };
        Config { first_tier: tier, top_tier: tier, compile, ..Config::eager() }
    }
}

/// What compiling the codes that a fixture runs costs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// In a new engine, for tier 1 with a worker that was just started.
    pub first: Stats,
    /// Again in the same engine: the median by CPU time. What is less than the first time is
    /// what is set up once, and cold caches.
    pub later: Stats,
}

impl Cost {
    /// CPU time of the optimising compiler for each instruction of its regions, in nanoseconds.
    pub fn optimise_ns_per_instruction(&self) -> f64 {
        self.later.optimise_ns as f64 / self.later.optimised_instructions.max(1) as f64
    }

    /// The sum of two.
    pub fn plus(mut self, other: Self) -> Self {
        self.first += other.first;
        self.later += other.later;
        self
    }
}

/// An engine in which everything is compiled that a fixture runs.
#[derive(Debug)]
pub struct Ready {
    /// Its tier.
    pub tier: Tier,
    /// The engine.
    pub engine: Engine,
    /// What that took.
    pub cost: Cost,
}

impl Ready {
    /// Compiles what a fixture runs, several times.
    ///
    /// # Errors
    /// There is no engine on this machine, nothing could be compiled, or a result is not as expected.
    pub fn new(tier: Tier, subject: &Subject) -> Result<Self, BenchError> {
        let engine = Engine::new(tier.config())?;
        let first = compile(tier, &engine, subject)?;
        let mut later = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            engine.clear();
            later.push(compile(tier, &engine, subject)?);
        }
        let middle = median(later.iter().map(|stats| stats.compile_cpu_ns).collect());
        let later = later.into_iter().find(|stats| stats.compile_cpu_ns == middle);
        let cost = Cost { first, later: later.unwrap_or_default() };
        Ok(Self { tier, engine, cost })
    }
}

/// Runs a fixture in an engine that has no program, so that it has afterwards what that takes.
fn compile(tier: Tier, engine: &Engine, subject: &Subject) -> Result<Stats, BenchError> {
    let before = engine.stats();
    let records = engine.config().compile == Compile::Seen;
    engine.set_recording(records);
    let mut evm = Tiered::mainnet(plain_evm(&subject.prepared), engine.clone());
    let executed = execute(&mut evm, &subject.prepared.txs);
    verify(subject, tier.name(), &(executed, evm.into_inner().ctx.journaled_state.database))?;
    engine.set_recording(false);
    if records {
        engine.compile_recorded();
    }
    let spent = engine.stats() - before;
    match spent.programs {
        0 => Err(BenchError::Tier { tier: tier.name(), path: subject.loaded.path.clone() }),
        _ => Ok(spent),
    }
}
