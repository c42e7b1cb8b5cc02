//! The mapping as a table of TESTING.md.

use super::{TRAPS, Trap};
use std::fmt::Write;

const BEGIN: &str =
    "<!-- traps: written by KILN_TEST_BLESS=1 cargo test -p kiln-tests --test cases traps -->\n";
const END: &str = "<!-- end of traps -->\n";

/// The lines of the table.
fn table() -> String {
    let mut text = String::from("| rule | case files | tests |\n|---|---|---|\n");
    for section in TRAPS {
        let _ = writeln!(text, "| **{}** | | |", section.title);
        for Trap { rule, cases, tests } in section.traps {
            let _ = writeln!(text, "| {rule} | {} | {} |", listed(cases), listed(tests));
        }
    }
    text
}

fn listed(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}

/// A document with what stands between the marks replaced by the table. None if there are no marks.
pub(crate) fn with_table(document: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some([before, BEGIN, &table(), END, after].concat())
}
