//! Masks, shifts, bytes.
//!
//! **Owns** operations that move bits without carries. **Callers guarantee** amounts and indices that are in
//! range. **Never** shifts by an amount that is not constant: that is for helpers.

use super::{
    Lower,
    word::{Limb, Limbs},
};

impl Lower<'_, '_> {
    /// An operation on limbs of the same number.
    pub(super) fn limbwise(
        &mut self,
        a: Limbs,
        b: Limbs,
        limbs: usize,
        op: impl Fn(&mut Self, Limb, Limb) -> Limb,
    ) -> Limbs {
        let mut result = Limbs::ZERO;
        for k in 0..limbs {
            result.0[k] = op(self, a.0[k], b.0[k]);
        }
        result
    }

    /// `a << amount`, the lowest limbs of it.
    pub(super) fn shl(&mut self, a: Limbs, amount: u32, limbs: usize) -> Limbs {
        let (whole, bits) = (amount as usize / 64, amount % 64);
        let mut result = Limbs::ZERO;
        for k in whole..limbs {
            let up = self.shl_limb(a.0[k - whole], bits);
            result.0[k] = match (k - whole).checked_sub(1) {
                Some(below) if bits != 0 => {
                    let carried = self.shr_limb(a.0[below], 64 - bits);
                    self.or_limb(up, carried)
                }
                _ => up,
            };
        }
        result
    }

    /// `a >> amount`; what comes in above the highest limb is `above`: zero, or the sign.
    pub(super) fn shr(&mut self, a: Limbs, amount: u32, limbs: usize, above: Limb) -> Limbs {
        let (whole, bits) = (amount as usize / 64, amount % 64);
        let mut result = Limbs::ZERO;
        let limb = |k: usize| a.0.get(k).copied().unwrap_or(above);
        for k in 0..limbs {
            let low = limb(k + whole);
            result.0[k] = if bits == 0 || k + whole >= 4 {
                low
            } else {
                let down = self.shr_limb(low, bits);
                let carried = self.shl_limb(limb(k + whole + 1), 64 - bits);
                self.or_limb(down, carried)
            };
        }
        result
    }

    /// `a >> amount`, the sign comes in.
    pub(super) fn sar(&mut self, a: Limbs, amount: u32, limbs: usize) -> Limbs {
        let sign = self.sar_limb(a.0[3], 63);
        self.shr(a, amount, limbs, sign)
    }

    /// Byte `index` of `a`, from the most significant.
    pub(super) fn byte(&mut self, a: Limbs, index: u32) -> Limbs {
        let low = 31 - index;
        let down = self.shr_limb(a.0[low as usize / 8], low % 8 * 8);
        Limbs::narrow(self.and_limb(down, Limb::Const(0xff)))
    }

    /// `a` sign-extended from byte `index`, counted from the least significant.
    pub(super) fn signextend(&mut self, a: Limbs, index: u32) -> Limbs {
        let (limb, unused) = (index as usize / 8, 56 - index % 8 * 8);
        let up = self.shl_limb(a.0[limb], unused);
        let value = self.sar_limb(up, unused);
        let sign = self.sar_limb(value, 63);
        let mut result = a;
        result.0[limb] = value;
        result.0[limb + 1..].fill(sign);
        result
    }
}
