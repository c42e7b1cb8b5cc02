//! What the code of a region is made from.
//!
//! **Owns** the way from a function's parts through Cranelift's source locations to ranges of machine code, for
//! listings. **Callers guarantee** nothing. **Never** is used for code that is to run: locations cost time.

use cranelift_codegen::{Final, MachSrcLoc, ir::SourceLoc};
use kiln_abi::Pc;
use kiln_ir::ssa::BlockId;
use std::fmt;

/// The part of a function that code is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What lies around the body: the entry, the way out, thunks.
    Frame,
    /// The check of the stack range.
    Head,
    /// The gas of a block.
    Charge(BlockId),
    /// The instructions of the function that are made from this one of the bytecode.
    Inst(Pc),
    /// The terminator of a block, with its edges.
    End(BlockId),
    /// What ways out share.
    Exits,
    /// What no part asked for: the native frame, moves between registers.
    Generator,
}

/// The kind is in the two highest bits; pcs of what compiles are below them.
const CHARGE: u32 = 1 << 30;
const END: u32 = 2 << 30;
const OTHER: u32 = 3 << 30;
const KIND: u32 = 3 << 30;

impl Origin {
    /// The number that Cranelift carries along; none for what it makes of itself.
    pub(super) fn location(self) -> SourceLoc {
        SourceLoc::new(match self {
            Self::Inst(Pc(pc)) => pc & !KIND,
            Self::Charge(BlockId(block)) => CHARGE | block & !KIND,
            Self::End(BlockId(block)) => END | block & !KIND,
            Self::Head => OTHER,
            Self::Exits => OTHER | 1,
            Self::Frame | Self::Generator => return SourceLoc::default(),
        })
    }

    /// The part with this number.
    pub(super) fn of(location: SourceLoc) -> Self {
        let bits = location.bits();
        let block = BlockId(bits & !KIND);
        match bits & KIND {
            0 => Self::Inst(Pc(bits)),
            CHARGE => Self::Charge(block),
            END => Self::End(block),
            _ if location == Self::Head.location() => Self::Head,
            _ if location == Self::Exits.location() => Self::Exits,
            _ => Self::Generator,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame => f.write_str("around the body"),
            Self::Head => f.write_str("check of the stack range"),
            Self::Charge(block) => write!(f, "gas of {block}"),
            Self::Inst(pc) => write!(f, "{pc}"),
            Self::End(block) => write!(f, "end of {block}"),
            Self::Exits => f.write_str("ways out"),
            Self::Generator => f.write_str("native frame and moves"),
        }
    }
}

/// Where in the text the code of each part begins: ascending, from 0 on. The same part may come several times.
pub type Origins = Vec<(usize, Origin)>;

/// The parts of a text with a body, in which these are known.
pub(super) fn origins(body: core::ops::Range<usize>, known: &[MachSrcLoc<Final>]) -> Origins {
    let mut origins: Origins = Vec::with_capacity(known.len() + 4);
    let mut begin = |at: usize, origin: Origin| {
        if let Some(last) = origins.last_mut()
            && last.0 == at
        {
            last.1 = origin;
        } else if origins.last().is_none_or(|last| last.1 != origin) {
            origins.push((at, origin));
        }
    };
    begin(0, Origin::Frame);
    let mut end = body.start;
    for part in known {
        let start = body.start + part.start as usize;
        if start > end {
            begin(end, Origin::Generator);
        }
        begin(start, Origin::of(part.loc));
        end = body.start + part.end as usize;
    }
    if end < body.end {
        begin(end, Origin::Generator);
    }
    begin(body.end, Origin::Frame);
    origins
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart() {
        let all = [
            Origin::Head,
            Origin::Exits,
            Origin::Generator,
            Origin::Inst(Pc(0)),
            Origin::Inst(Pc(0x1f_ffff)),
            Origin::Charge(BlockId(0)),
            Origin::Charge(BlockId(63)),
            Origin::End(BlockId(0)),
            Origin::End(BlockId(63)),
        ];
        for origin in all {
            assert_eq!(Origin::of(origin.location()), origin);
        }
    }

    #[test]
    fn gaps_are_the_generators() {
        let at = |start, end, origin: Origin| MachSrcLoc { start, end, loc: origin.location() };
        let (a, b) = (Origin::Inst(Pc(1)), Origin::Inst(Pc(2)));
        let known = [at(4, 8, a), at(8, 9, a), at(12, 16, b)];
        let expected = [
            (0, Origin::Frame),
            (32, Origin::Generator),
            (36, a),
            (41, Origin::Generator),
            (44, b),
            (48, Origin::Generator),
            (50, Origin::Frame),
        ];
        assert_eq!(origins(32..50, &known), expected);
        assert_eq!(origins(32..32, &[]), [(0, Origin::Frame)]);
    }
}
