//! `kiln hunt`.

use super::{
    Verdict,
    error::CliError,
    output::{Output, grouped},
    progress::Progress,
};
use kiln_harness::hunt::{Found, Hunter, INPUTS, LIMITS, Tally};
use kiln_runtime::EngineError;
use std::{
    num::NonZeroUsize,
    panic::resume_unwind,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Differences after which a hunt has found enough.
const FOUND_MAX: usize = 16;

/// Run generated programs on every engine, and compare each with the interpreter.
///
/// A program set is a few contracts that call one another; it is run with many inputs (calldata, value, gas), and what
/// is compiled for it stays from one input to the next. What differs is minimised, and written as a case file for
/// `kiln check`. One set can be repeated alone: --seed N --sets 1.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The first program set.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How many.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sets: u64,
    /// Inputs of each set; with --sweep, gas limits of each.
    #[arg(long, value_name = "N")]
    inputs: Option<NonZeroUsize>,
    /// Gas sweeps: one input of each set, at the gas limits around which something ends.
    #[arg(long)]
    sweep: bool,
    /// Threads, each with engines of its own.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    threads: NonZeroUsize,
    /// Begin no set after so many seconds.
    #[arg(long, value_name = "N")]
    seconds: Option<u64>,
    /// The folder that cases of differences are written to.
    #[arg(long, value_name = "DIR", default_value = "found")]
    found: PathBuf,
    /// Print the counters of every engine.
    #[arg(long)]
    stats: bool,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let hunt = Hunt {
        arguments,
        start: Instant::now(),
        next: AtomicU64::new(arguments.seed),
        timed_out: AtomicBool::new(false),
        progress: Progress::new(arguments.sets, "program sets"),
        said: Mutex::default(),
    };
    let ran: Result<(), EngineError> = thread::scope(|scope| {
        let threads = (0..arguments.threads.get()).map(|_| scope.spawn(|| hunt.run()));
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(ran) => ran,
            Err(payload) => resume_unwind(payload),
        })
    });
    ran.map_err(|error| CliError::Engine(error.to_string()))?;
    hunt.progress.finish();
    hunt.print(output)
}

/// What the threads found and counted.
#[derive(Default)]
struct Said {
    tally: Tally,
    found: Vec<Found>,
    stats: Vec<String>,
}

/// What the threads share.
struct Hunt<'a> {
    arguments: &'a Arguments,
    start: Instant,
    next: AtomicU64,
    timed_out: AtomicBool,
    progress: Progress,
    said: Mutex<Said>,
}

impl Hunt<'_> {
    fn run(&self) -> Result<(), EngineError> {
        let mut hunter = Hunter::new()?;
        let arguments = self.arguments;
        let limit = arguments.seconds.map(Duration::from_secs);
        let inputs = arguments.inputs.map(NonZeroUsize::get);
        loop {
            // Relaxed, here and below: the counters order nothing else.
            if limit.is_some_and(|limit| self.start.elapsed() >= limit) {
                self.timed_out.store(true, Ordering::Relaxed);
                break;
            }
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed - arguments.seed >= arguments.sets || self.said().found.len() >= FOUND_MAX {
                break;
            }
            let found = match arguments.sweep {
                true => hunter.sweep(seed, inputs.unwrap_or(LIMITS)),
                false => hunter.set(seed, inputs.unwrap_or(INPUTS)),
            };
            self.progress.inc();
            self.said().found.extend(found);
        }
        let mut said = self.said();
        said.tally.add(&hunter.tally);
        said.stats.extend(hunter.stats().map(|(kind, stats)| format!("{kind}: {stats:?}")));
        Ok(())
    }

    /// A thread that panicked has said what it had to say.
    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self, output: &mut Output) -> Result<Verdict, CliError> {
        let Said { tally, found, stats } = &*self.said();
        found.iter().try_for_each(|found| self.print_found(found, output))?;
        if self.arguments.stats {
            stats.iter().try_for_each(|stats| output.line(stats))?;
        }
        for (name, count) in &tally.results {
            output.line(format_args!("{:>12} {name}", grouped(*count)))?;
        }
        for (kind, (runs, time)) in &tally.runs {
            let micros = time.as_secs_f64() * 1e6 / (*runs).max(1) as f64;
            output
                .line(format_args!("{:>12} runs of {kind}, {micros:.1} µs each", grouped(*runs)))?;
        }
        let inspected = grouped(tally.inspected);
        output.line(format_args!(
            "{inspected:>12} runs with an inspector, on kiln and on the oracle"
        ))?;
        let what = if self.arguments.sweep { "gas-sweep" } else { "structured" };
        let seconds = self.start.elapsed().as_secs_f64();
        let last = (self.arguments.seed + tally.sets).saturating_sub(1);
        output.line(format_args!(
            "{} {what} cases of {} sets, seeds {} to {last}: {} differences, {seconds:.0} s on {} threads, {:.0} cases \
             a second{}",
            grouped(tally.cases),
            grouped(tally.sets),
            self.arguments.seed,
            found.len(),
            self.arguments.threads,
            tally.cases as f64 / seconds,
            if self.timed_out.load(Ordering::Relaxed) { ", stopped by time" } else { "" },
        ))?;
        Ok(Verdict::of(found.is_empty()))
    }

    fn print_found(&self, found: &Found, output: &mut Output) -> Result<(), CliError> {
        output.line(found)?;
        let folder = &self.arguments.found;
        let path =
            found.write(folder).map_err(|error| CliError::File { path: folder.clone(), error })?;
        Ok(output.line(format_args!("written to {}\n", path.display()))?)
    }
}
