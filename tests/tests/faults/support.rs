//! Codes that are compiled, engines whose compiler can be made to fail, and a gate to stop it at.

use kiln_runtime::{Backend, Compile, Config, Engine, Fault, Hooks, Phase, PhaseStart, Stats};
use kiln_tests::Case;
use kiln_tests::case::TARGET;
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{oracle, tiered};
use revm::primitives::{hardfork::SpecId, hex};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Between two looks at what is waited for.
const LOOK: Duration = Duration::from_micros(200);
/// Looks until something is wrong: a minute or more. What is waited for comes far sooner. Looks are
/// counted, not time: a machine that stood still was not looked at.
const LOOKS_MAX: u32 = 300_000;

/// A code that no other number has: twenty calls to nobody in a loop, and a number on the stack.
pub(crate) fn case(number: u32) -> Case {
    // n = 20; do { call(0, 0, 0, 0, 0, 0, 0) } while (--n != 0); pop; PUSH4 number
    let mut code = hex!("60145b5f5f5f5f5f5f5ff15060019003806002575063").to_vec();
    code.extend(number.to_be_bytes());
    Case::of_code(SpecId::CANCUN, code)
}

pub(crate) fn code(case: &Case) -> &[u8] {
    &case.contracts[&TARGET].code
}

/// Whole codes at their first frame, by one thread, at once.
pub(crate) fn config() -> Config {
    let backend = match is_native() {
        true => Backend::Native,
        false => Backend::Evaluator,
    };
    Config {
        backend,
        compile: Compile::All,
        warm_frames: 0,
        compile_threads: 1,
        cooldown_ms: 0,
        ..Config::default()
    }
}

pub(crate) fn is_native() -> bool {
    cfg!(all(target_arch = "x86_64", target_os = "linux"))
}

/// The phases that the compiler has here.
pub(crate) fn phases() -> &'static [Phase] {
    if is_native() { &Phase::BASELINE } else { &Phase::BASELINE[..2] }
}

/// An engine whose compiler is asked at the start of every phase what goes wrong.
pub(crate) fn engine(
    config: Config,
    intercept: impl Fn(&PhaseStart<'_>) -> Fault + Send + Sync + 'static,
) -> Engine {
    Engine::with_hooks(config, Hooks::default().intercept(intercept)).expect("the engine starts")
}

/// Runs a case and compares it with the oracle.
pub(crate) fn exact(engine: &Engine, case: &Case) {
    let db = CaseDb::new(case);
    let details = differences(&oracle(case, &db), &tiered(case, &db, engine));
    assert!(details.is_empty(), "{}", details.join("\n"));
}

/// Runs a case, each time exactly, until the engine's counters are as they should be.
pub(crate) fn exact_until(engine: &Engine, case: &Case, mut there: impl FnMut(&Stats) -> bool) {
    until(engine, |_| {
        exact(engine, case);
        there(&engine.stats())
    });
}

/// Waits until the engine's counters are as they should be, and runs nothing.
pub(crate) fn until(engine: &Engine, mut there: impl FnMut(&Stats) -> bool) {
    for _ in 0..LOOKS_MAX {
        if there(&engine.stats()) {
            return;
        }
        std::thread::sleep(LOOK);
    }
    panic!("it does not come: {:?}", engine.stats());
}

/// Whether a case is compiled and runs so: every entry into its code is native.
pub(crate) fn runs_compiled(engine: &Engine, case: &Case) -> bool {
    let before = engine.stats();
    exact(engine, case);
    let did = engine.stats() - before;
    did.hits > 0 && did.native_entries > 0
}

/// Where a compilation stops until it is let through. Cloned into interceptors.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    arrived: usize,
    open: bool,
}

impl Gate {
    /// Waits until the gate is open, whatever the compilation is told meanwhile.
    pub(crate) fn pass(&self) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        state.arrived += 1;
        changed.notify_all();
        while !state.open {
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until a compilation stands here, or stood.
    pub(crate) fn reached(&self) {
        let (state, changed) = &*self.0;
        for _ in 0..LOOKS_MAX {
            let state = state.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = changed.wait_timeout_while(state, LOOK, |state| state.arrived == 0);
            if waited.unwrap_or_else(PoisonError::into_inner).0.arrived > 0 {
                return;
            }
        }
        panic!("no compilation came");
    }

    /// Lets everybody through from now on.
    pub(crate) fn open(&self) {
        let (state, changed) = &*self.0;
        state.lock().unwrap_or_else(PoisonError::into_inner).open = true;
        changed.notify_all();
    }
}

/// Opens a gate however a test ends, so that no thread is left waiting there.
pub(crate) struct Opens<'a>(pub(crate) &'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Waits until code memory is as it was.
pub(crate) fn until_freed(engine: &Engine, before: usize) {
    until(engine, |_| engine.code_bytes_used() == before);
    assert_eq!(engine.code_bytes_used(), before);
}
