//! A program in bytes and back, compared with what was compiled.
//!
//! **Owns** what has to be equal. **Callers guarantee** that nothing is written meanwhile. **Never** touches a file or a
//! store: the bytes are those that would be kept.

use super::twice;
use crate::{
    config::Config,
    hooks::Tier,
    persist::{build_digest, rank_of},
    regions::Regions,
};
use kiln_abi::{CodeObject, EntryTable};
use kiln_ir::Module;
use kiln_store::{Artifact, ArtifactRegions, DecodeLimits, Digest, Key};
use revm::bytecode::Bytecode;

/// Whatever was compiled is within these.
pub(crate) const LIMITS: DecodeLimits = DecodeLimits {
    bytes_max: usize::MAX,
    code_bytes_max: usize::MAX,
    text_bytes_max: usize::MAX,
    regions_max: usize::MAX,
};

/// The artifact of a program, by what compilers made.
pub(crate) fn artifact(
    config: &Config,
    (bytecode, baked): (&Bytecode, &kiln_ir::Config),
    (module, regions): (&Module, Option<&Regions>),
    object: &CodeObject,
) -> Artifact {
    let tier = regions.map_or(Tier::Baseline, Regions::tier);
    let key = Key {
        code_hash: bytecode.hash_slow().0,
        baked: Digest::of_config(baked),
        build: build_digest(&config.limits),
        rank: rank_of(tier),
    };
    Artifact {
        key,
        config: baked.clone(),
        created_s: 0,
        bytecode: bytecode.original_byte_slice().to_vec(),
        text: object.text.clone(),
        code_len: object.code_len as u32,
        entries: object.entries.clone(),
        blocks: module.regions.len() as u32,
        instructions: module.instructions() as u32,
        regions: regions.map(|regions| ArtifactRegions {
            rank: rank_of(regions.tier()),
            instructions: regions.instructions() as u32,
            objects: regions.objects().to_vec(),
        }),
    }
}

/// In what an artifact differs, one line each.
pub(crate) fn differences(compiled: &Artifact, reloaded: &Artifact) -> Vec<String> {
    if compiled == reloaded {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let mut field = |what: &str, compiled: String, reloaded: String| {
        if compiled != reloaded {
            lines.push(format!("{what}: compiled {compiled}, reloaded {reloaded}"));
        }
    };
    field("key", compiled.key.to_string(), reloaded.key.to_string());
    let counts = |of: &Artifact| format!("{} of {}", of.blocks, of.instructions);
    field("blocks of instructions", counts(compiled), counts(reloaded));
    let object = |of: &Artifact| CodeObject {
        text: of.text.clone(),
        code_len: of.code_len as usize,
        entries: of.entries.clone(),
        records: 0,
        blocks: of.blocks as usize,
    };
    lines.extend(twice::objects(&object(compiled), &object(reloaded)));
    let regions = |of: &Artifact| match &of.regions {
        Some(regions) => format!("{}, {}", regions.rank.name(), regions.objects.len()),
        None => "none".to_owned(),
    };
    if regions(compiled) != regions(reloaded) {
        let (compiled, reloaded) = (regions(compiled), regions(reloaded));
        lines.push(format!("regions: compiled {compiled}, reloaded {reloaded}"));
    }
    if lines.is_empty() {
        lines.push("the configuration, the bytecode, or a region differs".to_owned());
    }
    lines
}

/// For fault tests: a table without its last entry.
pub(crate) fn lose_entry(entries: &EntryTable, code_len: usize) -> EntryTable {
    let mut all: Vec<_> = entries.iter().collect();
    all.pop();
    let mut fewer = EntryTable::new(code_len, all.len());
    all.into_iter().for_each(|(pc, entry, is_jumpdest)| fewer.insert(pc, entry, is_jumpdest));
    fewer
}
