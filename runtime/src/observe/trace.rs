//! `tracing` events and spans: one function for every decision.
//!
//! **Owns** their names, levels and fields: target `kiln`, all stable. **Callers guarantee** nothing.
//! **Never** on the path of a frame that finds its program. Fields are evaluated only if somebody
//! listens.
//!
//! Levels: *error* for what a check found, *warn* for what is a defect or needs a look, *info* for what was commanded, *debug* for
//! what is done to programs, *trace* for what frames do.
//!
//! Fields: `code` is the code's hash (of its bytes), `code_len` its length in bytes, `fork`, `tier`,
//! `thread` (`calling` or `background`), `cause` and `reason` as text. Times end in `_ns`, sizes in
//! `_bytes`.

use super::Subject;
use crate::{
    checks::Report, compile::CompileError, hooks::Tier, hooks::fork_name, program::Program,
};
use revm::bytecode::Bytecode;
use std::{fmt, io, path::Path};
use tracing::{Span, debug, debug_span, error, info, trace, warn};

const TARGET: &str = "kiln";

/// A frame's code has no slot yet; it gets one.
pub(crate) fn lookup_miss(code: &Bytecode) {
    trace!(target: TARGET, code = %code.hash_slow(), code_len = code.len(), "lookup miss");
}

/// A database gave this code another code's hash.
pub(crate) fn false_hash(code: &Bytecode) {
    debug!(target: TARGET, code = %code.hash_slow(), code_len = code.len(), "false code hash");
}

/// It is decided about a code, of which a block that is not compiled was run.
pub(crate) fn missed(code: &Bytecode, pc: usize) {
    trace!(target: TARGET, code = %code.hash_slow(), pc, "block is not compiled");
}

/// A code would not gain by a program.
pub(crate) fn left_alone(code: &Bytecode) {
    debug!(target: TARGET, code = %code.hash_slow(), "left alone");
}

/// A compilation was queued; `queued` jobs wait now.
pub(crate) fn requested(code: &Bytecode, tier: Tier, queued: usize) {
    debug!(target: TARGET, code = %code.hash_slow(), %tier, queued, "compilation requested");
}

/// A job was dropped before it began, or its result was: `cause` says why.
pub(crate) fn job_dropped(code: &Bytecode, tier: Tier, cause: impl fmt::Display) {
    debug!(target: TARGET, code = %code.hash_slow(), %tier, %cause, "job dropped");
}

/// Events were dropped because the queue was full, so many since the last time this was said.
pub(crate) fn events_dropped(dropped: u64) {
    debug!(target: TARGET, dropped, "events dropped");
}

/// To be entered while a code is compiled.
pub(crate) fn compile_span(subject: &Subject<'_>) -> Span {
    debug_span!(
        target: TARGET,
        "compile",
        code = %subject.bytecode.hash_slow(),
        code_len = subject.bytecode.len(),
        fork = fork_name(subject.baked.spec),
        tier = %subject.tier,
        thread = %subject.thread,
        nth = subject.nth,
    )
}

/// A compilation begins; within [`compile_span`], which says of what.
pub(crate) fn compiling() {
    trace!(target: TARGET, "compiling");
}

/// A compilation succeeded.
pub(crate) fn compiled(subject: &Subject<'_>, program: &Program, cpu_ns: u64) {
    debug!(
        target: TARGET,
        code = %subject.bytecode.hash_slow(),
        tier = %subject.tier,
        thread = %subject.thread,
        regions = program.regions(),
        instructions = program.instructions(),
        code_bytes = program.code_bytes(),
        cpu_ns,
        "compiled"
    );
}

/// A compilation failed.
pub(crate) fn not_compiled(subject: &Subject<'_>, error: &CompileError, cpu_ns: u64) {
    let Subject { bytecode, tier, thread, .. } = *subject;
    if matches!(error, CompileError::Panicked) {
        warn!(target: TARGET, code = %bytecode.hash_slow(), %tier, %thread, cpu_ns, %error, "not compiled");
    } else {
        debug!(target: TARGET, code = %bytecode.hash_slow(), %tier, %thread, cpu_ns, %error, "not compiled");
    }
}

/// A program is about to take its place.
pub(crate) fn publishing(program: &Program) {
    let (code, code_bytes) = (program.bytecode(), program.code_bytes());
    debug!(target: TARGET, code = %code.hash_slow(), code_bytes, "publishing");
}

/// A program lost its place, to a newer one or to none. Its memory is free when the last frame has
/// left it.
pub(crate) fn superseded(program: &Program) {
    let (code, code_bytes) = (program.bytecode(), program.code_bytes());
    debug!(target: TARGET, code = %code.hash_slow(), code_bytes, "superseded");
}

/// The program of a code is thrown away: idle, over budget, forced, ...
pub(crate) fn evicted(code: &Bytecode, cause: impl fmt::Display) {
    debug!(target: TARGET, code = %code.hash_slow(), %cause, "evicted");
}

/// A program that would have been worth less than what is resident was not let in.
pub(crate) fn refused(code: &Bytecode, code_bytes: usize) {
    debug!(target: TARGET, code = %code.hash_slow(), code_bytes, "refused");
}

/// A code is not compiled any more.
pub(crate) fn quarantined(code: &Bytecode, reason: impl fmt::Display) {
    warn!(target: TARGET, code = %code.hash_slow(), code_len = code.len(), %reason, "quarantined");
}

/// A check found a difference. Said once for each code.
pub(crate) fn difference(report: &Report) {
    let Report { check, code_hash, fork, tier, differences, path, .. } = report;
    error!(
        target: TARGET,
        code = %code_hash,
        fork = fork_name(*fork),
        %tier,
        %check,
        reason = differences.join("; "),
        path = path.as_ref().map(|path| path.display().to_string()),
        "check found a difference"
    );
}

/// A report of a difference could not be written.
pub(crate) fn report_error(path: &Path, error: &io::Error) {
    warn!(target: TARGET, path = %path.display(), %error, "no report");
}

/// A compile thread did not come back from this code, and is given up.
pub(crate) fn abandoned(code: &Bytecode, tier: Tier) {
    warn!(target: TARGET, code = %code.hash_slow(), %tier, "compile thread abandoned");
}

/// A thread of the engine began.
pub(crate) fn thread_started(name: &str) {
    debug!(target: TARGET, name, "thread started");
}

/// A thread of the engine could not be started.
pub(crate) fn thread_failed(name: &str, error: &io::Error) {
    warn!(target: TARGET, name, %error, "thread not started");
}

/// To be entered while the resident programs are looked through.
pub(crate) fn sweep_span() -> Span {
    debug_span!(target: TARGET, "sweep")
}

/// The resident programs were looked through.
pub(crate) fn swept(programs: usize, evicted: usize, code_bytes: usize) {
    debug!(target: TARGET, programs, evicted, code_bytes, "swept");
}

/// Compiling stops; `pauses` guards hold it now.
pub(crate) fn paused(pauses: usize) {
    info!(target: TARGET, pauses, "paused");
}

/// A guard is gone; `pauses` still hold compiling.
pub(crate) fn resumed(pauses: usize) {
    info!(target: TARGET, pauses, "resumed");
}

/// Everything resident was forgotten.
pub(crate) fn cleared(codes: usize) {
    info!(target: TARGET, codes, "cleared");
}

/// The engine's threads are told to end.
pub(crate) fn shutting_down(timeout_ms: u64) {
    debug!(target: TARGET, timeout_ms, "shutting down");
}

/// All threads that will have ended; `detached` did not within the time.
pub(crate) fn shut_down(detached: usize) {
    match detached {
        0 => info!(target: TARGET, detached, "shut down"),
        _ => warn!(target: TARGET, detached, "shut down, but threads go on"),
    }
}

/// The perf map could not be written. Said once.
pub(crate) fn perf_map_error(path: &Path, error: &io::Error) {
    warn!(target: TARGET, path = %path.display(), %error, "no perf map");
}

/// A store was opened.
pub(crate) fn store_opened(path: &Path, artifacts: usize, build: impl fmt::Display) {
    debug!(target: TARGET, path = %path.display(), artifacts, %build, "store opened");
}

/// A program was loaded from the store.
pub(crate) fn loaded(code: &Bytecode, tier: Tier, code_bytes: usize, cpu_ns: u64) {
    debug!(target: TARGET, code = %code.hash_slow(), %tier, code_bytes, cpu_ns, "loaded");
}

/// An artifact is intact, and of no use to this engine.
pub(crate) fn not_loaded(code: &Bytecode, reason: impl fmt::Display) {
    debug!(target: TARGET, code = %code.hash_slow(), %reason, "not loaded");
}

/// A file of the store is damaged, or not trusted. What the store says names it.
pub(crate) fn store_bad(reason: impl fmt::Display) {
    warn!(target: TARGET, %reason, "bad file in the store");
}

/// A program was saved.
pub(crate) fn saved(code: &Bytecode, tier: Tier, bytes: u64) {
    debug!(target: TARGET, code = %code.hash_slow(), %tier, bytes, "saved");
}

/// What is known about codes was written to the store.
pub(crate) fn snapshot(codes: usize, pending: usize, quarantined: usize) {
    debug!(target: TARGET, codes, pending, quarantined, "snapshot");
}

/// The store was tidied up.
pub(crate) fn collected(artifacts: u64, bytes: u64) {
    debug!(target: TARGET, artifacts, bytes, "store collected");
}

/// Programs were loaded before they were asked for.
pub(crate) fn preloaded(programs: usize) {
    debug!(target: TARGET, programs, "preloaded");
}

/// Reading or writing the store failed.
pub(crate) fn store_error(error: impl fmt::Display) {
    debug!(target: TARGET, %error, "store error");
}

/// Nothing is written to the store any more in this session. Said once.
pub(crate) fn store_off(error: impl fmt::Display) {
    warn!(target: TARGET, %error, "nothing is written to the store any more");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checks::Check, hooks::CompileThread};
    use kiln_ir::OpcodeSet;
    use revm::primitives::{Bytes, hardfork::SpecId};
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };
    use tracing::Level;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written while `act` runs, a line for each event.
    fn said(level: Level, act: impl FnOnce()) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(level)
            .without_time()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, act);
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn stop() -> Bytecode {
        Bytecode::new_legacy(Bytes::from_static(&[0]))
    }

    const HASH: &str = "0xbc36789e7a1e281436464229828f817d6612f7b477d66591ff96a9e064bcc98a";

    #[test]
    fn events_have_target_level_and_fields() {
        let code = stop();
        let text = said(Level::TRACE, || {
            lookup_miss(&code);
            evicted(&code, "idle");
            quarantined(&code, "never returned");
            saved(&code, Tier::Baseline, 70);
            store_off("no space");
            cleared(3);
            shut_down(0);
            shut_down(2);
        });
        let expected = [
            format!("TRACE kiln: lookup miss code={HASH} code_len=1"),
            format!("DEBUG kiln: evicted code={HASH} cause=idle"),
            format!(" WARN kiln: quarantined code={HASH} code_len=1 reason=never returned"),
            format!("DEBUG kiln: saved code={HASH} tier=tier0 bytes=70"),
            " WARN kiln: nothing is written to the store any more error=no space".to_owned(),
            " INFO kiln: cleared codes=3".to_owned(),
            " INFO kiln: shut down detached=0".to_owned(),
            " WARN kiln: shut down, but threads go on detached=2".to_owned(),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn differences_are_errors() {
        let report = Report {
            check: Check::Twice,
            code_hash: stop().hash_slow(),
            fork: SpecId::CANCUN,
            tier: Tier::Optimised,
            differences: vec!["one".to_owned(), "two".to_owned()],
            text: String::new(),
            path: None,
        };
        let text = said(Level::ERROR, || difference(&report));
        let fields = "fork=\"Cancun\" tier=optimised check=twice reason=\"one; two\"";
        let expected = format!("ERROR kiln: check found a difference code={HASH} {fields}\n");
        assert_eq!(text, expected);
    }

    #[test]
    fn compilations_lie_in_their_span() {
        let code = stop();
        let baked =
            kiln_ir::Config { spec: SpecId::CANCUN, gas: [0; 256], replaced: OpcodeSet::EMPTY };
        let thread = CompileThread::Background;
        let subject =
            Subject { bytecode: &code, baked: &baked, tier: Tier::Baseline, thread, nth: 4 };
        let text = said(Level::DEBUG, || {
            let _span = compile_span(&subject).entered();
            compiling();
            not_compiled(&subject, &CompileError::Disabled, 7);
            not_compiled(&subject, &CompileError::Panicked, 8);
        });
        let span = format!(
            "compile{{code={HASH} code_len=1 fork=\"Cancun\" tier=tier0 thread=background nth=4}}: "
        );
        let fields = format!("kiln: not compiled code={HASH} tier=tier0 thread=background cpu_ns=");
        let expected = [
            format!("DEBUG {span}{fields}7 error=compilation is switched off"),
            format!(" WARN {span}{fields}8 error=the compiler panicked"),
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }
}
