//! A bounded number of generated cases on all engines. `KILN_TEST_SEED` and `KILN_TEST_CASES`
//! choose which; a failure prints the seed and a minimised case, ready to be committed.

use kiln_tests::compare::check;
use kiln_tests::engine::{Engines, Kind};
use kiln_tests::generate::seeded;
use kiln_tests::minimise::minimise;

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

#[test]
fn generated_cases() {
    let engines = Engines::new().expect("engines start");
    let first = number("KILN_TEST_SEED", 1);
    let count = number("KILN_TEST_CASES", 3000);
    for seed in first..first + count {
        let case = seeded(seed);
        let Some(difference) = check(&engines, Kind::thinned(Kind::COMPARED, seed), &case) else {
            if seed % 256 == 0 {
                engines.clear();
            }
            continue;
        };
        engines.clear();
        let fails = |case: &_| check(&engines, &[difference.kind], case).is_some();
        let small = if fails(&case) { minimise(case, fails) } else { case };
        let again = check(&engines, &[difference.kind], &small);
        let again = again.map_or_else(|| difference.to_string(), |again| again.to_string());
        panic!("KILN_TEST_SEED={seed}\n{again}\n\n{small}");
    }
}
