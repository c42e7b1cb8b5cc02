//! Which build this is, as far as code that one build made and another one runs must agree.
//!
//! **Owns** the list of what that is: the version, the sources of `kiln-abi` and this crate, the layout that compiled
//! code relies on, the opcode table, and the CPU that the process sees. A worker process and its parent compare it, and
//! what is kept of compiled code is filed under it.
//!
//! **Callers guarantee** that they add what else makes the code they speak of: [`Identity::with`] the `SOURCE` of a
//! back end, the version of its compiler.
//!
//! **Never** finds out what the host has besides: which linker or library is there, what the kernel allows.

use crate::LOWERING;
use kiln_abi::{
    Exit, ExitKind, ExitTable, Fixup, Helper, POLL_BACK_EDGES, Pc, Records, STACK_LIMIT, Slot,
    Source, Word, context_offset,
};
use std::{
    fmt::{self, Write as _},
    sync::LazyLock,
};

/// What must be the same where code is made and where it is run. `Display` names all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Of the workspace's crates.
    pub version: String,
    /// A hash (FNV-1a, 64 bits) of the contract between code and host, the opcode table, the sources of `kiln-abi` and
    /// `kiln-ir`, and what was added by [`Identity::with`].
    pub abi: u64,
    /// A bit for each CPU feature that code may be made for; none on targets that are not x86-64.
    pub cpu: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, abi, cpu } = self;
        write!(f, "version {version}, abi {abi:016x}, cpu {cpu:x}")
    }
}

impl Identity {
    /// This process's.
    #[must_use]
    pub fn ours() -> &'static Self {
        static OURS: LazyLock<Identity> = LazyLock::new(|| Identity {
            version: env!("CARGO_PKG_VERSION").into(),
            abi: abi(),
            cpu: cpu(),
        });
        &OURS
    }

    /// With something else that must be the same, in the hash.
    #[must_use]
    pub fn with(&self, part: &str) -> Self {
        let mut hash = Hash(self.abi);
        // A hash takes everything: there is no error to see.
        let _ = write!(hash, " {} {part}", part.len());
        Self { abi: hash.0, ..self.clone() }
    }
}

/// FNV-1a.
struct Hash(u64);

impl fmt::Write for Hash {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
        Ok(())
    }
}

fn abi() -> u64 {
    let mut hash = Hash(0xcbf2_9ce4_8422_2325);
    // A hash takes everything: there is no error to see.
    let _ = describe(&mut hash);
    hash.0
}

fn describe(hash: &mut Hash) -> fmt::Result {
    for &helper in Helper::ALL {
        write!(hash, "{} {:?} {} ", helper.name(), helper.shape(), helper.offset())?;
    }
    macro_rules! fields {
        ($($field:ident)*) => { $(write!(hash, "{} ", context_offset!($field))?;)* };
    }
    fields!(gas stack_base stack_end mem_base mem_word_limit mem_byte_limit helpers entries entries_len
        code_base poll outcome calldata calldata_len swap_bytes returndata_len caller address msize
        call_value halt runtime);
    write!(hash, "{} {STACK_LIMIT} {POLL_BACK_EDGES} ", size_of::<kiln_abi::Context>())?;
    let mut records = Records::default();
    let packed = records.pack(&sample());
    write!(hash, "{packed} {records:?} {LOWERING:?} {} {}", kiln_abi::SOURCE, crate::SOURCE)
}

/// Exits whose records have everything that records may have.
fn sample() -> ExitTable {
    let fixup = |slot, source| Fixup { slot: Slot(slot), source };
    let fixups = vec![
        fixup(-2, Source::Slot(Slot(1))),
        fixup(0, Source::Const(0)),
        fixup(1, Source::Const(1)),
    ];
    let exit = |kind, gas_back| Exit {
        pc: Pc(0x1234),
        kind,
        moved: -1,
        height: 2,
        gas_back,
        rest: 3,
        fixups_start: 0,
        fixups_len: 3,
    };
    ExitTable {
        exits: vec![
            exit(ExitKind::Interpret, 4),
            exit(ExitKind::Resume, 1 << 20),
            exit(ExitKind::Stop, 4),
            exit(ExitKind::Return, 4),
            exit(ExitKind::Revert, 4),
        ],
        fixups,
        pool: vec![Word::from_u64(7), Word([1, 2, 3, 4])],
    }
}

/// One bit for each feature of a list that only grows at its end.
fn cpu() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! bits {
            ($($feature:tt)*) => {
                [$(std::is_x86_feature_detected!($feature)),*]
            };
        }
        let bits = bits!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "movbe" "lzcnt" "bmi1" "bmi2" "adx" "avx" "avx2"
            "fma" "f16c" "aes" "vaes" "pclmulqdq" "vpclmulqdq" "sha" "gfni" "avx512f" "avx512cd" "avx512bw" "avx512dq"
            "avx512vl" "avx512ifma" "avx512vbmi" "avx512vbmi2" "avx512vnni" "avx512bitalg" "avx512vpopcntdq");
        bits.iter().rev().fold(0, |mask, &bit| mask << 1 | u64::from(bit))
    }
    #[cfg(not(target_arch = "x86_64"))]
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_the_same_each_time_and_covers_what_is_added() {
        let ours = Identity::ours();
        assert_eq!(abi(), ours.abi);
        assert_eq!(ours.version, env!("CARGO_PKG_VERSION"));
        let texts = [
            ours.clone(),
            ours.with(""),
            ours.with("a"),
            ours.with("a").with("b"),
            ours.with("ab"),
        ]
        .map(|identity| identity.to_string());
        for (at, text) in texts.iter().enumerate() {
            assert!(!texts[..at].contains(text), "{text}");
        }
        assert_eq!(ours.with("a"), ours.with("a"));
    }

    #[test]
    fn sources_have_digests_of_their_own() {
        for source in [crate::SOURCE, kiln_abi::SOURCE] {
            assert!(source.len() == 32 && u128::from_str_radix(source, 16).is_ok(), "{source}");
        }
        assert_ne!(crate::SOURCE, kiln_abi::SOURCE);
    }
}
