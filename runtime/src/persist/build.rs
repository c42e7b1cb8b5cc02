//! Which build and CPU code was made by and for, as the store's keys have it.
//!
//! **Owns** the list of what that is. **Never** has in it what is checked when an artifact is loaded (limits) or asked
//! for when code runs (gas parameters).

use kiln_ir::{Limits, identity::Identity};
use kiln_store::{Digest, FORMAT};

/// This crate's sources: code calls its helpers, and relies on what they do.
const SOURCE: &str = env!("SOURCE_DIGEST");

/// Of everything that makes the code of one process differ from that of another one, or unfit for it, for the same
/// bytecode and configuration: the sources of the crates that make code and of this one, Cranelift's version, the layout
/// that code relies on, the CPU's features, and the options that are baked into code (`Limits::perturb`). An artifact is
/// found under it only.
#[must_use]
pub fn build_digest(limits: &Limits) -> Digest {
    let identity = Identity::ours()
        .with(kiln_tier0::SOURCE)
        .with(kiln_tier0::CRANELIFT)
        .with(kiln_tier1::SOURCE)
        .with(SOURCE);
    let perturb = limits.perturb.bits();
    Digest::of(format!("store {FORMAT}, {identity}, perturb {perturb}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::Perturb;

    #[test]
    fn options_that_code_has_in_it_make_another_build() {
        let limits = Limits::default();
        assert_eq!(build_digest(&limits), build_digest(&Limits { insts_max: 7, ..limits }));
        for bits in 1..16 {
            let perturb = Perturb::from_bits(bits).unwrap();
            assert_ne!(build_digest(&limits), build_digest(&Limits { perturb, ..limits }));
        }
    }
}
