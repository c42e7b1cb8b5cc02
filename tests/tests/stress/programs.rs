//! The programs, and what the oracle makes of each.

use kiln_runtime::{Config, Engine};
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Outcome, oracle, tiered};
use kiln_tests::generate::seeded;
use kiln_tests::{Case, case::TARGET};
use revm::primitives::keccak256;
use std::collections::HashSet;
use std::sync::Mutex;

/// Programs whose target's code no other has.
const COUNT: usize = 2000;
/// Programs that are run often for a while, before others are.
const WINDOW: usize = 60;
/// The first seed.
const SEED: u64 = 20_000_000;
/// One in so many has a database that claims a code hash that is not true: the true one of another
/// program whose code is as long.
const FALSE_HASH_EVERY: usize = 20;

/// A case with its result.
pub(crate) struct Program {
    pub(crate) case: Case,
    pub(crate) db: CaseDb,
    /// Locked because revm's `CreateInputs`, of which it holds some, can not be shared.
    pub(crate) expected: Mutex<Outcome>,
}

/// All of them.
pub(crate) struct Programs {
    pub(crate) all: Vec<Program>,
}

impl Programs {
    pub(crate) fn new() -> Self {
        let mut codes = HashSet::new();
        let cases = (SEED..).map(seeded).filter(|case| {
            let code = &case.contracts[&TARGET].code;
            !code.is_empty() && codes.insert(code.clone())
        });
        let mut cases: Vec<Case> = cases.take(COUNT).collect();
        claim_others_hashes(&mut cases);
        let program = |case: Case| {
            let db = CaseDb::new(&case);
            let expected = Mutex::new(oracle(&case, &db));
            Program { case, db, expected }
        };
        Self { all: cases.into_iter().map(program).collect() }
    }

    /// One of them: mostly of a few that change slowly, sometimes any.
    pub(crate) fn pick(&self, random: &mut fastrand::Rng) -> usize {
        let any = random.usize(..self.all.len());
        if random.u8(..) < 64 {
            return any;
        }
        // The window moves by chance, in every thread for itself.
        let window = any / WINDOW * WINDOW;
        let around = if random.u8(..) < 8 { window } else { 0 };
        (around + random.usize(..WINDOW)) % self.all.len()
    }

    /// Bytes of machine code that all of them come to under these options, at the same time.
    pub(crate) fn code_bytes(&self, config: Config) -> usize {
        let config = Config { compile_threads: 0, code_bytes_max: 1 << 30, ..config };
        let engine = Engine::new(config).expect("the engine starts");
        let before = engine.code_bytes_used();
        for program in &self.all {
            tiered(&program.case, &program.db, &engine);
        }
        engine.code_bytes_used() - before
    }
}

fn claim_others_hashes(cases: &mut [Case]) {
    let target = |case: &Case| case.contracts[&TARGET].code.clone();
    let mut claimed = 0;
    for index in (0..cases.len()).step_by(FALSE_HASH_EVERY) {
        let code = target(&cases[index]);
        let alike =
            |other: &&Case| other.spec == cases[index].spec && target(other).len() == code.len();
        let mut others = cases.iter().filter(alike).map(target).filter(|other| *other != code);
        if let Some(other) = others.next() {
            cases[index].target_mut().hash = Some(keccak256(other));
            claimed += 1;
        }
    }
    assert!(claimed > 0, "no two codes are as long as each other");
}
