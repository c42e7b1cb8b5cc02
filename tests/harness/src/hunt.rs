//! The hunt: program sets with many inputs, on all engines.
//!
//! Owns how a set is run: the oracle over all inputs first, then one engine after the other, each with an
//! EVM that stays and with code that stays compiled. What a set gets of the compilers that take long:
//!
//! - Every set has all engines ([`Kind::COMPARED`]), with [`CRANELIFT_REGIONS`] and [`LLVM_REGIONS`] optimised
//!   regions for each contract at most.
//! - Every [`WHOLE_EVERY`]th set has them with as many regions as the defaults give.
//!
//! Callers take seeds in any order: all engines are cleared before a set, so what a set comes to does not
//! depend on those before. Never stops at a difference: it is minimised and handed back.

mod found;

pub use found::{Found, Needs};

use crate::case::Case;
use crate::compare::{Difference, differences};
use crate::db::CaseDb;
use crate::engine::{Engines, Kind, Outcome};
use crate::generate::{GROUP, ProgramSet};
use crate::inspected;
use crate::minimise::minimise;
use crate::sweep;
use crate::warm::WarmEvm;
use kiln_runtime::{Config, EngineError, Stats};
use revm::primitives::hardfork::SpecId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Inputs of a set, if nothing else is said.
pub const INPUTS: usize = 32;
/// Gas limits of a sweep, if nothing else is said.
pub const LIMITS: usize = 64;
/// One set in so many has all engines as they are by default.
pub const WHOLE_EVERY: u64 = 64;
/// Of one set in so many the leaders are run with an inspector, too.
pub const INSPECTED_EVERY: u64 = 8;
/// Optimised regions of a contract by Cranelift, in the other sets.
pub const CRANELIFT_REGIONS: usize = 3;
/// And by LLVM.
pub const LLVM_REGIONS: usize = 1;

/// What was run.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Program sets, or in a sweep cases.
    pub sets: u64,
    /// Inputs, or in a sweep gas limits.
    pub cases: u64,
    /// Runs of each engine, and the time they took with what was compiled for them.
    pub runs: BTreeMap<Kind, (u64, Duration)>,
    /// Cases that were run with an inspector besides.
    pub inspected: u64,
    /// What the cases came to on the oracle, by the first word of the result.
    pub results: BTreeMap<String, u64>,
}

impl Tally {
    /// Adds what another thread ran.
    pub fn add(&mut self, other: &Self) {
        self.sets += other.sets;
        self.cases += other.cases;
        self.inspected += other.inspected;
        for (kind, (runs, time)) in &other.runs {
            self.ran(*kind, *runs, *time);
        }
        for (name, count) in &other.results {
            *self.results.entry(name.clone()).or_default() += count;
        }
    }

    /// Counts runs of an engine.
    pub(crate) fn ran(&mut self, kind: Kind, runs: u64, time: Duration) {
        let entry = self.runs.entry(kind).or_default();
        *entry = (entry.0 + runs, entry.1 + time);
    }

    /// Counts what a case came to.
    pub(crate) fn result(&mut self, outcome: &Outcome) {
        let name = outcome.transactions.last().map_or_else(String::new, |last| last.name());
        let word = name.split([' ', '{']).next().unwrap_or_default();
        match self.results.get_mut(word) {
            Some(count) => *count += 1,
            None => _ = self.results.insert(word.to_owned(), 1),
        }
    }
}

/// The engines and EVMs of one thread.
#[derive(Debug)]
pub struct Hunter {
    oracle: WarmEvm,
    /// With few regions, and as they are by default.
    quick: Vec<(Kind, WarmEvm)>,
    whole: Vec<(Kind, WarmEvm)>,
    /// What was run so far.
    pub tally: Tally,
}

fn warm(engines: Engines) -> Vec<(Kind, WarmEvm)> {
    engines.iter().map(|(kind, engine)| (kind, WarmEvm::of(engine.clone()))).collect()
}

impl Hunter {
    /// Starts all engines.
    ///
    /// # Errors
    /// If an engine that is supported does not start.
    pub fn new() -> Result<Self, EngineError> {
        let quick = Engines::tuned(|kind, config| {
            let max = if kind.is_slow() { LLVM_REGIONS } else { CRANELIFT_REGIONS };
            Config { regions_max: config.regions_max.min(max), ..config }
        })?;
        let (quick, whole) = (warm(quick), warm(Engines::new()?));
        Ok(Self { oracle: WarmEvm::oracle(), quick, whole, tally: Tally::default() })
    }

    /// The counters of every engine: those with few regions, then the others.
    pub fn stats(&self) -> impl Iterator<Item = (Kind, Stats)> {
        let evms = self.quick.iter().chain(&self.whole);
        evms.filter_map(|(kind, evm)| Some((*kind, evm.engine()?.stats())))
    }

    /// Forgets all programs and EVMs. Answers the bytes of code memory that are in use then.
    pub fn clear(&mut self) -> usize {
        let evms = self.quick.iter_mut().chain(&mut self.whole);
        evms.map(|(_, evm)| {
            evm.clear();
            evm.engine().map_or(0, |engine| engine.code_bytes_used())
        })
        .sum()
    }

    /// The engines that run the set with this seed.
    fn engines_of(&mut self, seed: u64) -> &mut [(Kind, WarmEvm)] {
        match seed.is_multiple_of(WHOLE_EVERY) {
            true => &mut self.whole,
            false => &mut self.quick,
        }
    }

    /// Runs a set with so many inputs; what differs, at most once for each engine.
    pub fn set(&mut self, seed: u64, inputs: usize) -> Vec<Found> {
        let set = ProgramSet::seeded(seed);
        let start = Instant::now();
        let runs = self.expected(&set, inputs);
        let mut found = self.compare(seed, &runs, GROUP, start.elapsed());
        if seed.is_multiple_of(INSPECTED_EVERY) {
            found.extend(self.inspect(seed, &runs));
        }
        found
    }

    /// Runs the leaders of a set with an inspector; see [`inspected`].
    fn inspect(&mut self, seed: u64, runs: &[Run]) -> Option<Found> {
        let native = self.quick.iter().find(|(kind, _)| *kind == Kind::Tier0All);
        let engine = native.or(self.quick.first()).and_then(|(_, evm)| evm.engine())?;
        let start = Instant::now();
        let differs = |run: &Run| inspected::differences(&run.case, &run.db, engine);
        let leaders = runs.iter().enumerate().step_by(GROUP);
        let found = leaders.clone().find_map(|(input, run)| {
            let details = differs(run);
            (!details.is_empty()).then_some((input, details))
        });
        self.tally.inspected += leaders.len() as u64;
        self.tally.ran(Kind::Interpreter, 0, start.elapsed());
        let (input, details) = found?;
        let fails =
            |case: &Case| !inspected::differences(case, &CaseDb::new(case), engine).is_empty();
        let case = minimise(runs[input].case.clone(), fails);
        let difference = Difference { kind: Kind::Interpreter, details };
        Some(Found { seed, input, difference, case, needs: Needs::Nothing })
    }

    /// Runs all engines that a seed has; what differs, at most once for each. The first `recorded` runs are
    /// for recording, too; `oracle` is the time that the oracle took.
    fn compare(
        &mut self,
        seed: u64,
        runs: &[Run],
        recorded: usize,
        oracle: Duration,
    ) -> Vec<Found> {
        let count = runs.len() as u64;
        self.tally.sets += 1;
        self.tally.cases += count;
        self.tally.ran(Kind::Interpreter, count, oracle);
        runs.iter().for_each(|run| self.tally.result(&run.expected));
        let (mut differing, mut ran) = (Vec::new(), Vec::new());
        for (kind, evm) in self.engines_of(seed) {
            let start = Instant::now();
            evm.clear();
            if let Some((input, details)) = first_difference(*kind, evm, runs, recorded) {
                differing.push((input, Difference { kind: *kind, details }));
            }
            ran.push((*kind, start.elapsed()));
        }
        ran.into_iter().for_each(|(kind, time)| self.tally.ran(kind, count, time));
        let found = differing.into_iter();
        found.map(|(input, of)| self.found(seed, input, (runs, recorded), of)).collect()
    }

    /// Runs the first input of a set at so many gas limits; what differs, at most once for each engine.
    pub fn sweep(&mut self, seed: u64, limits_max: usize) -> Vec<Found> {
        let set = ProgramSet::seeded(seed);
        let mut case = set.input(0);
        if case.spec.is_enabled_in(SpecId::PRAGUE) {
            // Each byte raises the floor (EIP-7623), below which there is nothing to see.
            case.calldata.truncate(36);
        }
        self.sweep_case(seed, &case, limits_max)
    }

    /// Runs a case at so many gas limits, on the engines of a seed.
    pub fn sweep_case(&mut self, seed: u64, case: &Case, limits_max: usize) -> Vec<Found> {
        let limits = sweep::limits(case, &CaseDb::new(case), limits_max);
        self.at_limits(seed, case, limits)
    }

    /// Runs a case at these gas limits, on the engines of a seed.
    pub fn at_limits(&mut self, seed: u64, case: &Case, mut limits: Vec<u64>) -> Vec<Found> {
        let start = Instant::now();
        let db = CaseDb::new(case);
        // The last one first: it is what is recorded, promoted and compiled for.
        let last = limits.pop();
        limits.splice(0..0, last);
        let mut runs = Vec::with_capacity(limits.len());
        for gas in limits {
            let case = Case { gas, repeat: 1, ..case.clone() };
            let expected = self.oracle.run(&case, &db);
            runs.push(Run { case, db: db.clone(), expected });
        }
        self.compare(seed, &runs, 1, start.elapsed())
    }

    /// All inputs, with what they come to.
    fn expected(&mut self, set: &ProgramSet, inputs: usize) -> Vec<Run> {
        let mut runs = Vec::with_capacity(inputs);
        for group in 0..inputs.div_ceil(GROUP) {
            let leader = runs.len();
            runs.push(self.run(set, set.leader(group)));
            for nth in 1..GROUP.min(inputs - group * GROUP) {
                let Run { case, expected, .. } = &runs[leader];
                let follower = set.follower(group, nth, case, expected);
                runs.push(self.run(set, follower));
            }
        }
        runs
    }

    fn run(&mut self, set: &ProgramSet, case: Case) -> Run {
        let db = set.db(&case);
        let expected = self.oracle.run(&case, &db);
        Run { case, db, expected }
    }

    /// Makes a difference small, on an engine of its own with the same options.
    fn found(
        &self,
        seed: u64,
        input: usize,
        (runs, recorded): (&[Run], usize),
        difference: Difference,
    ) -> Found {
        let evms = if seed.is_multiple_of(WHOLE_EVERY) { &self.whole } else { &self.quick };
        let evm = evms.iter().find(|(kind, _)| *kind == difference.kind);
        let config = evm.and_then(|(_, evm)| evm.engine()).map(|engine| engine.config().clone());
        let case = runs[input].case.clone();
        let found = Found { seed, input, difference, case, needs: Needs::Unknown };
        match config {
            Some(config) => found.shrink(config, runs, recorded),
            None => found,
        }
    }
}

/// One input and what it comes to.
#[derive(Debug)]
struct Run {
    case: Case,
    db: CaseDb,
    expected: Outcome,
}

/// Runs a few inputs to be recorded, where that is what the engine is for; few, so that some blocks that will
/// run were not seen.
fn record(kind: Kind, evm: &mut WarmEvm, runs: &[Run]) {
    let Some(engine) = evm.engine().filter(|_| kind.is_recorded()).cloned() else { return };
    engine.set_recording(true);
    runs.iter().for_each(|run| _ = evm.run(&run.case, &run.db));
    engine.set_recording(false);
    engine.compile_recorded();
}

/// The first run that comes to something else than the oracle's.
fn first_difference(
    kind: Kind,
    evm: &mut WarmEvm,
    runs: &[Run],
    recorded: usize,
) -> Option<(usize, Vec<String>)> {
    record(kind, evm, &runs[..recorded.min(runs.len())]);
    runs.iter().enumerate().find_map(|(nth, run)| {
        let details = differences(&run.expected, &evm.run(&run.case, &run.db));
        (!details.is_empty()).then_some((nth, details))
    })
}
