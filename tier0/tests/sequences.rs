//! Sequences of operations against reference arithmetic, from seeds: `kiln_region_tests::stencil`, which a fuzz target
//! drives too.

use kiln_region_tests::stencil::sequence;

#[test]
fn sequences_do_what_they_say() {
    let mut rng = fastrand::Rng::with_seed(11);
    for _ in 0..6_000 {
        let bytes: Vec<u8> = (0..rng.usize(1..200)).map(|_| rng.u8(..)).collect();
        sequence(&bytes);
    }
}
