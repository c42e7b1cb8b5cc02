//! Runs many generated program sets on all engines, and writes what differs, minimised, into a folder.
//! What a set is, and which engines it has: `kiln_tests::hunt`, `kiln_tests::sweep`.

#![allow(clippy::print_stdout, clippy::print_stderr)]

use kiln_tests::hunt::{Found, Hunter, INPUTS, LIMITS, Tally};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const HELP: &str = "\
Runs generated program sets on all engines; differences are minimised and written as .evm files.

cargo run --profile checked -p kiln-tests --features llvm --example hunt -- [OPTIONS]

  --seed N       the first program set (1)
  --sets N       how many (1000)
  --inputs N     inputs of each (32); with --sweep gas limits of each (64)
  --sweep        gas sweeps: one input of each set, at the gas limits that matter to it
  --threads N    (1)
  --seconds N    stop after so long (no limit)
  --found DIR    where differences are written (./found)
  --stats        print the counters of every engine

Exit code 1 if anything differed. A set can be repeated alone: --seed N --sets 1.";

/// Differences after which a hunt has found enough.
const FOUND_MAX: u64 = 16;
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(20);

#[derive(Clone, Debug)]
struct Options {
    seed: u64,
    sets: u64,
    inputs: Option<usize>,
    sweep: bool,
    threads: usize,
    seconds: Option<u64>,
    found: PathBuf,
    stats: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            seed: 1,
            sets: 1000,
            inputs: None,
            sweep: false,
            threads: 1,
            seconds: None,
            found: "found".into(),
            stats: false,
        };
        while let Some(name) = args.next() {
            match name.as_str() {
                "--sweep" => options.sweep = true,
                "--stats" => options.stats = true,
                "--help" | "-h" => return Err(HELP.to_owned()),
                _ => {
                    let value = args.next().ok_or_else(|| format!("{name} needs a value"))?;
                    let number = || {
                        value.parse::<u64>().map_err(|_| format!("{name} {value}: not a number"))
                    };
                    match name.as_str() {
                        "--seed" => options.seed = number()?,
                        "--sets" => options.sets = number()?,
                        "--inputs" => options.inputs = Some(number()? as usize),
                        "--threads" => options.threads = number()? as usize,
                        "--seconds" => options.seconds = Some(number()?),
                        "--found" => options.found = value.into(),
                        _ => return Err(format!("{name} is no option\n\n{HELP}")),
                    }
                }
            }
        }
        Ok(options)
    }
}

/// What the threads share.
struct Hunt {
    options: Options,
    start: Instant,
    next: AtomicU64,
    found: AtomicU64,
    timed_out: AtomicBool,
    tally: Mutex<Tally>,
}

fn main() {
    let options = Options::parse(std::env::args().skip(1)).unwrap_or_else(|message| {
        println!("{message}");
        std::process::exit(2);
    });
    let hunt = Hunt {
        start: Instant::now(),
        next: AtomicU64::new(options.seed),
        found: AtomicU64::new(0),
        timed_out: AtomicBool::new(false),
        tally: Mutex::default(),
        options,
    };
    std::thread::scope(|scope| {
        for _ in 0..hunt.options.threads {
            scope.spawn(|| hunt.run());
        }
    });
    hunt.summary();
    // Relaxed: the threads have ended.
    std::process::exit((hunt.found.load(Ordering::Relaxed) != 0) as i32);
}

impl Hunt {
    fn run(&self) {
        let options = &self.options;
        let mut hunter = Hunter::new().expect("engines start");
        let mut said = Instant::now();
        loop {
            // Relaxed, here and below: the counters order nothing else.
            if options.seconds.is_some_and(|seconds| self.start.elapsed().as_secs() >= seconds) {
                self.timed_out.store(true, Ordering::Relaxed);
                break;
            }
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            let enough = self.found.load(Ordering::Relaxed) >= FOUND_MAX;
            if seed >= options.seed + options.sets || enough {
                break;
            }
            let found = match options.sweep {
                true => hunter.sweep(seed, options.inputs.unwrap_or(LIMITS)),
                false => hunter.set(seed, options.inputs.unwrap_or(INPUTS)),
            };
            self.found.fetch_add(found.len() as u64, Ordering::Relaxed);
            found.iter().for_each(|found| self.report(found));
            if said.elapsed() > PROGRESS {
                said = Instant::now();
                let rate = hunter.tally.cases as f64 / self.start.elapsed().as_secs_f64();
                eprintln!(
                    "set {seed}, {} cases of this thread, {rate:.0} a second",
                    hunter.tally.cases
                );
            }
        }
        self.tally.lock().expect("no thread panics with it").add(&hunter.tally);
        if options.stats {
            hunter.stats().for_each(|(kind, stats)| println!("{kind:?}: {stats:?}"));
        }
    }

    fn report(&self, found: &Found) {
        println!("{found}");
        match found.write(&self.options.found) {
            Ok(path) => println!("written to {}\n", path.display()),
            Err(error) => println!("not written to {}: {error}\n", self.options.found.display()),
        }
    }

    fn summary(&self) {
        let tally = self.tally.lock().expect("no thread panics with it");
        let what = if self.options.sweep { "gas-sweep" } else { "structured" };
        let seconds = self.start.elapsed().as_secs_f64();
        let last = (self.options.seed + tally.sets).saturating_sub(1);
        for (name, count) in &tally.results {
            println!("{count:>12} {name}");
        }
        for (kind, (runs, time)) in &tally.runs {
            let micros = time.as_secs_f64() * 1e6 / *runs as f64;
            println!("{runs:>12} runs of {kind:?}, {micros:.1} us each");
        }
        println!("{:>12} runs with an inspector, on kiln and on the oracle", tally.inspected);
        let found = self.found.load(Ordering::Relaxed);
        let stopped = if self.timed_out.load(Ordering::Relaxed) { ", stopped by time" } else { "" };
        println!(
            "{} {what} cases of {} sets, seeds {} to {last}: {found} differences, {seconds:.0} s on {} threads{}, \
             {:.0} cases a second{stopped}",
            tally.cases,
            tally.sets,
            self.options.seed,
            self.options.threads,
            cpu_seconds().map_or_else(String::new, |cpu| format!(" ({cpu:.0} s of CPU time)")),
            tally.cases as f64 / seconds,
        );
    }
}

/// User time of this process, where the system tells: proc(5), `stat`, field 14, in hundredths of a second.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(11)?.parse().ok()?;
    Some(ticks as f64 / 100.0)
}
