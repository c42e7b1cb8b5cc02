//! What the figures of a stream mean, and their words.

use super::{Pass, Trial, Warm};
use crate::Subject;
use kiln::Stats;
use std::{fmt::Write, time::Duration};

/// Blocks that are named in a report.
const WORST: usize = 5;

/// A median and what lies around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    median: f64,
    min: f64,
    max: f64,
}

impl Range {
    /// Of nothing: zeros.
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Self { median: at(values.len() / 2), min: at(0), max: at(values.len().saturating_sub(1)) }
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} ({:.3} to {:.3})", self.median, self.min, self.max)
    }
}

fn seconds<'a>(times: impl IntoIterator<Item = &'a Duration>) -> f64 {
    times.into_iter().map(Duration::as_secs_f64).sum()
}

impl Pass {
    /// Time through kiln.
    fn tiered_s(&self) -> f64 {
        seconds(&self.tiered)
    }

    /// Time of plain revm.
    fn plain_s(&self) -> f64 {
        seconds(&self.plain)
    }
}

impl Trial {
    /// Time through kiln over that of plain revm, all passes together.
    pub fn ratio(&self) -> f64 {
        let sum = |time: fn(&Pass) -> f64| self.passes.iter().map(time).sum::<f64>();
        sum(Pass::tiered_s) / sum(Pass::plain_s)
    }

    /// The same, had compile threads had no time but that of the thread that executes.
    pub fn ratio_of_cpu(&self) -> f64 {
        let sum = |time: fn(&Pass) -> f64| self.passes.iter().map(time).sum::<f64>();
        let background = background_ns(&self.stats()) as f64 / 1e9;
        (sum(Pass::tiered_s) + background) / sum(Pass::plain_s)
    }

    fn stats(&self) -> Stats {
        self.passes.iter().fold(Stats::default(), |mut sum, pass| {
            sum += pass.stats;
            sum
        })
    }

    /// What the engine did, in one line.
    fn work(&self) -> String {
        let stats = self.stats();
        let time: f64 = self.passes.iter().map(Pass::tiered_s).sum();
        let share = |ns: u64| ns as f64 / 1e9 / time * 100.0;
        let background = background_ns(&stats);
        let here = stats.compile_cpu_ns.saturating_sub(stats.compile_thread_cpu_ns);
        format!(
            "compile threads {:.1}% of the time, compiling on the calling thread {:.1}%; {} programs, \
             {} instructions, {:.0} ns each, {} KiB of code in use, {} evictions, {} refused, {} jobs \
             and events dropped; a pass: {:.2} million instructions interpreted, {:.0} thousand \
             entries into compiled code",
            share(background),
            share(here),
            stats.programs,
            stats.instructions,
            stats.compile_cpu_ns as f64 / stats.instructions.max(1) as f64,
            self.code_bytes / 1024,
            evictions(&stats),
            stats.programs_refused,
            stats.jobs_dropped + stats.events_dropped,
            (stats.interpreted_instructions / self.passes.len().max(1) as u64) as f64 / 1e6,
            (stats.native_entries / self.passes.len().max(1) as u64) as f64 / 1e3,
        )
    }

    /// The sum over all blocks of the median time.
    fn medians_s(&self, times: for<'a> fn(&'a Pass) -> &'a [Duration]) -> f64 {
        let blocks = self.passes.first().map_or(0, |pass| pass.plain.len());
        let block = |block: usize| {
            let times = self.passes.iter().map(|pass| times(pass)[block].as_secs_f64());
            Range::of(times.collect()).median
        };
        (0..blocks).map(block).sum()
    }

    /// The median over all passes of the quotient of a block.
    fn block_ratio(&self, block: usize) -> f64 {
        let quotient = |pass: &Pass| pass.tiered[block].div_duration_f64(pass.plain[block]);
        Range::of(self.passes.iter().map(quotient).collect()).median
    }
}

/// CPU time of the engine's own threads.
fn background_ns(stats: &Stats) -> u64 {
    stats.compile_thread_cpu_ns + stats.backend_thread_cpu_ns
}

/// Programs that were dropped to make room, or because nobody ran them.
fn evictions(stats: &Stats) -> u64 {
    stats.evicted_idle + stats.evicted_budget
}

/// In words: first passes of engines that began empty.
pub fn first(trials: &[Trial]) -> String {
    several("first pass", trials)
}

/// In words: many passes of engines that began empty.
pub fn many(trials: &[Trial]) -> String {
    let passes = trials.first().map_or(0, |trial| trial.passes.len());
    several(&format!("{passes} passes"), trials)
}

fn several(name: &str, trials: &[Trial]) -> String {
    let wall = Range::of(trials.iter().map(Trial::ratio).collect());
    let cpu = Range::of(trials.iter().map(Trial::ratio_of_cpu).collect());
    // The trial in the middle stands for all.
    let nearest = |a: &&Trial, b: &&Trial| {
        let distance = |trial: &Trial| (trial.ratio() - wall.median).abs();
        distance(a).total_cmp(&distance(b))
    };
    let work = trials.iter().min_by(nearest).map(Trial::work).unwrap_or_default();
    format!(
        "{name}: {wall} of the interpreter's time, {} trials; with the time of compile threads added \
         {cpu}\n  {work}\n",
        trials.len(),
    )
}

/// In words: passes of an engine with nothing left to compile.
pub fn warm(blocks: &[Subject], warm: &Warm) -> String {
    let trial = &warm.trial;
    let ratio = trial.medians_s(|pass| &pass.tiered) / trial.medians_s(|pass| &pass.plain);
    let settled = if warm.settled { "settled" } else { "NOT settled" };
    let mut text = format!(
        "warm: {ratio:.3} of the interpreter's time (medians of {} passes, by block), {settled} after \
         {} passes\n  {}\n",
        trial.passes.len(),
        warm.settling,
        trial.work(),
    );
    let mut order: Vec<usize> = (0..blocks.len()).collect();
    order.sort_by(|&a, &b| trial.block_ratio(b).total_cmp(&trial.block_ratio(a)));
    for block in order.into_iter().take(WORST) {
        let plain = trial.passes.iter().map(|pass| pass.plain[block].as_secs_f64() * 1e6).collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "  slowest: {} {:.3}, interpreter {:.0} us",
            blocks[block].loaded.fixture.name,
            trial.block_ratio(block),
            Range::of(plain).median,
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(plain_ms: [u64; 2], tiered_ms: [u64; 2]) -> Pass {
        let times = |ms: [u64; 2]| ms.map(Duration::from_millis).to_vec();
        Pass { plain: times(plain_ms), tiered: times(tiered_ms), stats: Stats::default() }
    }

    #[test]
    fn ratios() {
        let passes =
            vec![pass([10, 100], [20, 50]), pass([10, 100], [5, 60]), pass([20, 100], [20, 70])];
        let trial = Trial { passes, code_bytes: 0 };
        assert!((trial.ratio() - 225.0 / 340.0).abs() < 1e-9);
        // Medians by block: 10 and 100 against 20 and 60.
        assert!((trial.medians_s(|pass| &pass.plain) - 0.110).abs() < 1e-9);
        assert!((trial.medians_s(|pass| &pass.tiered) - 0.080).abs() < 1e-9);
        // 2, 0.5 and 1.
        assert!((trial.block_ratio(0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn ranges() {
        let range = Range::of(vec![3.0, 1.0, 2.0]);
        assert_eq!(range, Range { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(range.to_string(), "2.000 (1.000 to 3.000)");
        assert_eq!(Range::of(Vec::new()).median, 0.0);
    }
}
