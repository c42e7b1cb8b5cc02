//! What people and tools see of an engine: callbacks, metrics, `perf`, debuggers, `tracing` events.
//!
//! **Owns** an engine's observers, and the names that code has towards them. **Callers guarantee**
//! that a [`Registration`] is dropped before the code it names. **Never** is on the path of a frame
//! that finds its program, and never fails: who watches does not change what happens.

#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
mod gdb;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux", not(miri))))]
mod gdb {
    //! No machine code, nothing to register.

    /// There is none.
    #[derive(Debug)]
    pub(super) enum Entry {}

    pub(super) fn register(_: &str, _: std::ptr::NonNull<u8>, _: usize) -> Option<Entry> {
        None
    }
}
pub(crate) mod metrics;
mod perf_map;
pub(crate) mod trace;

use crate::{
    checks::report::Reports,
    compile::CompileError,
    config::Config,
    hooks::{Compilation, CompileThread, Compiled, Hooks, Tier, fork_name},
    memory::CodeBlock,
    program::Program,
    stats::Stats,
};
use metrics::Metrics;
use perf_map::PerfMap;
use revm::{
    bytecode::Bytecode,
    primitives::{B256, hardfork::SpecId},
};
use std::fmt;

/// All that watches one engine.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) hooks: Hooks,
    pub(crate) metrics: Metrics,
    pub(crate) reports: Reports,
    perf_map: Option<PerfMap>,
    gdb: bool,
}

/// Whose program it is, towards the outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) bytecode: &'a Bytecode,
    /// What is baked into the program.
    pub(crate) baked: &'a kiln_ir::Config,
    pub(crate) tier: Tier,
    pub(crate) thread: CompileThread,
    /// Programs of this code that were published before.
    pub(crate) nth: u32,
}

/// Code that tools know by name. Dropping it takes the name back, where that is possible: before the
/// code's memory is given to other code.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Registration {
    /// Taken out of the debugger's list by its drop.
    _gdb: Option<gdb::Entry>,
}

impl Observer {
    pub(crate) fn new(config: &Config, hooks: Hooks) -> Self {
        let perf_map = config.perf_map.then(PerfMap::of_process);
        let reports = Reports::new(config);
        Self { hooks, metrics: Metrics::default(), reports, perf_map, gdb: config.gdb }
    }

    /// Names code that was placed. Costs nothing where nobody asked for it.
    pub(crate) fn register(&self, subject: &Subject<'_>, code: &CodeBlock) -> Registration {
        if self.perf_map.is_none() && !self.gdb {
            return Registration::default();
        }
        self.name(&Label::of(subject).to_string(), code)
    }

    /// Names the way into compiled code.
    pub(crate) fn register_trampoline(&self, code: &CodeBlock) -> Registration {
        self.name("kiln:trampoline", code)
    }

    /// How often writing the perf map failed.
    pub(crate) fn perf_map_errors(&self) -> u64 {
        self.perf_map.as_ref().map_or(0, PerfMap::errors)
    }

    fn name(&self, name: &str, code: &CodeBlock) -> Registration {
        if let Some(perf_map) = &self.perf_map {
            perf_map.add(name, code.ptr().as_ptr() as usize, code.len());
        }
        let entry = self.gdb.then(|| gdb::register(name, code.ptr(), code.len())).flatten();
        Registration { _gdb: entry }
    }

    /// A compilation is finished: tells everybody. `stats` are the counters of this compilation
    /// alone. To be called without a lock, after all else. Answers how many callbacks panicked.
    #[must_use]
    pub(crate) fn compiled(
        &self,
        subject: &Subject<'_>,
        outcome: Result<&Program, &CompileError>,
        stats: &Stats,
    ) -> u64 {
        match outcome {
            Ok(program) => trace::compiled(subject, program, stats.compile_cpu_ns),
            Err(error) => trace::not_compiled(subject, error, stats.compile_cpu_ns),
        }
        if !cfg!(feature = "metrics") && !self.hooks.wants_compilations() {
            return 0;
        }
        let compilation = Compilation {
            code_hash: subject.bytecode.hash_slow(),
            code_len: subject.bytecode.len(),
            fork: subject.baked.spec,
            tier: subject.tier,
            outcome: outcome.map(Compiled::from).map_err(ToString::to_string),
            cpu: stats.into(),
            thread: subject.thread,
            nth: subject.nth,
        };
        self.metrics.compilation(&compilation);
        u64::from(self.hooks.finished(&compilation))
    }
}

impl From<&Program> for Compiled {
    fn from(program: &Program) -> Self {
        Self {
            regions: program.regions(),
            instructions: program.instructions(),
            code_bytes: program.code_bytes(),
        }
    }
}

/// The name of a program as tools show it: `kiln:tier0:HASH8@FORK`, with the first 8 digits of the
/// code's hash.
#[derive(Clone, Copy, Debug)]
struct Label {
    tier: Tier,
    code_hash: B256,
    fork: SpecId,
}

impl Label {
    fn of(subject: &Subject<'_>) -> Self {
        let Subject { bytecode, baked, tier, .. } = *subject;
        Self { tier, code_hash: bytecode.hash_slow(), fork: baked.spec }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.code_hash.0;
        let fork = fork_name(self.fork);
        // A fork's name may have spaces, which end a name in a perf map.
        let fork = fork.split_whitespace();
        write!(f, "kiln:{}:{a:02x}{b:02x}{c:02x}{d:02x}@", self.tier)?;
        fork.into_iter().try_for_each(|word| f.write_str(word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_no_spaces() {
        let label = |fork| {
            let code_hash = B256::with_last_byte(7) | B256::left_padding_from(&[1; 32]);
            Label { tier: Tier::Baseline, code_hash, fork }.to_string()
        };
        assert_eq!(label(SpecId::CANCUN), "kiln:tier0:01010101@Cancun");
        for fork in SpecId::FRONTIER as u8..=SpecId::AMSTERDAM as u8 {
            let fork = SpecId::try_from_u8(fork).unwrap();
            assert!(!label(fork).contains(char::is_whitespace), "{}", label(fork));
        }
    }
}
