//! How an operand gets onto the stack.
//!
//! **Owns** the instructions after which a compiler knows all, nothing, or some of a word. **Callers guarantee**
//! that calldata is what was collected here. **Never** changes the value.

use crate::combine::Known;
use kiln_tests::asm::push_word;
use revm::bytecode::opcode as op;
use revm::primitives::U256;

/// Code, and the calldata it reads.
#[derive(Clone, Debug, Default)]
pub(crate) struct Emitter {
    pub(crate) code: Vec<u8>,
    pub(crate) calldata: Vec<u8>,
    /// Operands known in part so far: each gets another way.
    narrow: usize,
}

impl Emitter {
    /// The `nth` one of many: the ways to know some of a word are taken in turn.
    pub(crate) fn new(nth: usize) -> Self {
        Self { narrow: nth, ..Self::default() }
    }

    pub(crate) fn push(&mut self, value: U256) {
        push_word(&mut self.code, value);
    }

    pub(crate) fn push_small(&mut self, value: usize) {
        self.push(U256::from(value));
    }

    /// The value as an operand.
    pub(crate) fn operand(&mut self, value: U256, known: Known) {
        match known {
            Known::All => self.push(value),
            Known::Nothing => self.unknown(value),
            Known::Some => self.narrow(value),
        }
    }

    fn unknown(&mut self, value: U256) {
        self.push_small(self.calldata.len());
        self.code.push(op::CALLDATALOAD);
        self.calldata.extend(value.to_be_bytes::<32>());
    }

    fn narrow(&mut self, value: U256) {
        self.narrow += 1;
        let zeros = value.trailing_zeros();
        match self.narrow % 3 {
            // A truth.
            0 if value <= U256::from(1) => {
                self.unknown(U256::from(value.is_zero()));
                self.code.push(op::ISZERO);
            }
            // The sign of few bytes.
            _ if short_signed(value).is_some() => self.extended(value),
            // A few bits above zeros.
            0 if !value.is_zero() && zeros >= 64 => {
                let limbs = zeros / 64 * 64;
                self.masked(value >> limbs, 1);
                self.push_small(limbs);
                self.code.push(op::SHL);
            }
            // A few bits that were the highest.
            1 if value.bit_len() < 256 => {
                let by = (256 - value.bit_len()) / 8 * 8;
                self.unknown(value << by | high_garbage(by));
                self.push_small(by);
                self.code.push(op::SHR);
            }
            _ => self.masked(value, 8),
        }
    }

    /// ANDed with a mask of whole pieces of so many bits; what it masks is not zero.
    fn masked(&mut self, value: U256, piece: usize) {
        let piece_mask = (U256::from(1) << piece) - U256::from(1);
        let mask = (0..256 / piece).map(|at| piece_mask << (at * piece));
        let mask =
            mask.filter(|&mask| !(value & mask).is_zero()).fold(U256::ZERO, |all, mask| all | mask);
        // Zero has no bits: then the lowest byte.
        let mask = if mask.is_zero() { U256::from(0xff) } else { mask };
        let garbage = if value.is_zero() { U256::from(0x5a00) } else { !mask };
        self.push(mask);
        self.unknown(value | garbage);
        self.code.push(op::AND);
    }

    fn extended(&mut self, value: U256) {
        let bytes = short_signed(value).unwrap_or(32);
        let up = 256 - 8 * bytes;
        // Above the bytes stands something else.
        self.unknown((value << up) >> up | U256::from(0x1234) << (8 * bytes));
        self.push_small(bytes - 1);
        self.code.push(op::SIGNEXTEND);
    }
}

/// Bits below those that a shift to the right keeps.
fn high_garbage(by: usize) -> U256 {
    (U256::from(1) << by) - U256::from(1)
}

/// The bytes of a negative word that say all of it, if there are few.
fn short_signed(value: U256) -> Option<usize> {
    let bits = (!value).bit_len() + 1;
    let bytes = bits.div_ceil(8);
    (value.bit(255) && bytes <= 16).then_some(bytes)
}

#[test]
fn operands_are_the_value() {
    use crate::table::words;
    use kiln_tests::{Case, db::CaseDb, engine::oracle};
    use revm::primitives::hardfork::SpecId;
    for operand in words() {
        for nth in 0..9 {
            let (mut emitter, known) = (Emitter::new(nth / 3), Known::ALL[nth % 3]);
            emitter.operand(operand.value, known);
            emitter.code.extend([op::PUSH0, op::MSTORE, op::MSIZE, op::PUSH0, op::RETURN]);
            let mut case = Case::of_code(SpecId::OSAKA, emitter.code);
            case.calldata = emitter.calldata;
            let outcome = oracle(&case, &CaseDb::new(&case));
            let output = outcome.transactions[0].output().to_vec();
            assert_eq!(output, operand.value.to_be_bytes::<32>(), "{operand:?} {known:?}\n{case}");
        }
    }
}
