//! What the code of a region is made from, in Cranelift.
//!
//! **Owns** the way of a part's number through Cranelift's source locations. **Callers guarantee** nothing.
//! **Never** is used for code that is to run: locations cost time.

use cranelift_codegen::{Final, MachSrcLoc, ir::SourceLoc};
use kiln_ir::ssa::{Origin, Origins};

/// The location that Cranelift carries along.
pub(super) fn location(origin: Origin) -> SourceLoc {
    origin.number().map_or_else(SourceLoc::default, SourceLoc::new)
}

/// The part with this location.
pub(super) fn of(location: SourceLoc) -> Origin {
    Origin::of(location.bits())
}

/// The parts of a text with a body, in which these are known.
pub(super) fn origins(body: core::ops::Range<usize>, known: &[MachSrcLoc<Final>]) -> Origins {
    let known = known.iter().map(|part| (part.start as usize..part.end as usize, of(part.loc)));
    kiln_ir::ssa::origins(body, known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_abi::Pc;

    #[test]
    fn locations_come_back() {
        for origin in [Origin::Head, Origin::Generator, Origin::Inst(Pc(0x1f_ffff))] {
            assert_eq!(of(location(origin)), origin);
        }
    }
}
