//! What a hunt found: a difference, the smallest case that shows it, and how to see it again.
//!
//! Owns the ways in which a difference is made small. A case that differs on its own becomes an `.evm` file; one
//! that depends on what ran before it (what was promoted, seen, exchanged by then) comes with the inputs that
//! must run first. Never loses a difference: if nothing reproduces it, that is what it says.

use super::{Run, record};
use crate::case::Case;
use crate::compare::{Difference, check, differences};
use crate::engine::Engines;
use crate::minimise::minimise;
use crate::warm::WarmEvm;
use kiln_runtime::Config;
use std::fmt;
use std::path::{Path, PathBuf};

/// How often a case is repeated, to see whether it differs after some runs of its own.
const REPEATS: [usize; 5] = [2, 4, 8, 16, 40];

/// What must run on the same engine before a case differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing: it differs alone.
    Nothing,
    /// These runs of its set, in this order, behind what is recorded.
    Runs(Vec<usize>),
    /// It did not differ again on a fresh engine.
    Unknown,
}

/// A difference, and the case that shows it.
#[derive(Clone, Debug)]
pub struct Found {
    /// The programs.
    pub seed: u64,
    /// The input, or in a sweep the position of the limit.
    pub input: usize,
    /// What differs.
    pub difference: Difference,
    /// Minimised, if it differs alone.
    pub case: Case,
    /// How it is seen again.
    pub needs: Needs,
}

impl Found {
    /// Writes the case into a folder, which is made. Answers where.
    ///
    /// # Errors
    /// If that can not be written to.
    pub fn write(&self, folder: &Path) -> std::io::Result<PathBuf> {
        let kind = self.difference.kind;
        let name = format!("found_{kind:?}_{}_{}.evm", self.seed, self.input).to_lowercase();
        let path = folder.join(name);
        std::fs::create_dir_all(folder)?;
        let mut case = self.case.clone();
        case.notes.push(self.to_string().lines().next().unwrap_or_default().to_owned());
        if self.needs != Needs::Nothing {
            case.notes.push(self.needs.to_string());
        }
        std::fs::write(&path, case.to_string())?;
        Ok(path)
    }

    /// Looks for the smallest thing that differs, on a fresh engine with these options.
    pub(super) fn shrink(mut self, config: Config, runs: &[Run], recorded: usize) -> Self {
        let kind = self.difference.kind;
        let Ok(engines) = Engines::only(kind, config) else { return self };
        let fails = |case: &Case| {
            engines.clear();
            check(&engines, &[kind], case)
        };
        let repeats = std::iter::once(self.case.repeat).chain(REPEATS);
        for repeat in repeats {
            let case = Case { repeat, ..self.case.clone() };
            if fails(&case).is_some() {
                self.case = minimise(case, |case| fails(case).is_some());
                self.difference = fails(&self.case).unwrap_or(self.difference);
                self.needs = Needs::Nothing;
                return self;
            }
        }
        let Some(engine) = engines.of(kind) else { return self };
        let mut evm = WarmEvm::of(engine.clone());
        let last = &runs[self.input];
        let mut fails = |before: &[usize]| {
            evm.clear();
            record(kind, &mut evm, &runs[..recorded.min(runs.len())]);
            before.iter().for_each(|nth| _ = evm.run(&runs[*nth].case, &runs[*nth].db));
            !differences(&last.expected, &evm.run(&last.case, &last.db)).is_empty()
        };
        let before: Vec<usize> = (0..self.input).collect();
        if fails(&before) {
            self.needs = Needs::Runs(fewest(before, fails));
        }
        self
    }
}

/// Leaves out what is not needed, in halves, then in smaller and smaller pieces.
fn fewest(mut list: Vec<usize>, mut fails: impl FnMut(&[usize]) -> bool) -> Vec<usize> {
    let mut piece = list.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        while at < list.len() {
            let end = list.len().min(at + piece);
            let without = [&list[..at], &list[end..]].concat();
            match fails(&without) {
                true => list = without,
                false => at = end,
            }
        }
        piece /= 2;
    }
    list
}

impl fmt::Display for Needs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("It differs alone."),
            Self::Runs(runs) => write!(
                f,
                "It differs on an engine that ran these of its set before, in this order: {runs:?}."
            ),
            Self::Unknown => f.write_str("It did not differ again on a fresh engine."),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, input, difference, case, needs } = self;
        writeln!(f, "set {seed}, run {input}: {difference}\n{needs}\n\n{case}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_are_those_needed() {
        let needed = [3, 17, 18];
        let mut tries = 0;
        let fails = |list: &[usize]| {
            tries += 1;
            needed.iter().all(|nth| list.contains(nth))
        };
        assert_eq!(fewest((0..32).collect(), fails), needed);
        assert!(tries < 100, "{tries}");
        assert!(fewest((0..5).collect(), |_| true).is_empty());
    }
}
