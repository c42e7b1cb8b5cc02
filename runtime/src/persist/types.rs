//! Stands in for `kiln-store` until that is there.

use kiln_abi::{CodeObject, EntryTable, Pc};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub(crate) [u8; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Rank(pub(crate) u8);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) code_hash: [u8; 32],
    pub(crate) baked: Digest,
    pub(crate) build: Digest,
    pub(crate) rank: Rank,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) key: Key,
    pub(crate) config: kiln_ir::Config,
    pub(crate) bytecode: Vec<u8>,
    pub(crate) text: Vec<u8>,
    pub(crate) code_len: u32,
    pub(crate) entries: EntryTable,
    pub(crate) blocks: u32,
    pub(crate) instructions: u32,
    pub(crate) regions: Option<ArtifactRegions>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArtifactRegions {
    pub(crate) rank: Rank,
    pub(crate) instructions: u32,
    pub(crate) objects: Vec<(Pc, CodeObject)>,
}
