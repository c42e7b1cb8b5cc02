//! Comparison of outcomes, and of an outcome with a case's own expectations.
//!
//! Owns the words in which a difference is reported. Everything that [`Outcome`] holds is compared:
//! equality decides, the words only explain.

use crate::case::{Case, TARGET};
use crate::db::CaseDb;
use crate::engine::{Engines, Kind, Outcome, TxOutcome, oracle};
use crate::hunt::Hunter;
use crate::minimise::minimise;
use revm::primitives::hex;
use std::cell::RefCell;
use std::fmt::{self, Debug};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One engine does not do what the oracle does.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The engine.
    pub kind: Kind,
    /// In what, one line each.
    pub details: Vec<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} differs from the interpreter:", self.kind)?;
        self.details.iter().try_for_each(|detail| write!(f, "\n  {detail}"))
    }
}

/// Runs a case on the given engines and reports the first that differs from the oracle.
pub fn check(engines: &Engines, kinds: &[Kind], case: &Case) -> Option<Difference> {
    let db = CaseDb::new(case);
    let expected = oracle(case, &db);
    kinds.iter().find_map(|&kind| {
        let actual = engines.run(kind, case, &db);
        let details = differences(&expected, &actual);
        (!details.is_empty()).then_some(Difference { kind, details })
    })
}

/// In what two outcomes differ; empty if they are equal.
pub fn differences(expected: &Outcome, actual: &Outcome) -> Vec<String> {
    let mut details = Vec::new();
    if expected == actual {
        return details;
    }
    let pairs = expected.transactions.iter().zip(&actual.transactions);
    for (index, (expected, actual)) in pairs.enumerate() {
        let mut add = |detail: String| details.push(format!("transaction {index}: {detail}"));
        transaction(expected, actual, &mut add);
    }
    field(
        "transactions",
        &expected.transactions.len(),
        &actual.transactions.len(),
        &mut |detail| {
            details.push(detail);
        },
    );
    if expected.accesses != actual.accesses {
        let at = expected.accesses.iter().zip(&actual.accesses).take_while(|(a, b)| a == b).count();
        details.push(format!(
            "database access {at}: expected {:x?}, got {:x?}",
            expected.accesses.get(at),
            actual.accesses.get(at)
        ));
    }
    if details.is_empty() {
        details.push("outcomes differ".to_owned());
    }
    details
}

/// In what two transactions differ; empty if they are equal.
pub fn transaction_differences(expected: &TxOutcome, actual: &TxOutcome) -> Vec<String> {
    let mut details = Vec::new();
    if expected != actual {
        transaction(expected, actual, &mut |detail| details.push(detail));
        if details.is_empty() {
            details.push("outcomes differ".to_owned());
        }
    }
    details
}

fn transaction(expected: &TxOutcome, actual: &TxOutcome, add: &mut dyn FnMut(String)) {
    field("result", &expected.name(), &actual.name(), add);
    if let (Ok(expected), Ok(actual)) = (&expected.result, &actual.result) {
        field("gas", expected.gas(), actual.gas(), add);
        field("output", &expected.output(), &actual.output(), add);
        field("logs", &expected.logs(), &actual.logs(), add);
    }
    for (address, account) in &expected.state {
        match actual.state.get(address) {
            None => add(format!("state: {address} is not loaded")),
            Some(other) if other != account => {
                add(format!("state: {address}: expected {account:x?}, got {other:x?}"));
            }
            Some(_) => {}
        }
    }
    for address in actual.state.keys().filter(|address| !expected.state.contains_key(*address)) {
        add(format!("state: {address} is loaded"));
    }
    let (a, b) = (&expected.trace, &actual.trace);
    if a.events != b.events {
        let at = a.events.iter().zip(&b.events).take_while(|(a, b)| a == b).count();
        let (a, b) = (a.events.get(at), b.events.get(at));
        add(format!("event {at}: expected {a:x?}, got {b:x?}"));
    }
    field("transient storage", &a.transient, &b.transient, add);
    field("destroyed", &a.destroyed, &b.destroyed, add);
    if a.journal != b.journal {
        let at = a.journal.iter().zip(&b.journal).take_while(|(a, b)| a == b).count();
        let (a, b) = (a.journal.get(at), b.journal.get(at));
        add(format!("journal entry {at}: expected {a:x?}, got {b:x?}"));
    }
}

fn field<T: PartialEq + Debug>(name: &str, expected: &T, actual: &T, add: &mut dyn FnMut(String)) {
    if expected != actual {
        add(format!("{name}: expected {expected:x?}, got {actual:x?}"));
    }
}

/// In what an outcome is not what the case itself says; empty if it is.
pub fn unexpected(case: &Case, outcome: &Outcome) -> Vec<String> {
    let mut details = Vec::new();
    let expect = &case.expect;
    let Some(last) = outcome.transactions.last() else {
        return vec!["no transaction ran".to_owned()];
    };
    let name = last.name();
    if let Some(result) = &expect.result {
        let matches = match result.strip_suffix("..") {
            Some(prefix) => name.starts_with(prefix),
            None => &name == result,
        };
        if !matches {
            details.push(format!("result is {name}, not {result}"));
        }
    }
    let gas = last.result.as_ref().map_or(0, |result| result.tx_gas_used());
    if let Some(expected) = expect.gas.filter(|expected| *expected != gas) {
        details.push(format!("gas is {gas}, not {expected}"));
    }
    if let Some(output) = expect.output.as_deref().filter(|output| *output != last.output()) {
        let (is, not) = (hex::encode(last.output()), hex::encode(output));
        details.push(format!("output is {is}, not {not}"));
    }
    for address in expect.loaded.iter().filter(|address| !last.state.contains_key(*address)) {
        details.push(format!("{address} is not loaded"));
    }
    for (key, value) in &expect.slots {
        let slot = last.state.get(&TARGET).and_then(|account| account.storage.get(key));
        match slot {
            Some(slot) if slot.present_value == *value => {}
            slot => details.push(format!("slot {key:#x} is {slot:x?}, not {value:#x}")),
        }
    }
    details
}

/// For fuzz targets: all engines do what the oracle does.
///
/// # Panics
/// With the minimised case, if one does not.
pub fn assert_agrees(case: &Case) {
    // One per process: the stencil library is generated once. Not a clock: cleared by count.
    static ENGINES: OnceLock<Engines> = OnceLock::new();
    static CASES: AtomicUsize = AtomicUsize::new(0);
    let engines = ENGINES.get_or_init(|| Engines::new().expect("the engines start"));
    // Relaxed: the counter orders nothing.
    if CASES.fetch_add(1, Ordering::Relaxed).is_multiple_of(256) {
        engines.clear();
    }
    let Some(difference) = check(engines, Kind::COMPARED, case) else { return };
    let kinds = [difference.kind];
    let small = minimise(case.clone(), |case| check(engines, &kinds, case).is_some());
    panic!("{difference}\n\n{small}");
}

/// For fuzz targets: all engines do what the oracle does, at the gas limits that matter to a case.
///
/// # Panics
/// With the minimised case, if one does not.
pub fn assert_agrees_at_limits(case: &Case) {
    /// A fuzzer wants many cases rather than many limits of one.
    const LIMITS: usize = 12;
    thread_local! {
        static HUNTER: RefCell<Hunter> = RefCell::new(Hunter::new().expect("the engines start"));
    }
    // Not a multiple of what has all regions: those take long.
    let found = HUNTER.with_borrow_mut(|hunter| hunter.sweep_case(1, case, LIMITS));
    if let Some(found) = found.first() {
        panic!("{found}");
    }
}
