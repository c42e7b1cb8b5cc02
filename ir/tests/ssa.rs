//! SSA regions against a plain interpreter, from seeds: `kiln_ir_tests::regions`.

use kiln_ir_tests::host::code;
use kiln_ir_tests::program;
use kiln_ir_tests::regions::{Seen, compare};

#[test]
fn random_code() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut seen = Seen::default();
    let rounds = 20_000;
    for _ in 0..rounds {
        let gas = rng.u64(..2_000);
        compare(code(&mut rng), gas, &mut rng, &mut seen);
    }
    assert!(seen.entered > rounds / 2, "functions were hardly ever entered: {}", seen.entered);
}

#[test]
fn structured_code() {
    let mut rng = fastrand::Rng::with_seed(6);
    let mut seen = Seen::default();
    let rounds = 4_000;
    for _ in 0..rounds {
        let (budget, gas) = (rng.usize(1..40), rng.u64(..20_000));
        compare(program(&mut rng, budget), gas, &mut rng, &mut seen);
    }
    assert!(seen.entered > rounds * 3, "functions were hardly ever entered: {}", seen.entered);
    assert!(seen.loops > rounds, "few functions loop: {}", seen.loops);
    assert!(seen.blocks > rounds * 8, "functions are small: {}", seen.blocks);
}
