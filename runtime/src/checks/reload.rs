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
use std::fmt::Debug;

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
        // The code of regions lies behind the data of the rest.
        code_len: regions.map_or(object.code_len, |_| object.text.len()) as u32,
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

/// In what an artifact differs, one line each. Tables of entries may lie in memory in another order.
pub(crate) fn differences(compiled: &Artifact, reloaded: &Artifact) -> Vec<String> {
    let mut lines = Vec::new();
    let mut field = |what: &str, compiled: &dyn Debug, reloaded: &dyn Debug| {
        let (compiled, reloaded) = (format!("{compiled:?}"), format!("{reloaded:?}"));
        if compiled != reloaded {
            lines.push(format!("{what}: compiled {compiled}, reloaded {reloaded}"));
        }
    };
    field("key", &compiled.key, &reloaded.key);
    field("configuration", &compiled.config, &reloaded.config);
    field("bytecode", &compiled.bytecode, &reloaded.bytecode);
    field("instructions", &compiled.instructions, &reloaded.instructions);
    let regions = |of: &Artifact| {
        let regions = of.regions.as_ref()?;
        let heads: Vec<u32> = regions.objects.iter().map(|(pc, _)| pc.0).collect();
        Some((regions.rank, regions.instructions, heads))
    };
    field("regions", &regions(compiled), &regions(reloaded));
    let object = |of: &Artifact| CodeObject {
        text: of.text.clone(),
        code_len: of.code_len as usize,
        entries: of.entries.clone(),
        records: 0,
        blocks: of.blocks as usize,
    };
    lines.extend(twice::objects(&object(compiled), &object(reloaded)));
    let objects = |of: &Artifact| of.regions.clone().map_or(Vec::new(), |regions| regions.objects);
    for ((pc, compiled), (_, reloaded)) in objects(compiled).iter().zip(&objects(reloaded)) {
        let more = twice::objects(compiled, reloaded).into_iter();
        lines.extend(more.map(|line| format!("region {}: {line}", pc.0)));
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
