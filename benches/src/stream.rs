//! A stream of blocks, each on a fresh state, through plain revm and through kiln: the first pass of
//! an engine that begins empty, many passes, and passes of an engine that has nothing left to compile.
//!
//! The two take turns block by block in one process, so that what slows the machine down for longer
//! than a block cancels out of the quotients. While it is plain revm's turn, the engine is paused: what
//! compile threads do, they do in kiln's time.

mod report;

pub(crate) use report::Range;
pub use report::{first, many, warm};

use crate::{BenchError, Subject};
use kiln::{
    Config, Engine, Stats, Tiered,
    fixture::{Executed, FixtureDb, check, execute, plain_evm},
};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

/// How long what was asked of compile threads may take to be compiled.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// A stream of blocks and the engines it is run through.
#[derive(Debug)]
pub struct Stream<'a> {
    /// The blocks, in order.
    pub blocks: &'a [Subject],
    /// The options of each engine.
    pub config: Config,
}

/// What one pass over all blocks took.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// Plain revm, by block.
    pub plain: Vec<Duration>,
    /// Through kiln, by block.
    pub tiered: Vec<Duration>,
    /// What the engine did meanwhile.
    pub stats: Stats,
}

/// Passes of one engine that began empty.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The passes, in order.
    pub passes: Vec<Pass>,
    /// Bytes of code memory in use at the end, the trampoline's not among them.
    pub code_bytes: usize,
}

/// Passes of an engine that had nothing left to compile.
#[derive(Clone, Debug)]
pub struct Warm {
    /// Passes until one compiled nothing.
    pub settling: usize,
    /// Whether it came to that, or the bound was reached.
    pub settled: bool,
    /// The passes that count.
    pub trial: Trial,
}

impl Stream<'_> {
    /// What is done once a process, the KZG set-up and the page faults among it.
    ///
    /// # Errors
    /// If a result is not as expected.
    pub fn prepare(&self) -> Result<(), BenchError> {
        self.blocks.iter().try_for_each(|block| self::plain(block).map(drop))
    }

    /// Runs all blocks a number of times through a new engine.
    ///
    /// # Errors
    /// If there is no engine, or a result is not as expected.
    pub fn trial(&self, passes: usize, turn: usize) -> Result<Trial, BenchError> {
        let engine = Engine::new(self.config.clone())?;
        let before = engine.code_bytes_used();
        let passes = (0..passes).map(|index| self.pass(&engine, index + turn));
        let passes = passes.collect::<Result<_, _>>()?;
        Ok(Trial { passes, code_bytes: engine.code_bytes_used().saturating_sub(before) })
    }

    /// Runs all blocks through a new engine until a pass compiles nothing, `settling_max` times at
    /// most, and then the passes that count.
    ///
    /// # Errors
    /// As [`Stream::trial`].
    pub fn warm(&self, passes: usize, settling_max: usize) -> Result<Warm, BenchError> {
        let engine = Engine::new(self.config.clone())?;
        let before = engine.code_bytes_used();
        let (mut settling, mut settled) = (0, false);
        while !settled && settling < settling_max {
            let programs = engine.stats().programs;
            self.pass(&engine, settling)?;
            settle(&engine);
            settled = engine.stats().programs == programs;
            settling += 1;
        }
        let passes = (0..passes).map(|index| self.pass(&engine, index));
        let passes = passes.collect::<Result<_, _>>()?;
        let code_bytes = engine.code_bytes_used().saturating_sub(before);
        Ok(Warm { settling, settled, trial: Trial { passes, code_bytes } })
    }

    fn pass(&self, engine: &Engine, index: usize) -> Result<Pass, BenchError> {
        let before = engine.stats();
        let mut pass = Pass::default();
        for (number, block) in self.blocks.iter().enumerate() {
            // Whoever goes second finds the caches warm; so they take turns.
            if (number + index).is_multiple_of(2) {
                pass.plain.push(undisturbed(block, engine)?);
                pass.tiered.push(tiered(block, engine)?);
            } else {
                pass.tiered.push(tiered(block, engine)?);
                pass.plain.push(undisturbed(block, engine)?);
            }
        }
        pass.stats = engine.stats() - before;
        Ok(pass)
    }
}

/// Waits until compile threads have nothing left to do.
pub(crate) fn settle(engine: &Engine) {
    let start = Instant::now();
    let idle = |stats: &Stats| stats.events_waiting + stats.jobs_waiting + stats.jobs_running == 0;
    while !idle(&engine.stats()) && start.elapsed() < SETTLE_MAX {
        sleep(Duration::from_millis(1));
    }
}

/// Plain revm, while nothing is compiled.
fn undisturbed(block: &Subject, engine: &Engine) -> Result<Duration, BenchError> {
    let _pause = engine.pause();
    plain(block)
}

fn plain(block: &Subject) -> Result<Duration, BenchError> {
    let mut evm = plain_evm(&block.prepared);
    let executed = execute(&mut evm, &block.prepared.txs);
    verify(block, "interpreter", &executed, &evm.ctx.journaled_state.database)?;
    Ok(executed.elapsed)
}

pub(crate) fn tiered(block: &Subject, engine: &Engine) -> Result<Duration, BenchError> {
    let mut evm = Tiered::mainnet(plain_evm(&block.prepared), engine.clone());
    let executed = execute(&mut evm, &block.prepared.txs);
    let database = evm.into_inner().ctx.journaled_state.database;
    verify(block, "kiln", &executed, &database)?;
    Ok(executed.elapsed)
}

fn verify(
    block: &Subject,
    engine: &'static str,
    executed: &Executed,
    database: &FixtureDb,
) -> Result<(), BenchError> {
    let Subject { loaded, prepared } = block;
    let mismatches = check(&loaded.fixture, executed, database, prepared.spec())
        .map_err(|kind| kind.at(&loaded.path))?;
    match mismatches.into_iter().next() {
        None => Ok(()),
        Some(mismatch) => Err(BenchError::Mismatch { path: loaded.path.clone(), engine, mismatch }),
    }
}
