//! Words as limbs.
//!
//! **Owns** what a value of a region is inside compiled code: four limbs, each of which is a constant or a
//! 64-bit value, so that limbs that are known cost nothing; and the operations on single limbs. **Callers
//! guarantee** nothing. **Never** knows what an instruction of a region means.

use super::Lower;
use cranelift_codegen::ir::{InstBuilder, Value, types::*};
use kiln_abi::Word;
use kiln_ir::ssa::demand::LimbSet;

/// 64 bits of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limb {
    /// Known.
    Const(u64),
    /// Computed.
    Value(Value),
}

impl Limb {
    pub(super) const ZERO: Self = Self::Const(0);

    /// Whether it is known to be zero.
    pub(super) fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

/// A word, least significant limb first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limbs(pub [Limb; 4]);

impl Limbs {
    pub(super) const ZERO: Self = Self([Limb::ZERO; 4]);

    pub(super) fn constant(word: Word) -> Self {
        Self(word.0.map(Limb::Const))
    }

    /// A word of one limb.
    pub(super) fn narrow(limb: Limb) -> Self {
        Self([limb, Limb::ZERO, Limb::ZERO, Limb::ZERO])
    }

    /// These limbs, zeros in place of the others.
    pub(super) fn only(self, set: LimbSet) -> Self {
        let mut only = self;
        for (k, limb) in only.0.iter_mut().enumerate() {
            if set >> k & 1 == 0 {
                *limb = Limb::ZERO;
            }
        }
        only
    }

    /// Limbs up to the highest that may be other than zero.
    pub(super) fn len(&self) -> usize {
        self.0.iter().rposition(|limb| !limb.is_zero()).map_or(0, |top| top + 1)
    }

    /// Its value, if all of it is known.
    pub(super) fn known(&self) -> Option<Word> {
        let mut word = Word::ZERO;
        for (known, limb) in word.0.iter_mut().zip(self.0) {
            match limb {
                Limb::Const(value) => *known = value,
                Limb::Value(_) => return None,
            }
        }
        Some(word)
    }
}

impl Lower<'_, '_> {
    /// A 64-bit constant.
    pub(super) fn iconst(&mut self, value: u64) -> Value {
        self.b.ins().iconst(I64, value as i64)
    }

    /// A limb as a value.
    pub(super) fn value(&mut self, limb: Limb) -> Value {
        match limb {
            Limb::Const(value) => self.iconst(value),
            Limb::Value(value) => value,
        }
    }

    /// Two limbs as one value of 128 bits. A zero above is an extension: Cranelift has shorter code for it.
    pub(super) fn pair(&mut self, low: Limb, high: Limb) -> Value {
        let low = self.value(low);
        if high.is_zero() {
            return self.b.ins().uextend(I128, low);
        }
        let high = self.value(high);
        self.b.ins().iconcat(low, high)
    }

    /// The limbs of a value of 128 bits.
    pub(super) fn split(&mut self, pair: Value) -> [Limb; 2] {
        let (low, high) = self.b.ins().isplit(pair);
        [Limb::Value(low), Limb::Value(high)]
    }

    /// A truth value of 8 bits as a limb.
    pub(super) fn flag(&mut self, flag: Value) -> Limb {
        Limb::Value(self.b.ins().uextend(I64, flag))
    }

    pub(super) fn and_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Limb::Const(a), Limb::Const(b)) => Limb::Const(a & b),
            (Limb::Const(0), _) | (_, Limb::Const(0)) => Limb::ZERO,
            (Limb::Const(u64::MAX), other) | (other, Limb::Const(u64::MAX)) => other,
            (a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().band(a, b))
            }
        }
    }

    pub(super) fn or_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Limb::Const(a), Limb::Const(b)) => Limb::Const(a | b),
            (Limb::Const(0), other) | (other, Limb::Const(0)) => other,
            (Limb::Const(u64::MAX), _) | (_, Limb::Const(u64::MAX)) => Limb::Const(u64::MAX),
            (a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().bor(a, b))
            }
        }
    }

    pub(super) fn xor_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Limb::Const(a), Limb::Const(b)) => Limb::Const(a ^ b),
            (Limb::Const(0), other) | (other, Limb::Const(0)) => other,
            (a, b) if a == b => Limb::ZERO,
            (a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().bxor(a, b))
            }
        }
    }

    /// The sum, less what does not fit.
    pub(super) fn add_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Limb::Const(a), Limb::Const(b)) => Limb::Const(a.wrapping_add(b)),
            (Limb::Const(0), other) | (other, Limb::Const(0)) => other,
            (a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().iadd(a, b))
            }
        }
    }

    pub(super) fn sub_limb(&mut self, a: Limb, b: Limb) -> Limb {
        match (a, b) {
            (Limb::Const(a), Limb::Const(b)) => Limb::Const(a.wrapping_sub(b)),
            (other, Limb::Const(0)) => other,
            (a, b) => {
                let (a, b) = (self.value(a), self.value(b));
                Limb::Value(self.b.ins().isub(a, b))
            }
        }
    }

    /// `limb << bits`, below 64.
    pub(super) fn shl_limb(&mut self, limb: Limb, bits: u32) -> Limb {
        match limb {
            Limb::Const(value) => Limb::Const(value << bits),
            limb if bits == 0 => limb,
            Limb::Value(value) => Limb::Value(self.b.ins().ishl_imm_u(value, i64::from(bits))),
        }
    }

    /// `limb >> bits`, below 64, zeros come in.
    pub(super) fn shr_limb(&mut self, limb: Limb, bits: u32) -> Limb {
        match limb {
            Limb::Const(value) => Limb::Const(value >> bits),
            limb if bits == 0 => limb,
            Limb::Value(value) => Limb::Value(self.b.ins().ushr_imm_u(value, i64::from(bits))),
        }
    }

    /// `limb >> bits`, below 64, the sign comes in.
    pub(super) fn sar_limb(&mut self, limb: Limb, bits: u32) -> Limb {
        match limb {
            Limb::Const(value) => Limb::Const((value as i64 >> bits) as u64),
            limb if bits == 0 => limb,
            Limb::Value(value) => Limb::Value(self.b.ins().sshr_imm_u(value, i64::from(bits))),
        }
    }

    /// The or of limbs.
    pub(super) fn any(&mut self, limbs: &[Limb]) -> Limb {
        limbs.iter().fold(Limb::ZERO, |all, &limb| self.or_limb(all, limb))
    }
}
