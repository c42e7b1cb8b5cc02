//! Block IR against a plain interpreter, from seeds: `kiln_ir_tests::blocks`.

use kiln_ir_tests::blocks::{compare, costs};
use kiln_ir_tests::host::code;
use kiln_ir_tests::program;

#[test]
fn random_code() {
    let mut rng = fastrand::Rng::with_seed(5);
    let mut entered = 0;
    let rounds = 20_000;
    for _ in 0..rounds {
        let costs = costs(&mut rng);
        compare(code(&mut rng), rng.u64(..2_000), costs, &mut entered);
    }
    assert!(entered > rounds / 2, "compiled code was hardly ever entered: {entered}");
}

#[test]
fn structured_code() {
    let mut rng = fastrand::Rng::with_seed(6);
    let mut entered = 0;
    let rounds = 2_000;
    for _ in 0..rounds {
        let costs = costs(&mut rng);
        let (budget, gas) = (rng.usize(1..40), rng.u64(..20_000));
        compare(program(&mut rng, budget), gas, costs, &mut entered);
    }
    assert!(entered > rounds, "compiled code was hardly ever entered: {entered}");
}
