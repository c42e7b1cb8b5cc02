//! Counters.
//!
//! **Owns** the counters: one set for each [`crate::Tiered`], written by nobody else, and one that
//! holds those of the past. **Never** orders anything: all are relaxed, for people to read.

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

    fn get(&self) -> u64 {
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

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What an engine did so far. Times are in nanoseconds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        impl Stats {
            /// All counters, in order.
            pub(crate) const ROWS: &[Row] = &[$(Row {
                metric: concat!("kiln_", stringify!($name)),
                meaning: concat!($($doc),*),
                #[cfg(feature = "metrics")]
                get: |stats| stats.$name,
            }),*];
        }

        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: Counter,)*
        }

        impl Counters {
            pub(crate) fn load(&self) -> Stats {
                Stats { $($name: self.$name.get(),)* }
            }
        }

        impl std::ops::AddAssign for Stats {
            fn add_assign(&mut self, more: Self) {
                $(self.$name = self.$name.wrapping_add(more.$name);)*
            }
        }

        impl std::ops::Sub for Stats {
            type Output = Self;

            fn sub(self, before: Self) -> Self {
                Self { $($name: self.$name.wrapping_sub(before.$name),)* }
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
    /// Panics of a user's callback, which were caught.
    callback_panics,
    /// Failures to write the perf map; opening it counts once.
    perf_map_errors,
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
