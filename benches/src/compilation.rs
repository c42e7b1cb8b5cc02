//! What compiling whole contracts costs.

use crate::{BenchError, Subject, median};
use kiln::{Config, Engine, Stats};
use kiln_ir::OpcodeSet;
use revm::interpreter::instructions::gas_table_spec;

/// Rounds. The first is the one that meets cold caches and fresh pages.
const ROUNDS: usize = 21;

/// The cost of compiling all codes of a fixture, whole.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compilation {
    /// Instructions compiled.
    pub instructions: u64,
    /// CPU time of the first compilation.
    pub first_ns: u64,
    /// Median CPU time.
    pub median_ns: u64,
    /// Of the median, by phase: analysis, lowering, code generation, publication.
    pub phases_ns: [u64; 4],
    /// Bytes of machine code with its data.
    pub code_bytes: u64,
}

impl Compilation {
    /// Compiles the codes of a fixture several times.
    ///
    /// # Errors
    /// There is no engine on this machine.
    pub fn measure(subject: &Subject) -> Result<Self, BenchError> {
        let engine = Engine::new(Config::eager())?;
        let rounds: Vec<Stats> = (0..ROUNDS).map(|_| round(&engine, subject)).collect();
        let of = |field: fn(&Stats) -> u64| median(rounds.iter().map(field).collect());
        Ok(Self {
            instructions: rounds[0].instructions,
            first_ns: rounds[0].compile_cpu_ns,
            median_ns: of(|stats| stats.compile_cpu_ns),
            phases_ns: [
                of(|stats| stats.analyse_ns),
                of(|stats| stats.lower_ns),
                of(|stats| stats.codegen_ns),
                of(|stats| stats.publish_ns),
            ],
            code_bytes: rounds[0].code_bytes,
        })
    }

    /// The sum of two.
    pub fn plus(self, other: Self) -> Self {
        Self {
            instructions: self.instructions + other.instructions,
            first_ns: self.first_ns + other.first_ns,
            median_ns: self.median_ns + other.median_ns,
            phases_ns: std::array::from_fn(|at| self.phases_ns[at] + other.phases_ns[at]),
            code_bytes: self.code_bytes + other.code_bytes,
        }
    }

    /// An amount for each instruction.
    pub fn per_instruction(&self, amount: u64) -> f64 {
        amount as f64 / self.instructions.max(1) as f64
    }
}

/// Compiles everything once, and forgets it.
fn round(engine: &Engine, subject: &Subject) -> Stats {
    let spec = subject.prepared.spec();
    let baked = kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced: OpcodeSet::EMPTY };
    let before = engine.stats();
    for (hash, code) in subject.prepared.db.codes.iter() {
        // Code that does not compile is interpreted; its share shows in the transactions.
        let _ = engine.compile(code, *hash, &baked);
    }
    let stats = engine.stats() - before;
    engine.clear();
    stats
}
