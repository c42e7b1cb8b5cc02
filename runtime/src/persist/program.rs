//! Programs as artifacts, and artifacts as programs.
//!
//! **Owns** what is kept of a program: its code with the table of entries, and its optimised regions, so that it
//! can be made anew around them. **Callers guarantee** that an artifact that becomes a program came from one, of
//! this build and for this CPU, or was decoded with all checks: its code is run. **Never** reads or writes files.

use crate::{
    hooks::Tier,
    memory::{CodeBlock, MemoryError},
    observe::Registration,
    program::{Counts, Place, Program},
    regions::Regions,
};
use kiln_ir::Limits;
use kiln_store::{Artifact, ArtifactRegions, Key, Rank};
use revm::bytecode::Bytecode;
use std::sync::Arc;
use thiserror::Error;

/// Why an artifact becomes no program. None of it says that the artifact is bad.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum LoadError {
    /// The database gave this code the hash of another one.
    #[error("it is of another code")]
    OtherCode,
    /// A later version may know it.
    #[error("there is no tier for {0}")]
    Rank(Rank),
    /// Over a limit of this engine.
    #[error("{what}: {is}, and {max} at most")]
    Limit { what: &'static str, is: usize, max: usize },
    /// No room for it.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

/// A tier's number in keys.
pub(crate) const fn rank_of(tier: Tier) -> Rank {
    match tier {
        Tier::Baseline => Rank::BASELINE,
        Tier::Optimised => Rank::OPTIMISED,
        Tier::Tier1 => Rank::TIER1,
    }
}

/// The tier of a number.
pub(crate) fn tier_of(rank: Rank) -> Result<Tier, LoadError> {
    let known = Tier::ALL.into_iter().find(|&tier| rank_of(tier) == rank);
    known.ok_or(LoadError::Rank(rank))
}

/// Whether a program like this could have been compiled under these limits: those on the work that compiling
/// takes say nothing about what was compiled before.
pub(crate) fn check_limits(
    artifact: &Artifact,
    limits: &Limits,
    regions_max: usize,
) -> Result<(), LoadError> {
    let regions = artifact.regions.as_ref();
    let instructions = artifact.instructions as usize;
    let instructions = instructions + regions.map_or(0, |regions| regions.instructions as usize);
    let bounds = [
        ("bytes of bytecode", artifact.bytecode.len(), limits.code_bytes_max),
        ("bytes of text", artifact.text.len(), limits.text_bytes_max(instructions)),
        ("regions", regions.map_or(0, |regions| regions.objects.len()), regions_max),
    ];
    match bounds.into_iter().find(|(_, is, max)| is > max) {
        Some((what, is, max)) => Err(LoadError::Limit { what, is, max }),
        None => Ok(()),
    }
}

impl Program {
    /// What is kept of it, under a key of its own code, made at no time that is known; none for the evaluator, which has no machine code.
    pub(crate) fn to_artifact(&self, key: Key, config: &kiln_ir::Config) -> Option<Artifact> {
        let (text, code_len) = self.text()?;
        let regions = self.optimised().map(|regions| ArtifactRegions {
            rank: rank_of(regions.tier()),
            instructions: regions.instructions() as u32,
            objects: regions.objects().to_vec(),
        });
        Some(Artifact {
            key,
            config: config.clone(),
            created_s: 0,
            bytecode: self.bytecode().original_byte_slice().to_vec(),
            text: text.to_vec(),
            // The code of regions lies behind the data of the rest.
            code_len: regions.as_ref().map_or(code_len, |_| text.len() as u32),
            entries: self.entries().to_table(),
            blocks: self.regions() as u32,
            instructions: self.instructions() as u32,
            regions,
        })
    }

    /// The program of an artifact, for the code `bytecode`; `register` names its code once that is placed.
    ///
    /// # Errors
    /// If it is of another code, or there is no room.
    pub(crate) fn from_artifact(
        artifact: Artifact,
        bytecode: Bytecode,
        register: impl FnOnce(&CodeBlock) -> Registration,
        place: Place<'_>,
    ) -> Result<Self, LoadError> {
        if !bytecode.is_legacy() || bytecode.original_byte_slice() != artifact.bytecode {
            return Err(LoadError::OtherCode);
        }
        let regions = match artifact.regions {
            Some(ArtifactRegions { rank, instructions, objects }) => {
                Some(Arc::new(Regions::stored(tier_of(rank)?, objects, instructions as usize)))
            }
            None => None,
        };
        let code = place(&artifact.text)?;
        let registration = register(&code);
        let counts = Counts {
            blocks: artifact.blocks as usize,
            instructions: artifact.instructions as usize,
        };
        let object = (artifact.code_len, &artifact.entries);
        let program =
            Self::native(bytecode, (counts, regions), (code, registration), object, place)?;
        program.set_saved();
        Ok(program)
    }
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux", not(miri)))]
mod tests {
    use super::*;
    use crate::{config::Config, engine::Engine, memory::CodeMemory};
    use kiln_abi::Pc;
    use kiln_ir::{OpcodeSet, SpecId};
    use kiln_store::{DecodeLimits, Digest};
    use revm::primitives::Bytes;

    fn baked() -> kiln_ir::Config {
        kiln_ir::Config { spec: SpecId::CANCUN, gas: [1; 256], replaced: OpcodeSet::EMPTY }
    }

    /// PUSH0; CALLDATALOAD; JUMPDEST; PUSH1 1; SWAP1; SUB; DUP1; PUSH1 2; JUMPI; STOP, and a number behind it.
    fn code(number: u8) -> Bytecode {
        let code = [0x5f, 0x35, 0x5b, 0x60, 1, 0x90, 0x03, 0x80, 0x60, 2, 0x57, 0x00, number];
        Bytecode::new_legacy(Bytes::copy_from_slice(&code))
    }

    fn artifact(tier: Tier) -> Artifact {
        let engine = Engine::new(Config { first_tier: tier, ..Config::eager() }).unwrap();
        let program = engine.compile(&code(0), code(0).hash_slow(), &baked()).unwrap();
        assert_eq!(program.tier(), tier);
        program.to_artifact(key(&program), &baked()).unwrap()
    }

    fn key(program: &Program) -> Key {
        let code = program.bytecode().original_byte_slice();
        Key::new(code, &baked(), Digest::of(b"build"), rank_of(program.tier()))
    }

    fn load(artifact: Artifact, bytecode: Bytecode) -> Result<Program, LoadError> {
        let memory = CodeMemory::new(1 << 20);
        let register = |_: &CodeBlock| Registration::default();
        Program::from_artifact(artifact, bytecode, register, &|bytes| memory.place(bytes))
    }

    #[test]
    fn a_program_comes_back_as_it_was() {
        for tier in [Tier::Baseline, Tier::Optimised] {
            let artifact = artifact(tier);
            assert!(artifact.code_len > 0 && artifact.code_len as usize <= artifact.text.len());
            assert_eq!(artifact.regions.is_some(), tier > Tier::Baseline);
            let decoded =
                Artifact::decode(&artifact.encode(), &artifact.key, &DecodeLimits::default());
            assert_eq!(decoded.as_ref(), Ok(&artifact));
            let program = load(decoded.unwrap(), code(0)).unwrap();
            assert_eq!(program.tier(), tier);
            assert_eq!(program.regions(), artifact.blocks as usize);
            assert!(program.is_compiled(Pc(0)) && program.is_compiled(Pc(2)));
            assert_eq!(program.to_artifact(key(&program), &baked()).unwrap(), artifact);
        }
    }

    #[test]
    fn another_code_does_not_get_it() {
        let artifact = artifact(Tier::Baseline);
        assert_eq!(load(artifact.clone(), code(1)).unwrap_err(), LoadError::OtherCode);
        let designator = Bytecode::new_eip7702(Default::default());
        assert_eq!(load(artifact, designator).unwrap_err(), LoadError::OtherCode);
    }

    #[test]
    fn limits_hold_for_what_was_compiled_before() {
        let artifact = artifact(Tier::Optimised);
        let limits = Limits { text_ratio_max: 1 << 20, ..Limits::default() };
        assert_eq!(check_limits(&artifact, &limits, 64), Ok(()));
        let over = |limits: Limits, regions_max| match check_limits(&artifact, &limits, regions_max)
        {
            Err(LoadError::Limit { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        let short = Limits { code_bytes_max: 12, ..limits };
        assert_eq!(over(short, 64), "bytes of bytecode");
        let small = Limits { text_ratio_max: 1, text_bytes_free: 0, ..limits };
        assert_eq!(over(small, 64), "bytes of text");
        assert_eq!(over(limits, 0), "regions");
    }

    #[test]
    fn tiers_have_numbers() {
        for tier in Tier::ALL {
            assert_eq!(tier_of(rank_of(tier)), Ok(tier));
        }
        assert_eq!(Rank::ALL.map(|rank| tier_of(rank).unwrap()), Tier::ALL);
    }
}
