//! The engine as a whole: threads, commands and evictions, with real programs.

use super::*;
use crate::{
    backend::Refusal,
    config::{Backend as Runs, Compile},
    hooks::Fault,
};
use kiln_ir::{OpcodeSet, SpecId};
use revm::primitives::Bytes;
use std::{
    sync::{Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

const LONG: Duration = Duration::from_secs(60);

fn config() -> Config {
    Config {
        backend: Runs::Evaluator,
        compile: Compile::All,
        warm_frames: 0,
        cooldown_ms: 0,
        shutdown_ms: 60_000,
        ..Config::default()
    }
}

fn baked() -> kiln_ir::Config {
    kiln_ir::Config { spec: SpecId::CANCUN, gas: [1; 256], replaced: OpcodeSet::EMPTY }
}

/// Code that differs by number, and its hash.
fn code(number: u16) -> (Bytecode, B256) {
    let [high, low] = number.to_be_bytes();
    // PUSH2 number; POP; JUMPDEST; STOP
    let code = Bytes::copy_from_slice(&[0x61, high, low, 0x50, 0x5b, 0x00]);
    let code = Bytecode::new_legacy(code);
    let hash = code.hash_slow();
    (code, hash)
}

fn slot(engine: &Engine, number: u16) -> Arc<Slot> {
    let (code, hash) = code(number);
    engine.slot(&code, hash, engine.intern(&baked()))
}

#[track_caller]
fn until(engine: &Engine, is_so: impl Fn(&Stats) -> bool) {
    let start = Instant::now();
    while !is_so(&engine.stats()) {
        assert!(start.elapsed() < LONG, "{:?}", engine.stats());
        thread::yield_now();
    }
}

/// Whether everything of an engine is gone.
fn gone(shared: &Weak<Shared>) -> bool {
    shared.upgrade().is_none()
}

#[test]
fn a_frame_has_its_code_compiled_in_the_background() {
    let engine = Engine::new(config()).unwrap();
    let slot = slot(&engine, 1);
    engine.frame(&slot);
    until(&engine, |stats| stats.jobs_compiled == 1);
    assert!(slot.program().is_some());
    let stats = engine.stats();
    assert_eq!((stats.programs, stats.events_accepted, stats.jobs_queued), (1, 1, 1));
    let shared = Arc::downgrade(&engine.shared);
    drop(engine);
    assert!(gone(&shared), "its threads are joined");
}

#[test]
fn commands_answer() {
    let engine = Engine::new(config()).unwrap();
    let (one, two) = (code(1), code(2));
    let program = engine.compile_within(&one.0, one.1, &baked(), LONG).unwrap();
    assert_eq!(program.bytecode(), &one.0);
    engine.compile_soon(&two.0, two.1, &baked()).unwrap();
    until(&engine, |stats| stats.jobs_compiled == 2);
    let codes: Vec<_> = (0..20).map(code).collect();
    let prepared = engine.prepare(&codes, &baked(), Some(LONG));
    assert_eq!((prepared.compiled, prepared.pending, prepared.failed), (20, 0, 0));
    assert_eq!(engine.stats().programs, 20);
    let nothing = Bytecode::new_legacy(Bytes::new());
    let refused = engine.compile_soon(&nothing, B256::ZERO, &baked());
    assert_eq!(refused, Err(Refusal::NotCode));
}

#[test]
fn a_pause_refuses_and_resuming_allows() {
    let engine = Engine::new(config()).unwrap();
    let (bytecode, hash) = code(1);
    let pause = engine.pause();
    assert!(engine.is_paused());
    let error = engine.compile(&bytecode, hash, &baked()).unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::Paused)), "{error}");
    assert_eq!(engine.compile_soon(&bytecode, hash, &baked()), Err(Refusal::Paused));
    drop(pause);
    assert!(engine.compile(&bytecode, hash, &baked()).is_ok());
}

#[test]
fn shutdown_is_for_good_and_programs_stay() {
    let engine = Engine::new(config()).unwrap();
    let (one, two) = (code(1), code(2));
    engine.compile_within(&one.0, one.1, &baked(), LONG).unwrap();
    let stopped = engine.shutdown(LONG);
    // The back end's thread, the one that compiles, and the one for promotions.
    assert_eq!((stopped.joined, stopped.detached), (3, 0));
    assert!(engine.compile(&one.0, one.1, &baked()).is_ok(), "it is there");
    let error = engine.compile(&two.0, two.1, &baked()).unwrap_err();
    assert!(matches!(error, CompileError::Refused(Refusal::ShutDown)), "{error}");
}

#[test]
fn switched_off_it_holds_no_thread() {
    for config in [Config { enabled: false, ..config() }, Config { compile_threads: 0, ..config() }]
    {
        let engine = Engine::new(config.clone()).unwrap();
        engine.frame(&slot(&engine, 1));
        assert_eq!(engine.stats().programs, config.enabled as u64);
        let stopped = engine.shutdown(LONG);
        assert_eq!((stopped.joined, stopped.detached), (0, 0));
    }
}

#[test]
fn failures_keep_their_reason() {
    let hooks = Hooks::default().intercept(|_| Fault::Error("not today".into()));
    let engine = Engine::with_hooks(Config { attempts_max: 2, ..config() }, hooks).unwrap();
    let (bytecode, hash) = code(1);
    for _ in 0..2 {
        let error = engine.compile(&bytecode, hash, &baked()).unwrap_err();
        assert!(matches!(error, CompileError::Injected(_)), "{error}");
    }
    let error = engine.compile(&bytecode, hash, &baked()).unwrap_err();
    assert_eq!(error.to_string(), "in quarantine: not today");
    let refused = engine.compile_soon(&bytecode, hash, &baked());
    assert_eq!(refused, Err(Refusal::Quarantined("not today".into())));
    assert_eq!((engine.stats().quarantined, engine.stats().compile_errors), (1, 2));
    // A clear forgives.
    engine.clear();
    let error = engine.compile(&bytecode, hash, &baked()).unwrap_err();
    assert!(matches!(error, CompileError::Injected(_)), "{error}");
}

#[test]
fn the_last_engine_may_be_dropped_on_its_own_thread() {
    let (tell, told) = mpsc::channel();
    let held: Arc<std::sync::Mutex<Option<Engine>>> = Arc::default();
    let inside = held.clone();
    let hooks = Hooks::on_compilation(move |_| {
        drop(inside.lock().unwrap().take());
        let _ = tell.send(());
    });
    let engine = Engine::with_hooks(config(), hooks).unwrap();
    let shared = Arc::downgrade(&engine.shared);
    {
        let mut held = held.lock().unwrap();
        engine.frame(&slot(&engine, 1));
        *held = Some(engine);
    }
    told.recv_timeout(LONG).unwrap();
    drop(held);
    let start = Instant::now();
    while !gone(&shared) {
        assert!(start.elapsed() < LONG, "a thread holds it");
        thread::yield_now();
    }
}

#[test]
fn codes_without_a_program_are_forgotten() {
    let engine = Engine::new(Config { slots_max: 16, compile_threads: 0, ..config() }).unwrap();
    let kept = slot(&engine, 0);
    for number in 1..40 {
        drop(slot(&engine, number));
    }
    let (bytecode, hash) = code(40);
    engine.compile(&bytecode, hash, &baked()).unwrap();
    engine.sweep();
    let mut left = 0;
    engine.shared.each_slot(|_| left += 1);
    assert_eq!(engine.stats().slots_forgotten + left, 41);
    // The one that is held and the one with a program may come on top.
    assert!((14..=16).contains(&left), "{left}");
    assert!(Arc::ptr_eq(&slot(&engine, 0), &kept), "what somebody holds stays the one it is");
    assert!(slot(&engine, 40).program().is_some());
}

#[test]
fn idle_programs_are_evicted() {
    let engine = Engine::new(Config { idle_ms_max: 100, ..config() }).unwrap();
    let (idle, used) = (slot(&engine, 1), slot(&engine, 2));
    for slot in [&idle, &used] {
        engine.compile_slot(slot).unwrap();
        slot.age(1_000);
    }
    let _ = used.touch(1);
    engine.sweep();
    assert!(idle.program().is_none() && used.program().is_some());
    assert_eq!((engine.stats().evicted_idle, engine.stats().evicted_budget), (1, 0));
    // And come back.
    engine.frame(&idle);
    until(&engine, |stats| stats.jobs_compiled == 3);
}

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod native {
    use super::*;

    /// Room for the way in and about four programs.
    fn tight() -> Engine {
        let config = Config { backend: Runs::Native, compile_threads: 0, ..config() };
        let engine = Engine::new(config.clone()).unwrap();
        let before = engine.code_bytes_used();
        engine.compile_slot(&slot(&engine, 0)).unwrap();
        let each = engine.code_bytes_used() - before;
        Engine::new(Config { code_bytes_max: before + 4 * each, ..config }).unwrap()
    }

    fn uses(slot: &Slot, count: u32) {
        (0..count).for_each(|_| _ = slot.touch(0));
    }

    #[test]
    fn what_is_used_more_takes_the_place_of_what_is_used_less() {
        let engine = tight();
        let slots: Vec<_> = (0..6).map(|number| slot(&engine, number)).collect();
        for (slot, count) in slots[..4].iter().zip([5, 1, 5, 5]) {
            engine.compile_slot(slot).unwrap();
            uses(slot, count);
        }
        // As good as nobody wants it.
        uses(&slots[4], 0);
        slots[4].count_frame();
        let error = engine.compile_slot(&slots[4]).unwrap_err();
        assert!(matches!(error, CompileError::Memory(MemoryError::Full { .. })), "{error}");
        assert!(slots[..4].iter().all(|slot| slot.program().is_some()));
        assert_eq!(engine.stats().programs_refused, 1);
        // More than one of those that are there.
        uses(&slots[5], 3);
        engine.compile_slot(&slots[5]).unwrap();
        let there: Vec<_> = slots.iter().map(|slot| slot.program().is_some()).collect();
        assert_eq!(there, [true, false, true, true, false, true]);
        assert_eq!(engine.stats().evicted_budget, 1);
        assert!(engine.code_bytes_used() <= engine.config().code_bytes_max);
        engine.clear();
        assert_eq!(engine.code_bytes_used(), engine.shared.trampoline_bytes());
    }

    #[test]
    fn code_under_a_frame_makes_no_room() {
        let engine = tight();
        let slots: Vec<_> = (0..5).map(|number| slot(&engine, number)).collect();
        for slot in &slots[..4] {
            engine.compile_slot(slot).unwrap();
        }
        let running = slots[0].program();
        slots[..4].iter().skip(1).for_each(|slot| uses(slot, 9));
        uses(&slots[4], 5);
        assert!(engine.compile_slot(&slots[4]).is_err(), "its place is not free yet");
        assert!(slots[0].program().is_none());
        drop(running);
        assert!(engine.compile_slot(&slots[4]).is_ok());
    }
}
