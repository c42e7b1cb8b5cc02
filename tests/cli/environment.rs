//! `KILN_*` variables: they reach the engine, arguments win over them, bad ones are bad usage.

use super::{Ran, kiln_in, repository, text};

/// The value of a counter that `replay --stats` prints.
fn counter(ran: &Ran, name: &str) -> u64 {
    let line =
        ran.stdout.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    let value = line.unwrap_or_else(|| panic!("no {name}: {}", ran.stdout));
    value.trim_end_matches(',').parse().expect("a number")
}

/// Replays a workload on the evaluator.
fn replay<const N: usize>(vars: &[(&str, &str)], more: [&str; N]) -> Ran {
    let path = repository("workloads/exchange.json");
    let mut arguments = vec!["replay", text(&path), "--stats"];
    arguments.extend(more);
    kiln_in(vars, &arguments).exits(0)
}

#[test]
fn bad_variables_are_bad_usage() {
    let path = repository("workloads/exchange.json");
    let commands: [&[&str]; 4] = [
        &["replay", text(&path)],
        &["run", "0x00"],
        &["run", "0x00", "--tier", "interpreter"],
        &["compile", "0x00"],
    ];
    for command in commands {
        kiln_in(&[("KILN_BACKEND", "fast")], command)
            .exits(2)
            .complains(&["KILN_BACKEND=\"fast\"", "native or evaluator"]);
        kiln_in(&[("KILN_TIER", "auto")], command)
            .exits(2)
            .complains(&["KILN_TIER", "no variable"]);
        kiln_in(&[("KILN_CODE_BYTES_MAX", "1")], command)
            .exits(2)
            .complains(&["KILN_CODE_BYTES_MAX", "4K"]);
        kiln_in(&[("KILN_COMPILE_THREADS", "65")], command)
            .exits(2)
            .complains(&["KILN_COMPILE_THREADS=\"65\"", "0 to 64 threads"]);
    }
}

#[test]
fn variables_of_tests_do_no_harm() {
    let vars = [("KILN_TEST_SEED", "1"), ("KILN_FIXTURES", "/nowhere")];
    kiln_in(&vars, &["run", "0x00"]).exits(0);
}

#[test]
fn variables_reach_the_engine_and_arguments_win() {
    let seen = [("KILN_COMPILE", "seen")];
    let recorded = |ran: &Ran| counter(ran, "recorded_instructions");
    assert_eq!(recorded(&replay(&[], ["--tier", "evaluator"])), 0);
    assert_ne!(recorded(&replay(&seen, ["--tier", "evaluator"])), 0);
    assert_eq!(recorded(&replay(&seen, ["--tier", "evaluator", "--compile", "all"])), 0);

    let evaluator = [("KILN_BACKEND", "evaluator")];
    let ran = replay(&evaluator, ["--tier", "auto"]);
    assert_ne!(counter(&ran, "programs"), 0);
    assert_eq!(counter(&ran, "code_bytes"), 0);
}

#[test]
fn the_off_switch() {
    let off = [("KILN_ENABLED", "false")];
    let ran = replay(&off, ["--tier", "auto"]).prints(&["exchange", "0.00%", "ok"]);
    assert_eq!((counter(&ran, "lookups"), counter(&ran, "programs")), (0, 0));
    // To name a compiler is to ask for it.
    assert_ne!(counter(&replay(&off, ["--tier", "evaluator"]), "programs"), 0);
}

#[test]
fn limits_hold_for_compile_too() {
    let vars = [("KILN_CODE_LEN_MAX", "1")];
    kiln_in(&vars, &["compile", "0x6001"]).exits(2).complains(&["over the limit of 1"]);
    kiln_in(&[("KILN_CODE_LEN_MAX", "1K")], &["compile", "0x6001", "--emit", "cfg"]).exits(0);
}
