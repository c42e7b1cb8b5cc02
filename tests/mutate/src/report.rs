//! The table of faults and of the tests that caught them.
//!
//! **Owns** `RESULTS.md`. **Callers guarantee** findings of all faults. **Never** decides anything.

use crate::{
    check::{Ending, Finding},
    list::{CASES_STAGE, Fault},
};
use std::fmt::Write;

/// Where the table is, from the root.
pub(crate) const FILE: &str = "tests/mutate/RESULTS.md";

/// The table.
pub(crate) fn table(findings: &[(&Fault, Finding)]) -> String {
    let caught = findings.iter().filter(|(_, finding)| finding.caught.is_some()).count();
    let mut text = format!(
        "# Mutation check\n\nWritten by `make mutate`: {} faults, {caught} caught. The test is the first that \
         failed; those that are expected to catch a fault run first.\n\n\
         | fault | what is wrong | in | caught by | how |\n|---|---|---|---|---|\n",
        findings.len()
    );
    for (fault, finding) in findings {
        let Fault { name, says, file, .. } = fault;
        let (by, how) = match &finding.caught {
            Some((stage, ending)) => (who(fault, stage, ending), how(ending)),
            None => ("**nothing**".to_owned(), String::new()),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {name} | {says} | `{file}` | {by} | {how} |");
    }
    text
}

/// The test, or the case file.
fn who(fault: &Fault, stage: &str, ending: &Ending) -> String {
    let (test, said) = match ending {
        Ending::Failed(test, said) | Ending::Died(test, said) => (test, said.as_str()),
        Ending::Hung(test) => (test, ""),
        Ending::Passed(_) => return stage.to_owned(),
    };
    if stage != CASES_STAGE || fault.cases.is_empty() {
        return format!("{stage}: `{test}`");
    }
    let failed = |case: &&String| said.contains(&format!("{case}: "));
    let case = fault.cases.iter().find(failed).or(fault.cases.first());
    format!("case file `{}`", case.map_or("", String::as_str))
}

/// Whether the test saw it, or a check within the library.
fn how(ending: &Ending) -> String {
    let said = match ending {
        Ending::Failed(_, said) => said,
        // By which signal depends on what lies where.
        Ending::Died(..) => return "the process dies".to_owned(),
        Ending::Hung(_) => return "it does not end".to_owned(),
        Ending::Passed(_) => return String::new(),
    };
    let engine = said.split_once(" differs from").map(|(before, _)| before);
    let engine = engine.and_then(|before| before.rsplit(' ').next());
    let panics = if said.contains("panic: ") { " panics" } else { " differs" };
    if let Some(engine) = engine {
        return format!("{engine}{panics}");
    }
    let place = said.split(':').next().unwrap_or_default();
    if place.contains("tests") || said.contains("assertion") {
        "an assertion".to_owned()
    } else if place.starts_with('/') || place.is_empty() {
        "a panic".to_owned()
    } else {
        format!("a panic in `{place}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_noticed_is_told_apart() {
        let failed = |said: &str| how(&Ending::Failed(String::new(), said.to_owned()));
        let said = "tests/tests/cases.rs:1:2: 1 failures: / name: CANCUN, gas 1: Tier0All differs from the \
            interpreter: got";
        assert_eq!(failed(said), "Tier0All differs");
        assert_eq!(failed(&format!("{said} Error(panic: no)")), "Tier0All panics");
        let said = "ir/src/fold.rs:1:2: assertion `left == right` failed";
        assert_eq!(failed(said), "an assertion");
        assert_eq!(failed("ir/src/eval.rs:1:2: eval: no"), "a panic in `ir/src/eval.rs`");
        assert_eq!(failed("/rustc/core/panicking.rs:1:2: no"), "a panic");
        let died = Ending::Died("a".to_owned(), "signal 11; x".to_owned());
        assert_eq!(how(&died), "the process dies");
    }
}
