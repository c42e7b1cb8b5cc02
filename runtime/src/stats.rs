//! Counters.
//!
//! **Owns** the engine's counters. **Never** orders anything: all are relaxed, for people to read.

use kiln_abi::ExitKind;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an engine did so far. Times are in nanoseconds.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct SharedStats {
            $(pub(crate) $name: AtomicU64,)*
        }

        impl SharedStats {
            pub(crate) fn load(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed),)* }
            }

            pub(crate) fn add(&self, stats: &Stats) {
                $(
                    if stats.$name != 0 {
                        self.$name.fetch_add(stats.$name, Ordering::Relaxed);
                    }
                )*
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
    /// Of these, how many found one.
    hits,
    /// Frame runs left to the EVM's own loop, initcode and precompiles not among them.
    interpreted_frames,
    /// Programs compiled, and compiled again.
    programs,
    /// Blocks in them.
    regions,
    /// Bytecode instructions in them.
    instructions,
    /// Bytes of bytecode they were made from.
    bytecode_bytes,
    /// Bytes of machine code and data made for them.
    code_bytes,
    /// Compilations that failed; such code stays interpreted.
    compile_errors,
    /// CPU time of the compiling thread, everything included.
    compile_cpu_ns,
    /// Of it: finding blocks.
    analyse_ns,
    /// Of it: building block IR.
    lower_ns,
    /// Of it: making machine code.
    codegen_ns,
    /// Of it: placing it.
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
}

impl Stats {
    pub(crate) fn count_exit(&mut self, kind: ExitKind) {
        *match kind {
            ExitKind::Interpret => &mut self.exits_interpret,
            ExitKind::Resume => &mut self.exits_resume,
            ExitKind::Stop => &mut self.exits_stop,
            ExitKind::Return => &mut self.exits_return,
            ExitKind::Revert => &mut self.exits_revert,
        } += 1;
    }
}
