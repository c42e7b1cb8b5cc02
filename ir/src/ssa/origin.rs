//! What the code of a function is made from.
//!
//! **Owns** the names of a function's parts, their numbers, and the way from ranges of machine code to a labelled
//! text, for listings. **Callers guarantee** nothing. **Never** is used for code that is to run: back ends carry
//! the numbers through their compilers as source locations, which takes time.

use super::function::BlockId;
use core::{fmt, ops::Range};
use kiln_abi::Pc;

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
    /// What no part asked for, or several did: the native frame, moves between registers.
    Generator,
}

/// The kind is in the two highest bits; pcs of what compiles are below them.
const CHARGE: u32 = 1 << 30;
const END: u32 = 2 << 30;
const OTHER: u32 = 3 << 30;
const KIND: u32 = 3 << 30;
const HEAD: u32 = OTHER;
const EXITS: u32 = OTHER | 1;

impl Origin {
    /// The number that a compiler carries along, below `u32::MAX`; none for what it makes of itself.
    pub fn number(self) -> Option<u32> {
        match self {
            Self::Inst(Pc(pc)) => Some(pc & !KIND),
            Self::Charge(BlockId(block)) => Some(CHARGE | block & !KIND),
            Self::End(BlockId(block)) => Some(END | block & !KIND),
            Self::Head => Some(HEAD),
            Self::Exits => Some(EXITS),
            Self::Frame | Self::Generator => None,
        }
    }

    /// The part with this number; [`Self::Generator`] for any other number.
    pub fn of(number: u32) -> Self {
        let block = BlockId(number & !KIND);
        match number & KIND {
            0 => Self::Inst(Pc(number)),
            CHARGE => Self::Charge(block),
            END => Self::End(block),
            _ if number == HEAD => Self::Head,
            _ if number == EXITS => Self::Exits,
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

/// The parts of a text with a body, of which these are known: ascending ranges of the body, from its begin.
pub fn origins(
    body: Range<usize>,
    known: impl IntoIterator<Item = (Range<usize>, Origin)>,
) -> Origins {
    let mut origins = Origins::new();
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
    for (range, origin) in known {
        let start = body.start + range.start;
        if start > end {
            begin(end, Origin::Generator);
        }
        begin(start, origin);
        end = body.start + range.end;
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
            Origin::Inst(Pc(0)),
            Origin::Inst(Pc(0x1f_ffff)),
            Origin::Charge(BlockId(0)),
            Origin::Charge(BlockId(63)),
            Origin::End(BlockId(0)),
            Origin::End(BlockId(63)),
        ];
        for origin in all {
            let number = origin.number().unwrap();
            assert!(number < u32::MAX);
            assert_eq!(Origin::of(number), origin);
        }
        assert_eq!(Origin::Generator.number(), None);
        assert_eq!(Origin::of(u32::MAX), Origin::Generator);
    }

    #[test]
    fn gaps_are_the_generators() {
        let (a, b) = (Origin::Inst(Pc(1)), Origin::Inst(Pc(2)));
        let known = [(4..8, a), (8..9, a), (12..16, b)];
        let expected = [
            (0, Origin::Frame),
            (32, Origin::Generator),
            (36, a),
            (41, Origin::Generator),
            (44, b),
            (48, Origin::Generator),
            (50, Origin::Frame),
        ];
        assert_eq!(origins(32..50, known), expected);
        assert_eq!(origins(32..32, []), [(0, Origin::Frame)]);
    }
}
