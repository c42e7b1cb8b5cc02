//! Four threads run two thousand programs on engines whose code memory holds a tenth of them, while a
//! fifth thread clears, pauses, asks for compilations and exchanges the engine. Nothing of it shows in
//! any result, no queue grows beyond its bound, all code memory comes back, and everybody gets on.
//!
//! `KILN_TEST_STRESS_SECONDS` says how long; without it, a few rounds of every kind.

mod commander;
mod configs;
mod programs;
mod watchdog;

use commander::Commander;
use configs::configs;
use kiln_runtime::{Engine, Tiered};
use kiln_tests::compare::differences;
use kiln_tests::engine::{context, transact};
use kiln_tests::handler::CaseContext;
use programs::{Program, Programs};
use revm::{MainBuilder, MainnetEvm};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, Instant};
use watchdog::{Doing, Watchdog};

/// Threads that run programs.
const WORKERS: usize = 4;
/// EVMs that a worker keeps for later, each of them with what it remembers of the engine.
const KEPT: usize = 6;
/// Runs of programs on each engine at least, all workers together.
const RUNS_MIN: u64 = 1500;
/// Seconds without `KILN_TEST_STRESS_SECONDS`.
const SECONDS: u64 = 4;

type Evm = Tiered<MainnetEvm<CaseContext>>;

/// What all threads share.
pub(crate) struct Arena {
    programs: Programs,
    /// Held shared while a program runs; who holds it alone knows that all EVMs are idle.
    engine: RwLock<Engine>,
    /// Counts the engines there were. Release, paired with acquire: who sees a number and then locks
    /// `engine` gets that engine or a later one.
    epoch: AtomicU64,
    /// Runs on the present engine. Relaxed: counts.
    runs: AtomicU64,
    done: AtomicBool,
}

#[test]
fn stress() {
    let seconds = seconds();
    let programs = Programs::new();
    let configs = configs(&programs);
    let first = Engine::new(configs[0].config.clone()).expect("the engine starts");
    let arena = Arena {
        programs,
        engine: RwLock::new(first),
        epoch: AtomicU64::new(0),
        runs: AtomicU64::new(0),
        done: AtomicBool::new(false),
    };
    let watchdog = Watchdog::new(WORKERS + 1);
    let results = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|number| {
                let (arena, doing) = (&arena, watchdog.thread(number));
                scope.spawn(move || guarded(arena, doing, || work(arena, number as u64, doing)))
            })
            .collect();
        scope.spawn(|| watchdog.watch());
        let until = Instant::now() + Duration::from_secs(seconds);
        let doing = watchdog.thread(WORKERS);
        let mut commander = Commander::new(&arena, &configs, doing);
        let commander = guarded(&arena, doing, || commander.command(until));
        // Relaxed: only ends loops.
        arena.done.store(true, Ordering::Relaxed);
        let workers = workers.into_iter().map(|worker| worker.join().map_err(drop));
        workers.chain([Ok(commander)]).collect::<Vec<_>>()
    });
    assert!(results.iter().all(|result| *result == Ok(true)), "a thread failed: {results:?}");
}

/// Seconds to go on for.
fn seconds() -> u64 {
    match std::env::var("KILN_TEST_STRESS_SECONDS") {
        Ok(text) => {
            text.parse().unwrap_or_else(|_| panic!("KILN_TEST_STRESS_SECONDS={text} is no number"))
        }
        Err(_) => SECONDS,
    }
}

/// Ends the test for everybody when one thread fails. Answers whether it did not.
fn guarded(arena: &Arena, doing: &Doing, act: impl FnOnce()) -> bool {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
    if result.is_err() {
        arena.done.store(true, Ordering::Relaxed);
    }
    doing.ends();
    result.is_ok()
}

/// Runs programs until the test is over.
fn work(arena: &Arena, number: u64, doing: &Doing) {
    let mut random = fastrand::Rng::with_seed(number);
    let mut kept: Vec<(usize, Evm)> = Vec::new();
    let mut epoch = 0;
    while !arena.done.load(Ordering::Relaxed) {
        doing.says("waits for the engine", 0);
        // A poisoned lock is somebody else's failure, which is reported there.
        let engine = arena.engine.read().unwrap_or_else(PoisonError::into_inner);
        let now = arena.epoch.load(Ordering::Acquire);
        if now != epoch {
            // The engine that these belong to is to be dropped.
            kept.clear();
            epoch = now;
        }
        let again = kept.len() == KEPT && random.bool();
        let (index, mut evm) = if again || kept.len() == KEPT {
            kept.swap_remove(random.usize(..KEPT))
        } else {
            let index = arena.programs.pick(&mut random);
            (index, evm_for(&arena.programs.all[index], &engine))
        };
        let rounds = if again { 1 + random.usize(..6) } else { 1 };
        for _ in 0..rounds {
            doing.says("runs a program", index as u64);
            run(&arena.programs.all[index], &mut evm);
            arena.runs.fetch_add(1, Ordering::Relaxed);
        }
        if kept.len() < KEPT {
            kept.push((index, evm));
        }
    }
}

fn evm_for(program: &Program, engine: &Engine) -> Evm {
    Tiered::mainnet(context(&program.case, &program.db).build_mainnet(), engine.clone())
}

/// Runs a program on a fresh state and compares it with what the oracle did.
fn run(program: &Program, evm: &mut Evm) {
    evm.inner_mut().ctx = context(&program.case, &program.db);
    let actual = transact(&program.case, evm);
    let expected = program.expected.lock().unwrap_or_else(PoisonError::into_inner);
    let details = differences(&expected, &actual);
    drop(expected);
    assert!(details.is_empty(), "{}\n\n{}", details.join("\n"), program.case);
}
