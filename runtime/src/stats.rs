//! Counters.
//!
//! **Owns** the counters: one set for each [`crate::Tiered`], written by nobody else, and one that
//! holds those of the past. **Never** orders anything: all are relaxed, for people to read.

use crate::backend::BackendStats;
use kiln_abi::ExitKind;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread at a time counts up, and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: there is only one writer.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one; the number with it.
    #[inline]
    pub(crate) fn next(&self) -> u64 {
        self.add(1);
        self.get()
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A counter, for the metrics.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) metric: &'static str,
    /// Its documentation, with spaces around.
    pub(crate) meaning: &'static str,
    #[cfg(feature = "metrics")]
    pub(crate) get: fn(&Stats) -> u64,
}

macro_rules! row {
    ($name:ident, $($doc:literal),*) => {
        Row {
            metric: concat!("kiln_", stringify!($name)),
            meaning: concat!($($doc),*),
            #[cfg(feature = "metrics")]
            get: |stats| stats.$name,
        }
    };
}

macro_rules! counters {
    (
        $($(#[doc = $doc:literal])* $name:ident,)*
        ; $($(#[doc = $back_doc:literal])* $back:ident,)*
        ; $($(#[doc = $gauge_doc:literal])* $gauge:ident,)*
    ) => {
        /// What an engine did so far. Times are in nanoseconds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)*
            $($(#[doc = $back_doc])* pub $back: u64,)*
            $($(#[doc = $gauge_doc])* pub $gauge: u64,)*
        }

        impl Stats {
            /// All counters, in order.
            pub(crate) const ROWS: &[Row] = &[
                $(row!($name, $($doc),*),)*
                $(row!($back, $($back_doc),*),)*
            ];

            /// Takes over what the back end counted.
            pub(crate) fn set_backend(&mut self, backend: &BackendStats) {
                $(self.$back = backend.$back;)*
                $(self.$gauge = backend.$gauge;)*
            }
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn load(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* ..Stats::default() }
            }
        }

        impl std::ops::AddAssign for Stats {
            fn add_assign(&mut self, more: Self) {
                $(self.$name = self.$name.wrapping_add(more.$name);)*
                $(self.$back = self.$back.wrapping_add(more.$back);)*
                $(self.$gauge = self.$gauge.wrapping_add(more.$gauge);)*
            }
        }

        impl std::ops::Sub for Stats {
            type Output = Self;

            fn sub(self, before: Self) -> Self {
                Self {
                    $($name: self.$name.wrapping_sub(before.$name),)*
                    $($back: self.$back.wrapping_sub(before.$back),)*
                    // Values of the moment: of the later one.
                    $($gauge: self.$gauge,)*
                }
            }
        }
    };
}

counters! {
    /// Frame runs that asked for a program.
    lookups,
    /// Frame runs that asked for a program and found one.
    hits,
    /// Frame runs left to the EVM's own loop, initcode and precompiles not among them.
    interpreted_frames,
    /// Programs compiled, and compiled again.
    programs,
    /// Blocks in the programs compiled.
    regions,
    /// Bytecode instructions in the programs compiled.
    instructions,
    /// Bytes of bytecode the programs were made from.
    bytecode_bytes,
    /// Bytes of machine code and data made for programs.
    code_bytes,
    /// Compilations that failed; such code stays interpreted.
    compile_errors,
    /// CPU time of compilation, everything included.
    compile_cpu_ns,
    /// CPU time of finding blocks.
    analyse_ns,
    /// CPU time of building block IR.
    lower_ns,
    /// Optimised regions compiled, and compiled again.
    optimised_regions,
    /// Bytecode instructions in optimised regions, copies counted.
    optimised_instructions,
    /// Bytes of machine code and data made for optimised regions.
    optimised_bytes,
    /// Optimised regions that could not be compiled: their blocks stay on the baseline.
    region_errors,
    /// CPU time of choosing, building and compiling optimised regions.
    optimise_ns,
    /// The part of it that worker processes took.
    worker_cpu_ns,
    /// CPU time of making machine code.
    codegen_ns,
    /// CPU time of placing machine code.
    publish_ns,
    /// Entries into compiled code from the frame loop.
    native_entries,
    /// Instructions interpreted in frames that have a program.
    interpreted_instructions,
    /// Instructions interpreted while recording.
    recorded_instructions,
    /// Left for an instruction that is the interpreter's, or before a block whose precondition
    /// failed.
    exits_interpret,
    /// Left for a block that was not compiled.
    exits_resume,
    /// Left by STOP.
    exits_stop,
    /// Left by RETURN.
    exits_return,
    /// Left by REVERT.
    exits_revert,
    /// Left behind an instruction that did not do as predicted.
    exits_canonical,
    /// Left because an instruction ended the frame.
    exits_ended,
    /// Programs that were exchanged for newer ones in running frames.
    swaps,
    /// Programs that were dropped under running frames, which were left to the interpreter.
    frames_dropped,
    /// Entries into compiled code at which a block was interpreted instead, because that is forced.
    forced_exits,
    /// Programs that were dropped because that is forced.
    forced_evictions,
    /// Compilations whose program was encoded, decoded and compared.
    reload_checked,
    /// Of these, those with a difference.
    reload_differences,
    /// Compilations that were done twice and compared.
    twice_checked,
    /// Of these, those with a difference.
    twice_differences,
    /// Frame runs that were compared with the interpreter's.
    shadow_checked,
    /// Of these, those with a difference.
    shadow_differences,
    /// Reports of differences that could not be written.
    report_errors,
    /// Panics of a user's callback, which were caught.
    callback_panics,
    /// Failures to write the perf map; opening it counts once.
    perf_map_errors,
    /// Looks through the resident programs for what to evict.
    sweeps,
    /// Programs evicted because no frame ran them for too long.
    evicted_idle,
    /// Programs evicted because others were worth more for each byte.
    evicted_budget,
    /// Programs that were not let in because what is resident is worth more for each byte.
    programs_refused,
    /// Codes without a program that were forgotten because there were too many.
    slots_forgotten,
    /// Programs loaded from the store, without being compiled.
    store_hits,
    /// Programs that were looked for in the store, and are not there.
    store_misses,
    /// Artifacts that this engine can not use: over a limit, of another code, without room.
    store_refused,
    /// Files of the store that were damaged or are not trusted; set aside, if the store may be written to.
    store_bad,
    /// Bytes of machine code and data loaded from the store.
    store_loaded_bytes,
    /// CPU time of loading programs from the store, those that were not used among them.
    store_load_cpu_ns,
    /// Programs saved in the store.
    store_saved,
    /// Bytes of the artifacts that were saved.
    store_saved_bytes,
    /// Programs that found no room among those that wait for being saved; they are looked for later.
    store_dropped,
    /// Artifacts removed to keep the store within its budget.
    store_collected,
    /// Artifacts removed because a program of their code was wrong.
    store_discarded,
    /// Failures of the system to read or write the store.
    store_errors,
    /// Times that what is known about codes was written to the store.
    store_snapshots,
    /// Codes of which something was remembered from an earlier session.
    store_restored,
    /// Requests of an earlier session that were asked for again.
    store_resumed,
    /// CPU time of the store's thread.
    store_cpu_ns,

    // What the back end counts.
    ;
    /// Requests that were passed to the backend thread.
    events_accepted,
    /// Requests that were dropped because the event queue was full.
    events_dropped,
    /// Jobs that were queued.
    jobs_queued,
    /// Requests for a code that was queued or being compiled already.
    jobs_deduped,
    /// Jobs that were dropped because their queue was full.
    jobs_dropped,
    /// Jobs that were dropped because they waited too long.
    jobs_aged,
    /// Jobs, waiting or done, that a clear made void.
    jobs_stale,
    /// Jobs that were cancelled: by their deadline, a pause, a clear, or shutdown.
    jobs_cancelled,
    /// Jobs that made a program that took its place, on any thread.
    jobs_compiled,
    /// Jobs that failed, on any thread, those over their deadline among them.
    jobs_failed,
    /// Jobs that failed by a panic of the compiler.
    jobs_panicked,
    /// Requests for codes that are in quarantine.
    jobs_refused,
    /// Codes that are not compiled any more.
    quarantined,
    /// Compile threads that did not come back in time and were given up.
    workers_abandoned,
    /// Threads that were still running when the time for a shutdown was over.
    threads_detached,
    /// Threads that the system did not give.
    threads_refused,
    /// Sweeps that panicked.
    sweeps_panicked,
    /// CPU time of compile threads.
    compile_thread_cpu_ns,
    /// CPU time of the backend thread.
    backend_thread_cpu_ns,

    // Values of the moment.
    ;
    /// Events that wait now.
    events_waiting,
    /// Jobs that wait now, those whose code may not be compiled again yet among them.
    jobs_waiting,
    /// Jobs on compile threads now.
    jobs_running,
}

impl Counters {
    pub(crate) fn count_exit(&self, kind: ExitKind) {
        let counter = match kind {
            ExitKind::Interpret => &self.exits_interpret,
            ExitKind::Resume => &self.exits_resume,
            ExitKind::Stop => &self.exits_stop,
            ExitKind::Return => &self.exits_return,
            ExitKind::Revert => &self.exits_revert,
        };
        counter.add(1);
    }
}
