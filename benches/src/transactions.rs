//! What a transaction costs on plain revm, in compiled code, and through kiln switched off: on a
//! fresh state each time, the engines in turns.

use crate::{BenchError, Subject, median};
use kiln::{
    Config, Engine, Tiered,
    fixture::{Executed, FixtureDb, FixtureEvm, Prepared, check, execute, plain_evm},
};
use std::{
    mem,
    time::{Duration, Instant},
};

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

/// Times of all transactions of a fixture, medians; and how they compare. The comparisons are
/// medians too, of the quotients within a round: what slows the machine down for longer than a round
/// cancels out of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// On plain revm.
    pub plain_ns: u64,
    /// In compiled code.
    pub tier0_ns: u64,
    /// Through kiln, switched off.
    pub off_ns: u64,
    /// How many times faster compiled code is than plain revm.
    pub ratio: f64,
    /// What kiln, switched off, costs over plain revm, as a share of that.
    pub off_cost: f64,
}

impl Times {
    /// The sum of two, and how the sums compare.
    pub fn plus(self, other: Self) -> Self {
        let plain_ns = self.plain_ns + other.plain_ns;
        let tier0_ns = self.tier0_ns + other.tier0_ns;
        let off_ns = self.off_ns + other.off_ns;
        let (ratio, off_cost) = (quotient(plain_ns, tier0_ns), quotient(off_ns, plain_ns) - 1.0);
        Self { plain_ns, tier0_ns, off_ns, ratio, off_cost }
    }
}

fn quotient(a: u64, b: u64) -> f64 {
    a as f64 / b.max(1) as f64
}

/// The median quotient of two times of the same round; 0 of nothing.
fn median_quotient(a: &[u64], b: &[u64]) -> f64 {
    let mut quotients: Vec<f64> = a.iter().zip(b).map(|(&a, &b)| quotient(a, b)).collect();
    quotients.sort_unstable_by(f64::total_cmp);
    quotients.get(quotients.len() / 2).copied().unwrap_or_default()
}

/// The transactions of a fixture, measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Transactions {
    /// In an EVM that ran other transactions before, as most transactions of a block do.
    pub kept: Times,
    /// Each time in an EVM that was just built.
    pub built: Times,
    /// Rounds.
    pub rounds: usize,
}

impl Transactions {
    /// Runs the transactions of a fixture many times.
    ///
    /// # Errors
    /// There is no engine on this machine, or a result is not as expected.
    pub fn measure(subject: &Subject, budget: &Budget) -> Result<Self, BenchError> {
        let mut kept = Engines::new(&subject.prepared)?;
        // Compiles, warms up, and makes sure that what is measured is right.
        for (index, name) in Engines::NAMES.into_iter().enumerate() {
            verify(subject, name, &kept.run(index))?;
        }
        let (mut times_kept, mut times_built) = (Samples::default(), Samples::default());
        let start = Instant::now();
        let mut rounds = 0;
        while rounds < budget.rounds_max
            && (rounds < budget.rounds_min || start.elapsed() < budget.time)
        {
            // Each engine comes first, second and last equally often.
            for turn in 0..Engines::NAMES.len() {
                let engine = (rounds + turn) % Engines::NAMES.len();
                times_kept.add(engine, &kept.run(engine).0);
                times_built.add(engine, &kept.rebuilt().run(engine).0);
            }
            rounds += 1;
        }
        Ok(Self { kept: times_kept.medians(), built: times_built.medians(), rounds })
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        Self {
            kept: self.kept.plus(other.kept),
            built: self.built.plus(other.built),
            rounds: self.rounds + other.rounds,
        }
    }
}

#[derive(Default)]
struct Samples([Vec<u64>; 3]);

impl Samples {
    fn add(&mut self, engine: usize, executed: &Executed) {
        self.0[engine].push(executed.elapsed.as_nanos() as u64);
    }

    fn medians(self) -> Times {
        let [plain, tier0, off] = &self.0;
        let (ratio, off_cost) = (median_quotient(plain, tier0), median_quotient(off, plain) - 1.0);
        let [plain_ns, tier0_ns, off_ns] = self.0.map(median);
        Times { plain_ns, tier0_ns, off_ns, ratio, off_cost }
    }
}

type Round = (Executed, FixtureDb);

/// The three engines, each in an EVM of its own.
struct Engines<'a> {
    prepared: &'a Prepared,
    plain: FixtureEvm,
    tier0: Tiered<FixtureEvm>,
    off: Tiered<FixtureEvm>,
}

impl<'a> Engines<'a> {
    const NAMES: [&'static str; 3] = ["interpreter", "tier0", "switched off"];

    fn new(prepared: &'a Prepared) -> Result<Self, BenchError> {
        let tier0 = Engine::new(Config::eager())?;
        let off = Engine::new(Config { enabled: false, ..Config::eager() })?;
        Ok(Self::with(prepared, tier0, off))
    }

    fn with(prepared: &'a Prepared, tier0: Engine, off: Engine) -> Self {
        Self {
            prepared,
            plain: plain_evm(prepared),
            tier0: Tiered::mainnet(plain_evm(prepared), tier0),
            off: Tiered::mainnet(plain_evm(prepared), off),
        }
    }

    /// New EVMs on the same engines.
    fn rebuilt(&self) -> Self {
        let (tier0, off) = (self.tier0.engine().clone(), self.off.engine().clone());
        Self::with(self.prepared, tier0, off)
    }

    /// Runs all transactions on one engine, on a fresh state.
    fn run(&mut self, engine: usize) -> Round {
        let txs = &self.prepared.txs;
        let fresh = self.prepared.db.clone();
        let database = |evm: &mut FixtureEvm, db| mem::replace(database_of(evm), db);
        match engine {
            0 => {
                database(&mut self.plain, fresh);
                let executed = execute(&mut self.plain, txs);
                (executed, database(&mut self.plain, FixtureDb::default()))
            }
            engine => {
                let evm = if engine == 1 { &mut self.tier0 } else { &mut self.off };
                database(evm.inner_mut(), fresh);
                let executed = execute(evm, txs);
                (executed, database(evm.inner_mut(), FixtureDb::default()))
            }
        }
    }
}

fn database_of(evm: &mut FixtureEvm) -> &mut FixtureDb {
    &mut evm.ctx.journaled_state.database
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
