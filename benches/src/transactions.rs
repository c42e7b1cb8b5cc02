//! What a transaction costs on plain revm, in compiled code, and through kiln switched off: on a
//! fresh state each time, the engines in turns.

use crate::{BenchError, Ready, Subject, Tier, median};
use kiln::{
    Config, Engine, Tiered,
    fixture::{
        Executed, FixtureContext, FixtureDb, FixtureDbError, FixtureEvm, FixtureTx, Prepared,
        check, execute, plain_evm,
    },
};
use revm::{
    ExecuteCommitEvm, ExecuteEvm,
    context::{ContextTr, TxEnv},
    context_interface::result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction},
    handler::EvmTr,
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
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// On plain revm.
    pub plain_ns: u64,
    /// Through kiln, switched off.
    pub off_ns: u64,
    /// What kiln, switched off, costs over plain revm, as a share of that.
    pub off_cost: f64,
    /// In compiled code, by tier, in the order they were asked for.
    pub tiers: Vec<TierTime>,
}

/// Times in code of one tier.
#[derive(Clone, Copy, Debug)]
pub struct TierTime {
    /// Which.
    pub tier: Tier,
    /// The median.
    pub ns: u64,
    /// How many times faster it is than plain revm.
    pub ratio: f64,
}

impl Times {
    /// The time in code of a tier, if that was measured.
    pub fn of(&self, tier: Tier) -> Option<TierTime> {
        self.tiers.iter().copied().find(|time| time.tier == tier)
    }

    /// The sum of two with the same tiers, and how the sums compare.
    pub fn plus(&self, other: &Self) -> Self {
        let plain_ns = self.plain_ns + other.plain_ns;
        let off_ns = self.off_ns + other.off_ns;
        let sum = |(a, b): (&TierTime, &TierTime)| {
            let ns = a.ns + b.ns;
            TierTime { tier: a.tier, ns, ratio: quotient(plain_ns, ns) }
        };
        let tiers = self.tiers.iter().zip(&other.tiers).map(sum).collect();
        Self { plain_ns, off_ns, off_cost: quotient(off_ns, plain_ns) - 1.0, tiers }
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
#[derive(Clone, Debug, Default)]
pub struct Transactions {
    /// In an EVM that ran other transactions before, as most transactions of a block do.
    pub kept: Times,
    /// The same without committing to the database, which is no EVM's work: `transact` alone.
    pub alone: Times,
    /// Each time in an EVM that was just built.
    pub built: Times,
    /// Rounds.
    pub rounds: usize,
}

impl Transactions {
    /// Runs the transactions of a fixture many times, in these engines too.
    ///
    /// # Errors
    /// There is no engine on this machine, or a result is not as expected.
    pub fn measure(
        subject: &Subject,
        ready: &[Ready],
        budget: &Budget,
    ) -> Result<Self, BenchError> {
        let off = Engine::new(Config { enabled: false, ..Config::eager() })?;
        let mut kept = Vec::with_capacity(ready.len() + 2);
        kept.push(Runner::Plain(Box::new(plain_evm(&subject.prepared))));
        let engines = ready.iter().map(|ready| &ready.engine);
        kept.extend([&off].into_iter().chain(engines).map(|engine| tiered(subject, engine)));
        let names = ["interpreter", "switched off"].into_iter();
        let names = names.chain(ready.iter().map(|ready| ready.tier.name()));
        // Warms up, and makes sure that what is measured is right.
        for (runner, name) in kept.iter_mut().zip(names) {
            verify(subject, name, &runner.run(&subject.prepared))?;
        }
        let [mut times_kept, mut times_alone, mut times_built] =
            std::array::from_fn(|_| Samples::new(kept.len()));
        let start = Instant::now();
        let mut rounds = 0;
        while rounds < budget.rounds_max
            && (rounds < budget.rounds_min || start.elapsed() < budget.time)
        {
            // Each engine comes first, second and last equally often.
            for turn in 0..kept.len() {
                let engine = (rounds + turn) % kept.len();
                times_kept.add(engine, &kept[engine].run(&subject.prepared).0);
                times_alone.add(engine, &kept[engine].run_alone(&subject.prepared));
                times_built.add(engine, &kept[engine].rebuilt(subject).run(&subject.prepared).0);
            }
            rounds += 1;
        }
        let tiers: Vec<Tier> = ready.iter().map(|ready| ready.tier).collect();
        Ok(Self {
            kept: times_kept.medians(&tiers),
            alone: times_alone.medians(&tiers),
            built: times_built.medians(&tiers),
            rounds,
        })
    }

    /// The sum of two with the same tiers.
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            kept: self.kept.plus(&other.kept),
            alone: self.alone.plus(&other.alone),
            built: self.built.plus(&other.built),
            rounds: self.rounds + other.rounds,
        }
    }
}

/// By engine: plain, switched off, the tiers.
struct Samples(Vec<Vec<u64>>);

impl Samples {
    fn new(engines: usize) -> Self {
        Self(vec![Vec::new(); engines])
    }

    fn add(&mut self, engine: usize, executed: &Executed) {
        self.0[engine].push(executed.elapsed.as_nanos() as u64);
    }

    fn medians(self, tiers: &[Tier]) -> Times {
        let [plain, off, compiled @ ..] = &self.0[..] else { return Times::default() };
        let tiers = tiers.iter().zip(compiled).map(|(&tier, times)| TierTime {
            tier,
            ns: median(times.clone()),
            ratio: median_quotient(plain, times),
        });
        Times {
            plain_ns: median(plain.clone()),
            off_ns: median(off.clone()),
            off_cost: median_quotient(off, plain) - 1.0,
            tiers: tiers.collect(),
        }
    }
}

type Round = (Executed, FixtureDb);

/// An EVM.
enum Runner {
    Plain(Box<FixtureEvm>),
    Tiered(Box<Tiered<FixtureEvm>>),
}

fn tiered(subject: &Subject, engine: &Engine) -> Runner {
    Runner::Tiered(Box::new(Tiered::mainnet(plain_evm(&subject.prepared), engine.clone())))
}

impl Runner {
    /// A new EVM on the same engine.
    fn rebuilt(&self, subject: &Subject) -> Self {
        match self {
            Self::Plain(_) => Self::Plain(Box::new(plain_evm(&subject.prepared))),
            Self::Tiered(evm) => tiered(subject, evm.engine()),
        }
    }

    /// Runs all transactions on a fresh state.
    fn run(&mut self, prepared: &Prepared) -> Round {
        match self {
            Self::Plain(evm) => on_fresh_state(&mut **evm, prepared, execute),
            Self::Tiered(evm) => on_fresh_state(&mut **evm, prepared, execute),
        }
    }

    /// The same; commits are not timed.
    fn run_alone(&mut self, prepared: &Prepared) -> Executed {
        let (executed, _) = match self {
            Self::Plain(evm) => on_fresh_state(&mut **evm, prepared, transact),
            Self::Tiered(evm) => on_fresh_state(&mut **evm, prepared, transact),
        };
        executed
    }
}

fn on_fresh_state<E: EvmTr<Context = FixtureContext>>(
    evm: &mut E,
    prepared: &Prepared,
    run: fn(&mut E, &[FixtureTx]) -> Executed,
) -> Round {
    *evm.ctx_mut().db_mut() = prepared.db.clone();
    let executed = run(evm, &prepared.txs);
    (executed, mem::take(evm.ctx_mut().db_mut()))
}

/// As [`execute`], but times the transactions alone.
fn transact<E>(evm: &mut E, txs: &[FixtureTx]) -> Executed
where
    E: ExecuteCommitEvm
        + ExecuteEvm<
            ExecutionResult = ExecutionResult<HaltReason>,
            Error = EVMError<FixtureDbError, InvalidTransaction>,
            Tx = TxEnv,
        >,
{
    let (mut results, mut elapsed) = (Vec::with_capacity(txs.len()), Duration::ZERO);
    for tx in txs.iter().cloned() {
        let start = Instant::now();
        let outcome = evm.transact(tx);
        elapsed += start.elapsed();
        results.push(outcome.map(|outcome| {
            evm.commit(outcome.state);
            outcome.result
        }));
    }
    Executed { elapsed, results }
}

/// Compares what a fixture expects.
pub(crate) fn verify(
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
