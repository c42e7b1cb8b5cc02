//! What a hit costs: a frame run of compiled code, over calling the compiled entry directly.
//!
//! Measured on a frame whose whole code is one compiled block, JUMPDEST STOP, again and again from its
//! start: once as frames are run (looked up, context made, entered, left with an action), and once by
//! calling the program's entry with a context that was made before. What putting the frame back costs
//! is measured alone and subtracted from the former. revm's own work around a frame, the same for
//! all engines, is in neither, except that a frame run makes the action that ends the frame: that is
//! measured alone as well. The tables that are compared once a transaction are not: the frame is an
//! inner one.

use crate::{
    BenchError,
    frames::{CALLEE, fixture},
    median,
};
use kiln::{
    Config, Engine, Tiered,
    fixture::{FixtureDbError, FixtureEvm, Prepared, plain_evm},
};
use revm::{
    context::{ContextSetters, TxEnv},
    context_interface::{
        cfg::gas::GasTracker,
        result::{EVMError, InvalidTransaction},
    },
    handler::{EvmTr, Handler, ItemOrResult, MainnetHandler},
    primitives::TxKind,
};
use std::{path::Path, time::Instant};

/// Frame runs that are timed together.
const ROUNDS: u32 = 10_000;
/// Times each is timed, in turns.
const SAMPLES: usize = 301;

/// Nanoseconds; medians.
#[derive(Clone, Copy, Debug)]
pub struct Hit {
    /// A frame run with its lookup.
    pub hit_ns: f64,
    /// A frame run whose lookup is done.
    pub run_ns: f64,
    /// Making the action that ends a frame, by revm's own functions.
    pub end_ns: f64,
    /// The compiled entry alone, called with a context that is there.
    pub entry_ns: f64,
}

impl Hit {
    /// What a hit costs over the entry and the end of a frame, which is revm's.
    pub fn over_ns(&self) -> f64 {
        self.hit_ns - self.entry_ns - self.end_ns
    }

    /// Measures a hit.
    ///
    /// # Errors
    /// There is no engine on this machine.
    pub fn measure() -> Result<Self, BenchError> {
        let mut evm = warm()?;
        let mut samples: [Vec<u64>; 5] = Default::default();
        for _ in 0..SAMPLES {
            samples[0].push(time(|| evm.rewind_often(ROUNDS)));
            samples[1].push(time(|| evm.hit_often(ROUNDS)));
            samples[2].push(time(|| evm.run_often(ROUNDS)));
            samples[3].push(time(|| evm.halt_often(ROUNDS)));
            let mut entered = true;
            samples[4].push(time(|| entered = evm.enter_often(ROUNDS)));
            if !entered {
                return Err(BenchError::Hit("nothing was compiled".to_owned()));
            }
        }
        let [rewind, hit, run, end, entry] = samples.map(|ns| median(ns) as f64 / ROUNDS as f64);
        Ok(Self {
            hit_ns: hit - rewind,
            run_ns: run - rewind,
            end_ns: end - rewind,
            entry_ns: entry,
        })
    }
}

/// An EVM in front of a frame whose code is compiled.
fn warm() -> Result<Tiered<FixtureEvm>, BenchError> {
    let engine = Engine::new(Config::eager())?;
    let at = |kind: kiln::fixture::FixtureErrorKind| kind.at(Path::new("hit"));
    let prepared = Prepared::new(&fixture()).map_err(at)?;
    let mut evm = Tiered::mainnet(plain_evm(&prepared), engine);
    begin(&mut evm)?;
    // The first one compiles.
    evm.hit_often(2);
    Ok(evm)
}

fn time(act: impl FnOnce()) -> u64 {
    let start = Instant::now();
    act();
    start.elapsed().as_nanos() as u64
}

/// Puts a call's frame on the stack.
fn begin(evm: &mut Tiered<FixtureEvm>) -> Result<(), BenchError> {
    const GAS: u64 = 1_000_000;
    let error = |error: String| BenchError::Hit(error);
    evm.ctx_mut().set_tx(TxEnv { kind: TxKind::Call(CALLEE), gas_limit: GAS, ..TxEnv::default() });
    let mut handler =
        MainnetHandler::<_, EVMError<FixtureDbError, InvalidTransaction>, _>::default();
    let mut gas = GasTracker::new(GAS, GAS, 0);
    let init = handler.first_frame_input(evm, &mut gas).map_err(|e| error(e.to_string()))?;
    let init = init.ok_or_else(|| error("no gas for a frame".to_owned()))?;
    match evm.frame_init(init).map_err(|e| error(format!("{e:?}")))? {
        ItemOrResult::Item(_) => Ok(()),
        ItemOrResult::Result(result) => Err(error(format!("no frame: {result:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_timed_runs_compiled_code() {
        let mut evm = warm().unwrap();
        evm.rewind_often(3);
        evm.hit_often(3);
        evm.run_often(3);
        evm.halt_often(3);
        assert!(evm.enter_often(3), "nothing was compiled");
    }
}
