//! The table of faults and of the tests that caught them.
//!
//! **Owns** `RESULTS.md`. **Callers guarantee** findings of all faults. **Never** decides anything.

use crate::{
    check::{Ending, Finding},
    list::Fault,
};
use std::fmt::Write;

/// Where the table is, from the root.
pub(crate) const FILE: &str = "tests/mutate/RESULTS.md";

/// The table.
pub(crate) fn table(findings: &[(&Fault, Finding)]) -> String {
    let caught = findings.iter().filter(|(_, finding)| finding.caught.is_some()).count();
    let mut text = format!(
        "# Mutation check\n\nWritten by `make mutate`. {} faults, {caught} caught. The test is the first that \
         failed; stages that are expected to catch a fault run first.\n\n\
         | fault | what is wrong | in | caught by | how |\n|---|---|---|---|---|\n",
        findings.len()
    );
    for (fault, finding) in findings {
        let Fault { name, says, file, .. } = fault;
        let (by, how) = match &finding.caught {
            Some((stage, ending)) => match ending {
                Ending::Failed(test, said) => (format!("{stage}: `{test}`"), kind(said)),
                Ending::Died(test, how) => (format!("{stage}: `{test}`"), died(how)),
                Ending::Hung(test) => (format!("{stage}: `{test}`"), "it does not end".to_owned()),
                Ending::Passed(_) => (stage.clone(), String::new()),
            },
            None => ("**nothing**".to_owned(), String::new()),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "| {name} | {says} | `{file}` | {by} | {how} |");
    }
    text
}

/// Whether the test saw it, or a check within the library.
fn kind(said: &str) -> String {
    let place = said.split_whitespace().next().unwrap_or_default();
    let file = place.split(':').next().unwrap_or_default();
    let is_test = file.contains("tests") || said.contains("assertion") || file.is_empty();
    match said.find("panic: ") {
        Some(_) => "the engine panics".to_owned(),
        None if is_test => "the test sees it".to_owned(),
        None => format!("a check of the library, `{file}`"),
    }
}

fn died(how: &str) -> String {
    match how.split_once(';') {
        Some((signal, _)) => format!("the process dies, {signal}"),
        None => "the process ends".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_noticed_is_told_apart() {
        assert_eq!(kind("tests/tests/cases.rs:1:2: 1 failures"), "the test sees it");
        assert_eq!(
            kind("ir/src/fold.rs:1:2: assertion `left == right` failed"),
            "the test sees it"
        );
        assert_eq!(kind("tests/x.rs:1:2: Tier0All panic: no"), "the engine panics");
        assert_eq!(
            kind("ir/src/eval.rs:1:2: eval: no"),
            "a check of the library, `ir/src/eval.rs`"
        );
        assert_eq!(died("signal 11; x"), "the process dies, signal 11");
    }
}
