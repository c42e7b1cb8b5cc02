//! Keccak-f[1600] (FIPS 202, 3.2 to 3.4), once in Rust and compiled for three kinds of CPU.
//!
//! **Owns** the permutation. **Callers guarantee** nothing: a variant for a CPU can only be had where
//! that CPU was detected. **Never** knows what is hashed.
//!
//! The `keccak` crate is not used because its permutation is reached through a function pointer and so
//! is always compiled for the baseline CPU, and assembler needs Perl and an assembler to build; both
//! are slower here than what the compiler makes of this file once it may use three-input logic.

/// The lanes of the state, x first: `state[x + 5 * y]`, each little-endian.
pub(super) type State = [u64; 25];

/// Iota's constants.
const ROUND_CONSTANTS: [u64; 24] = [
    0x0000_0000_0000_0001,
    0x0000_0000_0000_8082,
    0x8000_0000_0000_808a,
    0x8000_0000_8000_8000,
    0x0000_0000_0000_808b,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8009,
    0x0000_0000_0000_008a,
    0x0000_0000_0000_0088,
    0x0000_0000_8000_8009,
    0x0000_0000_8000_000a,
    0x0000_0000_8000_808b,
    0x8000_0000_0000_008b,
    0x8000_0000_0000_8089,
    0x8000_0000_0000_8003,
    0x8000_0000_0000_8002,
    0x8000_0000_0000_0080,
    0x0000_0000_0000_800a,
    0x8000_0000_8000_000a,
    0x8000_0000_8000_8081,
    0x8000_0000_0000_8080,
    0x0000_0000_8000_0001,
    0x8000_0000_8000_8008,
];

/// A round over 25 lanes, with the `xor3`, `rotate`, `chi` and `xor` of the module it is used in.
/// Straight-line code, so that no lane is addressed and the compiler can hold them in registers.
macro_rules! round {
    ($a:ident, $constant:expr) => {{
        let column = |x: usize| xor3(xor3($a[x], $a[x + 5], $a[x + 10]), $a[x + 15], $a[x + 20]);
        // Theta adds to each lane the parities of the columns on its left and right.
        let (p0, p1, p2, p3, p4) = (column(0), column(1), column(2), column(3), column(4));
        let (l0, l1, l2, l3, l4) = (p4, p0, p1, p2, p3);
        let (r0, r1, r2, r3, r4) =
            (rotate::<1>(p1), rotate::<1>(p2), rotate::<1>(p3), rotate::<1>(p4), rotate::<1>(p0));
        // Rho rotates, pi moves: what becomes row y, in the order of x. Then chi.
        let row =
            |a, b, c, d, e| [chi(a, b, c), chi(b, c, d), chi(c, d, e), chi(d, e, a), chi(e, a, b)];
        let y0 = row(
            xor3($a[0], l0, r0),
            rotate::<44>(xor3($a[6], l1, r1)),
            rotate::<43>(xor3($a[12], l2, r2)),
            rotate::<21>(xor3($a[18], l3, r3)),
            rotate::<14>(xor3($a[24], l4, r4)),
        );
        let y1 = row(
            rotate::<28>(xor3($a[3], l3, r3)),
            rotate::<20>(xor3($a[9], l4, r4)),
            rotate::<3>(xor3($a[10], l0, r0)),
            rotate::<45>(xor3($a[16], l1, r1)),
            rotate::<61>(xor3($a[22], l2, r2)),
        );
        let y2 = row(
            rotate::<1>(xor3($a[1], l1, r1)),
            rotate::<6>(xor3($a[7], l2, r2)),
            rotate::<25>(xor3($a[13], l3, r3)),
            rotate::<8>(xor3($a[19], l4, r4)),
            rotate::<18>(xor3($a[20], l0, r0)),
        );
        let y3 = row(
            rotate::<27>(xor3($a[4], l4, r4)),
            rotate::<36>(xor3($a[5], l0, r0)),
            rotate::<10>(xor3($a[11], l1, r1)),
            rotate::<15>(xor3($a[17], l2, r2)),
            rotate::<56>(xor3($a[23], l3, r3)),
        );
        let y4 = row(
            rotate::<62>(xor3($a[2], l2, r2)),
            rotate::<55>(xor3($a[8], l3, r3)),
            rotate::<39>(xor3($a[14], l4, r4)),
            rotate::<41>(xor3($a[15], l0, r0)),
            rotate::<2>(xor3($a[21], l1, r1)),
        );
        [
            xor(y0[0], $constant),
            y0[1],
            y0[2],
            y0[3],
            y0[4],
            y1[0],
            y1[1],
            y1[2],
            y1[3],
            y1[4],
            y2[0],
            y2[1],
            y2[2],
            y2[3],
            y2[4],
            y3[0],
            y3[1],
            y3[2],
            y3[3],
            y3[4],
            y4[0],
            y4[1],
            y4[2],
            y4[3],
            y4[4],
        ]
    }};
}

/// 64-bit registers.
mod scalar {
    use super::{ROUND_CONSTANTS, State};

    #[inline(always)]
    fn xor(a: u64, b: u64) -> u64 {
        a ^ b
    }

    #[inline(always)]
    fn xor3(a: u64, b: u64, c: u64) -> u64 {
        a ^ b ^ c
    }

    #[inline(always)]
    fn chi(a: u64, b: u64, c: u64) -> u64 {
        a ^ (!b & c)
    }

    #[inline(always)]
    fn rotate<const BITS: u32>(a: u64) -> u64 {
        a.rotate_left(BITS)
    }

    #[inline(always)]
    fn permute(state: &mut State) {
        let mut lanes = *state;
        // Registers are too few for 25 lanes: between rounds they move in memory, which unrolling
        // saves (285 against 260 ns with BMI). Vector registers are enough; there it costs.
        for [a, b, c, d] in ROUND_CONSTANTS.as_chunks::<4>().0 {
            lanes = round!(lanes, *a);
            lanes = round!(lanes, *b);
            lanes = round!(lanes, *c);
            lanes = round!(lanes, *d);
        }
        *state = lanes;
    }

    /// For any CPU.
    pub(super) fn portable(state: &mut State) {
        permute(state);
    }

    /// With three-operand `andn` and `rorx`.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "bmi1,bmi2")]
    pub(super) fn bmi(state: &mut State) {
        permute(state);
    }
}

/// A lane in each of 25 of the 32 vector registers, with three-input logic and rotation: 91
/// instructions a round. 128-bit vectors of which one half is used: nothing lowers the clock.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{ROUND_CONSTANTS, State};
    use std::arch::x86_64::{
        __m128i, _mm_cvtsi64_si128, _mm_cvtsi128_si64, _mm_rol_epi64, _mm_setzero_si128,
        _mm_ternarylogic_epi64, _mm_xor_si128,
    };

    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn xor(a: __m128i, b: __m128i) -> __m128i {
        _mm_xor_si128(a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn xor3(a: __m128i, b: __m128i, c: __m128i) -> __m128i {
        _mm_ternarylogic_epi64::<0b1001_0110>(a, b, c)
    }

    /// `a ^ (!b & c)`: bit `4a + 2b + c` of the truth table.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn chi(a: __m128i, b: __m128i, c: __m128i) -> __m128i {
        _mm_ternarylogic_epi64::<0b1101_0010>(a, b, c)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vl")]
    fn rotate<const BITS: i32>(a: __m128i) -> __m128i {
        _mm_rol_epi64::<BITS>(a)
    }

    #[target_feature(enable = "avx512f,avx512vl")]
    pub(super) fn permute(state: &mut State) {
        // No `map`: inside of it the instructions are not known to exist, and become calls.
        let mut lanes = [_mm_setzero_si128(); 25];
        for (lane, word) in lanes.iter_mut().zip(&*state) {
            *lane = _mm_cvtsi64_si128(*word as i64);
        }
        for constant in &ROUND_CONSTANTS {
            lanes = round!(lanes, _mm_cvtsi64_si128(*constant as i64));
        }
        for (word, lane) in state.iter_mut().zip(lanes) {
            *word = _mm_cvtsi128_si64(lane) as u64;
        }
    }
}

/// Which variant this CPU runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permutation(Variant);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Bmi,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Permutation {
    /// For any CPU.
    #[cfg(test)]
    pub(super) const PORTABLE: Self = Self(Variant::Portable);

    /// The fastest one; std caches what it learns about the CPU, so this is a load and a test.
    #[inline]
    pub(super) fn fastest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if let Some(permutation) = Self::avx512() {
                return permutation;
            }
            if let Some(permutation) = Self::bmi() {
                return permutation;
            }
        }
        Self(Variant::Portable)
    }

    /// If the CPU has 128-bit AVX-512 instructions.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn avx512() -> Option<Self> {
        (is_x86_feature_detected!("avx512vl") && is_x86_feature_detected!("avx512f"))
            .then_some(Self(Variant::Avx512))
    }

    /// If the CPU has BMI1 and BMI2.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(super) fn bmi() -> Option<Self> {
        (is_x86_feature_detected!("bmi1") && is_x86_feature_detected!("bmi2"))
            .then_some(Self(Variant::Bmi))
    }

    /// Permutes the state.
    #[inline]
    pub(super) fn apply(self, state: &mut State) {
        match self.0 {
            Variant::Portable => scalar::portable(state),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `bmi`, the only source of this variant, saw the features.
            Variant::Bmi => unsafe { scalar::bmi(state) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `avx512`, the only source of this variant, saw the features.
            Variant::Avx512 => unsafe { avx512::permute(state) },
        }
    }
}
