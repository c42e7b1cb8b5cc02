//! One program in bytes.
//!
//! **Owns** the format of artifacts: in an envelope, the *manifest* (postcard: key, what is baked in, all counts, the
//! time, the hash of the payload), then the *payload*, its sections one behind the other: bytecode, text, entries, and
//! of each region text and entries. **Callers guarantee** nothing of what they decode: any bytes give a value or an
//! error, and what is allocated is bounded by the limits. **Never** changes without [`crate::FORMAT`].
//!
//! What is checked, in this order: magic, version, lengths, the manifest's hash; the key; limits; the sections' sum,
//! the payload's hash; the hash of the bytecode and of what is baked in; and then each number by itself: entries
//! ascend, lie in the code and say JUMPDEST only where there is one, regions ascend and have an entry, parts lie in
//! their text, nothing is left over. The machine code itself is run as it is.

mod read;

use crate::{
    Key, Rank,
    envelope::{self, ARTIFACT},
    wire::{WireConfig, add, gas_bytes},
};
use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_ir::{Config, sent::entries_to_send};
use serde::{Deserialize, Serialize};

/// A program, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What it is named by.
    pub key: Key,
    /// What is baked in. Its digest is [`Key::baked`].
    pub config: Config,
    /// When it was made: seconds since 1970, 0 if nobody knows.
    pub created_s: u64,
    /// The code as it is executed, without revm's padding. Its hash is [`Key::code_hash`].
    pub bytecode: Vec<u8>,
    /// Machine code and its data, as [`CodeObject::text`].
    pub text: Vec<u8>,
    /// Bytes of `text` that are code.
    pub code_len: u32,
    /// Where it is entered: for [`Self::bytecode`], into [`Self::text`].
    pub entries: EntryTable,
    /// Blocks that were compiled.
    pub blocks: u32,
    /// Bytecode instructions that were compiled.
    pub instructions: u32,
    /// Its optimised regions.
    pub regions: Option<ArtifactRegions>,
}

/// The optimised regions of a program, by themselves: so that it can be made anew around them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRegions {
    /// Which tier made them. Not the baseline.
    pub rank: Rank,
    /// Bytecode instructions, copies counted.
    pub instructions: u32,
    /// By ascending head. Each has an entry there.
    pub objects: Vec<(Pc, CodeObject)>,
}

#[derive(Serialize, Deserialize)]
struct Manifest<'a> {
    code_hash: [u8; 32],
    baked: [u8; 16],
    build: [u8; 16],
    rank: u8,
    created_s: u64,
    /// Of the payload.
    hash: [u8; 32],
    #[serde(borrow)]
    config: WireConfig<'a>,
    bytecode: u64,
    text: u64,
    entries: u64,
    code_len: u32,
    blocks: u32,
    instructions: u32,
    /// Behind the manifest come as many regions as this says.
    regions: Option<WireRegions>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct WireRegions {
    rank: u8,
    instructions: u32,
    count: u32,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct WireRegion {
    pc: u32,
    text: u64,
    entries: u64,
    code_len: u32,
    records: u32,
    blocks: u32,
}

impl Artifact {
    /// In bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut payload = self.bytecode.clone();
        payload.extend(&self.text);
        let entries = entries_to_send(&self.entries);
        payload.extend(&entries);
        let mut regions = Vec::new();
        for (Pc(pc), object) in self.objects() {
            let entries = entries_to_send(&object.entries);
            regions.push(WireRegion {
                pc: *pc,
                text: object.text.len() as u64,
                entries: entries.len() as u64,
                code_len: object.code_len as u32,
                records: object.records as u32,
                blocks: object.blocks as u32,
            });
            payload.extend(&object.text);
            payload.extend(entries);
        }
        let gas = gas_bytes(&self.config.gas);
        let head = Manifest {
            code_hash: self.key.code_hash,
            baked: self.key.baked.0,
            build: self.key.build.0,
            rank: self.key.rank.as_u8(),
            created_s: self.created_s,
            hash: *blake3::hash(&payload).as_bytes(),
            config: WireConfig::new(&self.config, &gas),
            bytecode: self.bytecode.len() as u64,
            text: self.text.len() as u64,
            entries: entries.len() as u64,
            code_len: self.code_len,
            blocks: self.blocks,
            instructions: self.instructions,
            regions: self.regions.as_ref().map(|of| WireRegions {
                rank: of.rank.as_u8(),
                instructions: of.instructions,
                count: of.objects.len() as u32,
            }),
        };
        envelope::seal(ARTIFACT, &regions.iter().fold(add(Vec::new(), &head), add), &payload)
    }

    fn objects(&self) -> &[(Pc, CodeObject)] {
        self.regions.as_ref().map_or(&[], |regions| &regions.objects)
    }
}
