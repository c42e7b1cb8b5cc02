//! Runs many generated cases on all engines and prints what differs, minimised.
//!
//! `cargo run --profile checked -p kiln-tests --example hunt -- [FIRST_SEED] [COUNT] [THREADS]`

#![allow(clippy::print_stdout)]

use kiln_tests::Case;
use kiln_tests::compare::check;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, oracle};
use kiln_tests::generate::seeded;
use kiln_tests::minimise::minimise;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Differences after which a hunt has found enough.
const FOUND_MAX: u64 = 8;

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u64>().expect("a number"));
    let first = args.next().unwrap_or(1);
    let count = args.next().unwrap_or(10_000);
    let threads = args.next().unwrap_or(1);
    if count == 0 {
        return describe(first);
    }
    let next = AtomicU64::new(first);
    let found = AtomicU64::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| hunt(&next, first + count, &found));
        }
    });
    let found = found.into_inner();
    println!("{count} cases from seed {first}, {found} differences, {:.0?}", start.elapsed());
    std::process::exit((found != 0) as i32);
}

fn hunt(next: &AtomicU64, end: u64, found: &AtomicU64) {
    let engines = Engines::new().expect("engines start");
    loop {
        // Relaxed: the counters order nothing else.
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end || found.load(Ordering::Relaxed) >= FOUND_MAX {
            return coverage(&engines);
        }
        if seed.is_multiple_of(64) {
            engines.clear();
        }
        let case = seeded(seed);
        if let Some(difference) = check(&engines, Kind::thinned(Kind::COMPARED, seed), &case) {
            found.fetch_add(1, Ordering::Relaxed);
            report(&engines, seed, case, difference.kind);
        }
    }
}

/// How much ran in compiled code: a hunt in which everything is interpreted finds nothing.
fn coverage(engines: &Engines) {
    for &kind in Kind::COMPARED {
        if let Some(stats) = engines.of(kind).map(|engine| engine.stats()) {
            println!("{kind:?}: {stats:?}");
        }
    }
}

fn report(engines: &Engines, seed: u64, case: Case, kind: Kind) {
    let fails = |case: &Case| {
        engines.clear();
        check(engines, &[kind], case).is_some()
    };
    let small = if fails(&case) { minimise(case, fails) } else { case };
    engines.clear();
    match check(engines, &[kind], &small) {
        Some(difference) => println!("seed {seed}: {difference}\n{small}\n"),
        None => println!("seed {seed}: {kind:?} differs, but not alone\n"),
    }
}

/// What the cases from a seed on come to, and the time they take: to tune the generator.
fn describe(first: u64) {
    let mut results = BTreeMap::<String, usize>::new();
    let mut slow = Vec::new();
    for seed in first..first + 4000 {
        let case = seeded(seed);
        let start = Instant::now();
        let outcome = oracle(&case, &CaseDb::new(&case));
        slow.push((start.elapsed(), seed));
        for transaction in outcome.transactions {
            *results.entry(transaction.name()).or_default() += 1;
        }
    }
    slow.sort_unstable();
    let total: std::time::Duration = slow.iter().map(|(time, _)| *time).sum();
    println!("{results:#?}\ntotal {total:?}, slowest {:?}", &slow[slow.len() - 12..]);
}
