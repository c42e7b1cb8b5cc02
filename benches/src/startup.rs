//! What an engine costs before it has compiled anything.

use crate::{BenchError, median};
use kiln::{Config, Engine};
use std::time::Instant;

/// Rounds; each takes some tens of milliseconds at most.
const ROUNDS: usize = 9;

/// The cost of a new engine.
#[derive(Clone, Copy, Debug)]
pub struct Startup {
    /// Wall time of the first engine of the process.
    pub first_ns: u64,
    /// Median of later ones.
    pub median_ns: u64,
    /// Stencils in the library.
    pub stencils: usize,
    /// Bytes of the library's code.
    pub bytes: usize,
}

impl Startup {
    /// Makes several engines.
    ///
    /// # Errors
    /// There is no engine on this machine.
    pub fn measure() -> Result<Self, BenchError> {
        let mut times = Vec::with_capacity(ROUNDS);
        let (mut stencils, mut bytes) = (0, 0);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let engine = Engine::new(Config::eager())?;
            times.push(start.elapsed().as_nanos() as u64);
            if let Some(library) = engine.library() {
                (stencils, bytes) = (library.stencils(), library.bytes());
            }
        }
        let first_ns = times.remove(0);
        Ok(Self { first_ns, median_ns: median(times), stencils, bytes })
    }
}
