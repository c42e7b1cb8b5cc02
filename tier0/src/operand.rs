//! What is patched in a stencil: fields, and the magic values they are recognised by.
//!
//! **Owns** the fields of a stencil and their magic values. **Callers guarantee** that a stencil
//! uses a field only as its comment says. **Never** sees machine code.

/// A value that differs from use to use of a stencil.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub(crate) enum Field {
    /// Byte offset of the destination slot from the stack pointer.
    Dst,
    /// Byte offset of the first operand's slot.
    A,
    /// Byte offset of the second operand's slot.
    B,
    /// A constant below 2^31, an exit, an amount of gas, a memory offset.
    Imm,
    /// A second such constant.
    Len,
    /// A shift amount below 64.
    Bits,
    /// 64 less [`Field::Bits`].
    Rest,
    /// A constant of 64 bits.
    Wide,
    /// A constant from -2^31 to -1.
    Signed,
}

/// Number of fields.
pub(crate) const FIELDS: usize = 9;

impl Field {
    /// Fields that stand in a 32-bit immediate or displacement, which may become an 8-bit one.
    pub(crate) const LONG: [Self; 6] =
        [Self::Dst, Self::A, Self::B, Self::Imm, Self::Len, Self::Signed];
    /// Fields that stand in an 8-bit immediate.
    pub(crate) const BYTE: [Self; 2] = [Self::Bits, Self::Rest];
}

/// The values that stand for the fields while a stencil is authored. Two sets, so that a byte that
/// depends on a field is seen as a difference.
pub(crate) struct Magic {
    values: [i64; FIELDS],
}

impl Magic {
    /// The two sets. All long ones are at least 2^24 apart, so that `value + 8 * limb` names one
    /// field, and larger than any displacement or constant a stencil has of its own.
    pub(crate) const SETS: [Self; 2] = [
        Self {
            values: [
                0x1153_10c5,
                0x1298_4325,
                0x13a7_5d45,
                0x1437_7a5d,
                0x1561_93b9,
                13,
                51,
                0,
                -0x1a53_86c9,
            ],
        },
        Self {
            values: [
                0x2b34_2365,
                0x2c1f_4ea5,
                0x2d83_6b85,
                0x2e5c_9183,
                0x2fc7_b4d7,
                23,
                41,
                0,
                -0x29a7_4e35,
            ],
        },
    ];

    /// The value that stands for a field.
    pub(crate) const fn of(&self, field: Field) -> i64 {
        self.values[field as usize]
    }

    /// The field a 32-bit immediate or displacement stands for, and what is added to it.
    pub(crate) fn long(&self, value: i32) -> Option<(Field, u8)> {
        Field::LONG.into_iter().find_map(|field| {
            let add = i64::from(value) - self.of(field);
            (0..32).contains(&add).then_some((field, add as u8))
        })
    }

    /// The field an 8-bit immediate stands for.
    pub(crate) fn byte(&self, value: u8) -> Option<Field> {
        Field::BYTE.into_iter().find(|&field| self.of(field) == i64::from(value))
    }
}
