//! What a restart costs with a store: the first pass over a stream of blocks of an engine that has just been made, over
//! a pass of one that has run for long and has nothing left to compile.
//!
//! Four engines take turns block by block in one process, the others paused meanwhile: the warm one, a new one that
//! loaded the store first, a new one that loads each program when its code is called, and one without a store. So what
//! slows the machine down for longer than a block cancels out of the quotients.

use crate::{
    BenchError, Stream, Subject, median,
    stream::{Range, settle, tiered},
};
use kiln::{Config, Engine, Pause, StoreMode};
use kiln_store::{Access, Digest, Key, Rank, Store};
use std::{
    array, fmt, fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

/// How long writing everything out may take.
const FLUSH_MAX: Duration = Duration::from_secs(120);

/// What takes turns, with its name.
const SIDES: [&str; 4] = ["warm", "preloaded", "loaded at first use", "without a store"];
const WARM: usize = 0;

/// Times of restarts.
#[derive(Clone, Debug)]
pub struct Restart {
    /// Artifacts in the store, and their bytes.
    pub artifacts: usize,
    /// Their bytes.
    pub bytes: u64,
    /// One for each restart.
    rounds: Vec<Round>,
}

/// A restart.
#[derive(Clone, Debug)]
struct Round {
    /// Making an engine without a store.
    cold_start: Duration,
    /// Making one with a store.
    start: Duration,
    /// Loading what is in it.
    preload: Duration,
    /// Programs that were loaded.
    programs: usize,
    /// Bytes of their machine code.
    code_bytes: usize,
    /// The pass of each side, by block.
    passes: [Vec<Duration>; SIDES.len()],
}

impl Restart {
    /// Runs `passes` passes with a store in `folder`, and restarts as often as said.
    ///
    /// # Errors
    /// If there is no engine, a result is not as expected, or the store can not be written.
    pub fn measure(
        stream: &Stream<'_>,
        folder: &Path,
        passes: usize,
        rounds: usize,
    ) -> Result<Self, BenchError> {
        let store = Some(folder.to_path_buf());
        let written = StoreMode::ReadWrite;
        let config =
            Config { store, store_mode: written, store_preload: false, ..stream.config.clone() };
        let warm = Engine::new(config.clone())?;
        for _ in 0..passes {
            stream.blocks.iter().try_for_each(|block| tiered(block, &warm).map(drop))?;
            settle(&warm);
        }
        if !warm.flush_store(FLUSH_MAX) {
            return Err(BenchError::Store("it could not be written".to_owned()));
        }
        let listed = Store::open(folder, Access::ReadOnly)?.list()?;
        let read_only = Config { store_mode: StoreMode::ReadOnly, ..config };
        let rounds = (0..rounds).map(|turn| Round::measure(stream.blocks, &warm, &read_only, turn));
        Ok(Self {
            artifacts: listed.len(),
            bytes: listed.iter().map(|stored| stored.bytes).sum(),
            rounds: rounds.collect::<Result<_, _>>()?,
        })
    }

    /// Time of a side over that of the warm one: the median of the restarts, and of each block's medians.
    fn ratio(&self, side: usize) -> (Range, f64) {
        let sum = |round: &Round, side: usize| -> f64 {
            round.passes[side].iter().map(Duration::as_secs_f64).sum()
        };
        let each = self.rounds.iter().map(|round| sum(round, side) / sum(round, WARM));
        let medians = |side: usize| -> u64 {
            let blocks = self.rounds.first().map_or(0, |round| round.passes[side].len());
            let block = |block: usize| {
                let times =
                    self.rounds.iter().map(|round| round.passes[side][block].as_nanos() as u64);
                median(times.collect())
            };
            (0..blocks).map(block).sum()
        };
        (Range::of(each.collect()), medians(side) as f64 / medians(WARM).max(1) as f64)
    }

    fn ms(&self, time: fn(&Round) -> Duration) -> f64 {
        median(self.rounds.iter().map(|round| time(round).as_nanos() as u64).collect()) as f64 / 1e6
    }
}

impl Round {
    fn measure(
        blocks: &[Subject],
        warm: &Engine,
        config: &Config,
        turn: usize,
    ) -> Result<Self, BenchError> {
        let (cold, cold_start) = timed(|| Engine::new(Config { store: None, ..config.clone() }));
        let (preloaded, start) = timed(|| Engine::new(config.clone()));
        let (cold, preloaded, late) = (cold?, preloaded?, Engine::new(config.clone())?);
        let before = preloaded.code_bytes_used();
        let (programs, preload) = timed(|| preloaded.preload());
        let code_bytes = preloaded.code_bytes_used().saturating_sub(before);
        let engines = [warm, &preloaded, &late, &cold];
        let mut passes = array::from_fn(|_| Vec::with_capacity(blocks.len()));
        for (number, block) in blocks.iter().enumerate() {
            // Whoever comes later finds the caches warm; so they take turns.
            for place in 0..engines.len() {
                let side = (place + number + turn) % engines.len();
                let others = engines.iter().enumerate().filter(|(other, _)| *other != side);
                let _paused: Vec<Pause> = others.map(|(_, other)| other.pause()).collect();
                passes[side].push(tiered(block, engines[side])?);
            }
        }
        Ok(Self { cold_start, start, preload, programs, code_bytes, passes })
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "restart: {} artifacts, {:.1} MiB; an engine starts in {:.1} ms, without a store in {:.1}",
            self.artifacts,
            self.bytes as f64 / (1 << 20) as f64,
            self.ms(|round| round.start),
            self.ms(|round| round.cold_start),
        )?;
        if let Some(round) = self.rounds.last() {
            writeln!(
                f,
                "  preloading {} programs, {:.1} MiB of code: {:.1} ms",
                round.programs,
                round.code_bytes as f64 / (1 << 20) as f64,
                self.ms(|round| round.preload),
            )?;
        }
        for (side, name) in SIDES.iter().enumerate().skip(1) {
            let (rounds, blocks) = self.ratio(side);
            writeln!(
                f,
                "  first pass, {name}: {rounds} of a warm one's time, {} restarts; {blocks:.3} by medians of each block",
                self.rounds.len(),
            )?;
        }
        Ok(())
    }
}

/// How long it takes to find out what a store has.
#[derive(Clone, Copy, Debug)]
pub struct Index {
    /// Artifacts.
    pub artifacts: usize,
    /// Opening the folder and listing the keys.
    pub keys: Duration,
    /// Making an engine with it.
    pub start: Duration,
    /// Making one without a store.
    pub cold_start: Duration,
}

impl Index {
    /// Fills an empty folder with as many names, and lists them; medians of some rounds.
    ///
    /// # Errors
    /// If the store can not be written, or there is no engine.
    pub fn measure(folder: &Path, artifacts: usize, rounds: usize) -> Result<Self, BenchError> {
        drop(Store::open(folder, Access::ReadWrite)?);
        let build = kiln::build_digest(&Config::default().limits);
        for number in 0..artifacts {
            let mut code_hash = [0; 32];
            code_hash[..8].copy_from_slice(
                &(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes(),
            );
            let key = Key { code_hash, baked: Digest::of(b"none"), build, rank: Rank::BASELINE };
            let file = folder.join("artifacts").join(key.to_string());
            fs::write(&file, [0; 4096])
                .and_then(|()| fs::set_permissions(&file, fs::Permissions::from_mode(0o600)))
                .map_err(|error| BenchError::Store(error.to_string()))?;
        }
        let with =
            Config { store: Some(folder.to_path_buf()), store_preload: false, ..Config::default() };
        let with = Config { store_mode: StoreMode::ReadOnly, ..with };
        let mut times: [Vec<u64>; 3] = Default::default();
        for _ in 0..rounds {
            let (keys, time) = timed(|| Store::open(folder, Access::ReadOnly)?.keys());
            if keys?.len() != artifacts {
                return Err(BenchError::Store("it lists something else".to_owned()));
            }
            let (engine, start) = timed(|| Engine::new(with.clone()));
            let (other, cold_start) = timed(|| Engine::new(Config::default()));
            drop((engine?, other?));
            for (times, time) in times.iter_mut().zip([time, start, cold_start]) {
                times.push(time.as_nanos() as u64);
            }
        }
        let [keys, start, cold_start] = times.map(|times| Duration::from_nanos(median(times)));
        Ok(Self { artifacts, keys, start, cold_start })
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let Self { artifacts, keys, start, cold_start } = *self;
        writeln!(
            f,
            "index of {artifacts} artifacts: {:.1} ms; an engine starts in {:.1} ms, without a store in {:.1}",
            ms(keys),
            ms(start),
            ms(cold_start),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{folder, subjects};

    #[test]
    fn ratios_are_of_the_warm_side() {
        let passes = |ms: [u64; 4]| ms.map(|ms| vec![Duration::from_millis(ms); 2]);
        let round = |ms| Round {
            cold_start: Duration::ZERO,
            start: Duration::ZERO,
            preload: Duration::ZERO,
            programs: 1,
            code_bytes: 1,
            passes: passes(ms),
        };
        let rounds =
            vec![round([10, 11, 15, 20]), round([20, 20, 30, 40]), round([10, 12, 15, 20])];
        let restart = Restart { artifacts: 1, bytes: 1, rounds };
        let (rounds, blocks) = restart.ratio(1);
        assert_eq!(rounds.to_string(), "1.100 (1.000 to 1.200)");
        assert!((blocks - 1.2).abs() < 1e-9, "12 over 10, of each block: {blocks}");
        let text = restart.to_string();
        assert!(
            text.contains("preloaded: 1.100") && text.contains("without a store: 2.000"),
            "{text}"
        );
    }

    /// What is timed as preloaded is that, and each side has what is expected of a transaction.
    #[test]
    fn a_restarted_engine_has_programs_from_the_store() -> Result<(), Box<dyn std::error::Error>> {
        let temporary = tempfile::tempdir()?;
        let blocks = subjects(folder(None))?;
        // So that few passes compile.
        let config =
            Config { hot_executions: 1, top_tier: kiln::Tier::Baseline, ..Config::default() };
        let stream = Stream { blocks: &blocks, config };
        let restart = Restart::measure(&stream, &temporary.path().join("store"), 2, 1)?;
        assert!(restart.artifacts > 10 && restart.bytes > 0, "{restart}");
        let round = restart.rounds.first().ok_or("no restart")?;
        assert!(round.programs > 10 && round.code_bytes > 0, "{restart}");
        assert!(round.passes.iter().all(|pass| pass.len() == blocks.len()));
        Ok(())
    }

    #[test]
    fn the_index_that_is_timed_is_complete() -> Result<(), Box<dyn std::error::Error>> {
        let temporary = tempfile::tempdir()?;
        let index = Index::measure(&temporary.path().join("store"), 20, 1)?;
        assert!(index.artifacts == 20 && index.to_string().contains("index of 20 artifacts"));
        Ok(())
    }
}
