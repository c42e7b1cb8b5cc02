//! What a transaction costs on plain revm, in compiled code, and through kiln switched off: on a
//! fresh state each time, the engines in turns.

use crate::{BenchError, Subject, median};
use kiln::{
    Config, Engine, Tiered,
    fixture::{Executed, FixtureDb, Prepared, check, execute, plain_evm},
};
use std::time::{Duration, Instant};

/// How long to measure a fixture.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Rounds there are in any case.
    pub rounds_min: usize,
    /// Rounds there are at most.
    pub rounds_max: usize,
    /// Time after which no round is begun.
    pub time: Duration,
}

/// Times of all transactions of a fixture, medians.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transactions {
    /// On plain revm.
    pub plain_ns: u64,
    /// In compiled code.
    pub tier0_ns: u64,
    /// Through kiln, switched off.
    pub off_ns: u64,
    /// Rounds.
    pub rounds: usize,
}

const ENGINES: [&str; 3] = ["interpreter", "tier0", "switched off"];

impl Transactions {
    /// Runs the transactions of a fixture many times.
    ///
    /// # Errors
    /// There is no engine on this machine, or a result is not as expected.
    pub fn measure(subject: &Subject, budget: &Budget) -> Result<Self, BenchError> {
        let on = Engine::new(Config::default())?;
        let off = Engine::new(Config { enabled: false, ..Config::default() })?;
        let run = |engine: usize| match engine {
            0 => plain(&subject.prepared),
            1 => tiered(&subject.prepared, &on),
            _ => tiered(&subject.prepared, &off),
        };
        // Compiles, warms up, and makes sure that what is measured is right.
        for (index, name) in ENGINES.into_iter().enumerate() {
            verify(subject, name, &run(index))?;
        }
        let mut times: [Vec<u64>; 3] = Default::default();
        let start = Instant::now();
        for round in 0..budget.rounds_max {
            if round >= budget.rounds_min && start.elapsed() > budget.time {
                break;
            }
            // Each engine comes first, second and last equally often.
            for turn in 0..ENGINES.len() {
                let engine = (round + turn) % ENGINES.len();
                times[engine].push(run(engine).0.elapsed.as_nanos() as u64);
            }
        }
        let rounds = times[0].len();
        let [plain_ns, tier0_ns, off_ns] = times.map(median);
        Ok(Self { plain_ns, tier0_ns, off_ns, rounds })
    }

    /// The sum of two.
    pub const fn plus(self, other: Self) -> Self {
        Self {
            plain_ns: self.plain_ns + other.plain_ns,
            tier0_ns: self.tier0_ns + other.tier0_ns,
            off_ns: self.off_ns + other.off_ns,
            rounds: self.rounds + other.rounds,
        }
    }

    /// How many times faster compiled code is than plain revm.
    pub fn ratio(&self) -> f64 {
        self.plain_ns as f64 / self.tier0_ns.max(1) as f64
    }

    /// What kiln, switched off, costs over plain revm, as a share of that.
    pub fn off_cost(&self) -> f64 {
        self.off_ns as f64 / self.plain_ns.max(1) as f64 - 1.0
    }
}

type Round = (Executed, FixtureDb);

fn plain(prepared: &Prepared) -> Round {
    let mut evm = plain_evm(prepared);
    let executed = execute(&mut evm, &prepared.txs);
    (executed, evm.ctx.journaled_state.database)
}

fn tiered(prepared: &Prepared, engine: &Engine) -> Round {
    let mut evm = Tiered::mainnet(plain_evm(prepared), engine.clone());
    let executed = execute(&mut evm, &prepared.txs);
    (executed, evm.into_inner().ctx.journaled_state.database)
}

fn verify(
    subject: &Subject,
    engine: &'static str,
    (executed, db): &Round,
) -> Result<(), BenchError> {
    let path = &subject.loaded.path;
    let mismatches = check(&subject.loaded.fixture, executed, db, subject.prepared.spec())
        .map_err(|kind| kind.at(path))?;
    match mismatches.into_iter().next() {
        None => Ok(()),
        Some(mismatch) => Err(BenchError::Mismatch { path: path.clone(), engine, mismatch }),
    }
}
