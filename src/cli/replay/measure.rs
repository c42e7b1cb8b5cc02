//! Running one fixture as often as asked, and what came of it.

use super::{
    super::{
        error::CliError,
        tier::{Choice, Runner, Tier, interpret},
    },
    report::Row,
};
use kiln::fixture::{
    Executed, FixtureDb, FixtureError, Loaded, Prepared, StepCount, check, count_steps,
};
use kiln_runtime::Stats;
use revm::primitives::B256;

/// What to run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What runs it.
    pub(super) choice: Choice,
    /// Whether the interpreter is measured in turns with it.
    pub(super) compare: bool,
    /// Measured rounds.
    pub(super) rounds: usize,
}

/// Runs a fixture as planned, with an engine of its own; also the engine's counters in words.
pub(super) fn measure(loaded: &Loaded, plan: &Plan) -> Result<(Row, String), CliError> {
    let prepared = Prepared::new(&loaded.fixture).map_err(|kind| kind.at(&loaded.path))?;
    // First, because it also does what is done once a process: the KZG precompile's set-up takes
    // seconds.
    let steps = count_steps(&prepared);
    let tier = plan.choice.tier;
    let runner = Runner::new(&plan.choice)?;
    let mut times = Times::new(loaded, &prepared, tier);

    for round in runner.warm_up(&prepared, tier) {
        times.check(tier, &round)?;
    }
    let before = runner.stats();
    for round in 0..plan.rounds {
        // Whoever goes second finds the caches warm; so they take turns.
        let first = round.is_multiple_of(2);
        if plan.compare && first {
            times.interpreter_round()?;
        }
        times.tier_round(&runner)?;
        if plan.compare && !first {
            times.interpreter_round()?;
        }
    }
    runner.flush();
    let stats = runner.stats();
    let share = native_share(&prepared, plan, &runner, &steps, &(stats - before));
    Ok((times.row(share, &stats), format!("{stats:#?}")))
}

/// Instructions of contracts in one round: how many ran in compiled code, of how many.
fn native_share(
    prepared: &Prepared,
    plan: &Plan,
    runner: &Runner,
    steps: &StepCount,
    delta: &Stats,
) -> (u64, u64) {
    if !runner.is_tiered() {
        return (0, steps.contract);
    }
    let interpreted =
        (delta.interpreted_instructions + delta.recorded_instructions) / plan.rounds as u64;
    // The engine does not count what the EVM's own loop runs: code that does not compile.
    let compiles = |hash: &B256| match prepared.db.code(hash) {
        Some(code) => runner.compiles(code, *hash, prepared.spec()),
        // Deployed by one of the transactions: compiled like any other.
        None => true,
    };
    let failed: u64 = match delta.interpreted_frames {
        0 => 0,
        _ => steps.by_code.iter().filter(|(hash, _)| !compiles(hash)).map(|(_, steps)| steps).sum(),
    };
    (steps.contract.saturating_sub(interpreted + failed), steps.contract)
}

/// The rounds of a fixture.
struct Times<'a> {
    loaded: &'a Loaded,
    prepared: &'a Prepared,
    tier: Tier,
    interpreter_ns: Vec<u64>,
    tier_ns: Vec<u64>,
    gas: u64,
    mismatches: Vec<String>,
}

impl<'a> Times<'a> {
    fn new(loaded: &'a Loaded, prepared: &'a Prepared, tier: Tier) -> Self {
        let (interpreter_ns, tier_ns) = (Vec::new(), Vec::new());
        Self { loaded, prepared, tier, interpreter_ns, tier_ns, gas: 0, mismatches: Vec::new() }
    }

    fn interpreter_round(&mut self) -> Result<(), FixtureError> {
        let round = interpret(self.prepared);
        self.interpreter_ns.push(nanoseconds(&round.0));
        self.check(Tier::Interpreter, &round)
    }

    fn tier_round(&mut self, runner: &Runner) -> Result<(), FixtureError> {
        let round = runner.run(self.prepared);
        self.tier_ns.push(nanoseconds(&round.0));
        self.check(self.tier, &round)
    }

    /// Compares a round with what is expected. Only the first bad round is kept: the others most
    /// likely say the same.
    fn check(&mut self, tier: Tier, round: &(Executed, FixtureDb)) -> Result<(), FixtureError> {
        let (executed, db) = round;
        let mismatches = check(&self.loaded.fixture, executed, db, self.prepared.spec())
            .map_err(|kind| kind.at(&self.loaded.path))?;
        if self.mismatches.is_empty() {
            self.mismatches =
                mismatches.into_iter().map(|text| format!("{tier}: {text}")).collect();
        }
        self.gas = executed.gas_used();
        Ok(())
    }

    fn row(self, (native, contract): (u64, u64), stats: &Stats) -> Row {
        let fixture = &self.loaded.fixture;
        let tier_ns = median(self.tier_ns);
        let interpreter_ns = match self.tier {
            Tier::Interpreter if self.interpreter_ns.is_empty() => tier_ns,
            _ => median(self.interpreter_ns),
        };
        Row {
            name: fixture.name.clone(),
            kind: fixture.kind.name().to_owned(),
            ok: self.mismatches.is_empty(),
            mismatches: self.mismatches,
            gas: self.gas,
            txs: fixture.txs.len(),
            interpreter_ns,
            tier_ns,
            ratio: if tier_ns == 0 { 0.0 } else { interpreter_ns as f64 / tier_ns as f64 },
            native_instruction_share: Row::share(native, contract),
            compile_cpu_ns: stats.compile_cpu_ns,
            programs: stats.programs,
            regions: stats.regions,
            loaded: stats.store_hits,
            code_bytes: stats.code_bytes + stats.store_loaded_bytes,
            native_instructions: native,
            contract_instructions: contract,
        }
    }
}

fn nanoseconds(executed: &Executed) -> u64 {
    executed.elapsed.as_nanos().try_into().unwrap_or(u64::MAX)
}

/// The median; 0 of nothing.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    match values.len() {
        0 => 0,
        len if len.is_multiple_of(2) => u64::midpoint(values[middle - 1], values[middle]),
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0);
        assert_eq!(median(vec![3]), 3);
        assert_eq!(median(vec![4, 1]), 2);
        assert_eq!(median(vec![9, 1, 5]), 5);
    }
}
