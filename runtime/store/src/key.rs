//! What an artifact is named by.
//!
//! **Owns** the key and its text, which is the name of the artifact's file. **Callers guarantee** that two builds that
//! could make different code have different [`Key::build`]s. **Never** knows what such a difference may be.

use crate::wire::gas_bytes;
use kiln_ir::Config;
use revm_primitives::{hex, keccak256};
use std::{fmt, str::FromStr};
use thiserror::Error;

/// What an artifact's file name ends with.
const SUFFIX: &str = ".kiln";

/// The first 16 bytes of a BLAKE3 hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 16]);

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::first(&blake3::hash(bytes))
    }

    /// Of what is baked into code: the fork by its name, the static gas of all opcodes, the replaced ones.
    ///
    /// Gas *parameters* (the prices of what an instruction finds out as it runs) are no part of it: compiled code
    /// asks the host for them, and one program serves all of them.
    pub fn of_config(config: &Config) -> Self {
        let Config { spec, gas, replaced } = config;
        let mut hasher = blake3::Hasher::new_derive_key("kiln store: what is baked into code");
        hasher.update(<&str>::from(*spec).as_bytes()).update(&[0]);
        hasher.update(&gas_bytes(gas));
        hasher.update(replaced.words().map(u64::to_le_bytes).as_flattened());
        Self::first(&hasher.finalize())
    }

    fn first(hash: &blake3::Hash) -> Self {
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
        Self(*first)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Which tier made the best of a program. Higher is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rank(u8);

impl Rank {
    /// Stencils only.
    pub const BASELINE: Self = Self(0);
    /// Regions by Cranelift.
    pub const OPTIMISED: Self = Self(1);
    /// Regions by LLVM.
    pub const TIER1: Self = Self(2);
    /// All of them, the lowest first.
    pub const ALL: [Self; 3] = [Self::BASELINE, Self::OPTIMISED, Self::TIER1];

    /// Of this number; none if there is no such rank.
    pub const fn from_u8(rank: u8) -> Option<Self> {
        if rank < 3 { Some(Self(rank)) } else { None }
    }

    /// Its number.
    pub const fn as_u8(self) -> u8 {
        self.0
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "baseline",
            1 => "optimised",
            _ => "tier1",
        }
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What an artifact is named by: all that decides whether its code is the code that would be made now.
///
/// Its text, for [`FromStr`] and [`fmt::Display`], is the name of its file:
/// `{code_hash}-{baked}-{build}-{rank}.kiln`, in lower-case hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Keccak-256 of the bytecode: the true one, whatever a chain calls the code.
    pub code_hash: [u8; 32],
    /// Of what is baked in: [`Digest::of_config`].
    pub baked: Digest,
    /// Of what made it: the build, the CPU, the options that end up in code.
    pub build: Digest,
    /// Which tier made it.
    pub rank: Rank,
}

impl Key {
    /// Of this code, with this baked in, by this build.
    pub fn new(bytecode: &[u8], config: &Config, build: Digest, rank: Rank) -> Self {
        Self { code_hash: code_hash(bytecode), baked: Digest::of_config(config), build, rank }
    }
}

/// Keccak-256.
pub(crate) fn code_hash(bytecode: &[u8]) -> [u8; 32] {
    keccak256(bytecode).0
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { code_hash, baked, build, rank } = self;
        write!(f, "{}-{baked}-{build}-{rank}{SUFFIX}", hex::encode(code_hash))
    }
}

/// Not the text of a [`Key`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the name of an artifact")]
pub struct ParseKeyError;

impl FromStr for Key {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let stem = text.strip_suffix(SUFFIX).ok_or(ParseKeyError)?;
        let mut parts = stem.split('-');
        let code_hash = parse_hex(parts.next())?;
        let (baked, build) = (Digest(parse_hex(parts.next())?), Digest(parse_hex(parts.next())?));
        let name = parts.next().ok_or(ParseKeyError)?;
        let rank = Rank::ALL.into_iter().find(|rank| rank.name() == name).ok_or(ParseKeyError)?;
        match parts.next() {
            None => Ok(Self { code_hash, baked, build, rank }),
            Some(_) => Err(ParseKeyError),
        }
    }
}

/// Lower-case digits, as many as there must be: each key has one name.
fn parse_hex<const N: usize>(text: Option<&str>) -> Result<[u8; N], ParseKeyError> {
    let text = text.ok_or(ParseKeyError)?;
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(is_digit) {
        return Err(ParseKeyError);
    }
    hex::decode_to_slice(text, &mut bytes).map_err(|_| ParseKeyError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_ir::{OpcodeSet, SpecId};

    fn config() -> Config {
        Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::EMPTY }
    }

    #[test]
    fn a_key_is_the_name_of_its_file() {
        for rank in Rank::ALL {
            let key = Key::new(b"code", &config(), Digest::of(b"build"), rank);
            let name = key.to_string();
            assert_eq!(name.parse(), Ok(key));
            for other in [
                name.to_uppercase(),
                name.replace(".kiln", ""),
                name.replace(".kiln", ".kiln "),
                name.replacen('-', "", 1),
                format!("0x{}", &name[2..]),
                name.replace(rank.name(), "tier2"),
                name.replace(rank.name(), &format!("{rank}-{rank}")),
                String::new(),
            ] {
                assert_eq!(other.parse::<Key>(), Err(ParseKeyError), "{other}");
            }
        }
    }

    #[test]
    fn whatever_is_baked_in_changes_the_digest() {
        let digest = Digest::of_config(&config());
        assert_eq!(digest, Digest::of_config(&config()));
        for spec in
            (0..=u8::MAX).filter_map(SpecId::try_from_u8).filter(|&spec| spec != SpecId::OSAKA)
        {
            assert_ne!(digest, Digest::of_config(&Config { spec, ..config() }), "{spec:?}");
        }
        for opcode in 0..=u8::MAX {
            let mut config = config();
            config.gas[usize::from(opcode)] += 1;
            assert_ne!(digest, Digest::of_config(&config));
            config.gas[usize::from(opcode)] -= 1;
            config.replaced.insert(opcode);
            assert_ne!(digest, Digest::of_config(&config));
        }
    }
}
