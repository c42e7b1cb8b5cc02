//! From bytes to an artifact.

use super::{Artifact, ArtifactRegions, Manifest, WireRegion, WireRegions};
use crate::{
    DecodeError, DecodeLimits, Digest, Key, Rank,
    envelope::{self, ARTIFACT},
    key::code_hash,
};
use kiln_abi::Pc;
use kiln_ir::{
    Config,
    sent::{Sent, SentFor, table_bytes_max},
};

impl Artifact {
    /// From bytes that should be the artifact of a key.
    ///
    /// # Errors
    /// If they are not, or are over a limit.
    pub fn decode(
        bytes: &[u8],
        expected: &Key,
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        DecodeError::limit("bytes", bytes.len() as u64, limits.bytes_max)?;
        let (head, payload) = envelope::open(ARTIFACT, bytes)?;
        let parts = Parts::new(head, payload, limits)?;
        if parts.key != *expected {
            return Err(DecodeError::OtherKey { is: Box::new(parts.key) });
        }
        parts.check_hashes()?;
        parts.artifact()
    }

    /// From a manifest and a payload, whatever their hashes are: so that the checks behind these are reached.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn decode_unhashed(
        head: &[u8],
        payload: &[u8],
        limits: &DecodeLimits,
    ) -> Result<Self, DecodeError> {
        Parts::new(head, payload, limits)?.artifact()
    }
}

/// An artifact's sections, by the manifest's lengths.
struct Parts<'a> {
    manifest: Manifest<'a>,
    key: Key,
    config: Config,
    payload: &'a [u8],
    bytecode: &'a [u8],
    text: &'a [u8],
    entries: &'a [u8],
    regions: Vec<Region<'a>>,
}

struct Region<'a> {
    wire: WireRegion,
    text: &'a [u8],
    entries: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Within the limits.
    fn new(head: &'a [u8], payload: &'a [u8], limits: &DecodeLimits) -> Result<Self, DecodeError> {
        let (manifest, mut behind) = postcard::take_from_bytes::<Manifest<'a>>(head)?;
        DecodeError::limit("bytes of bytecode", manifest.bytecode, limits.code_bytes_max)?;
        DecodeError::limit("bytes of text", manifest.text, limits.text_bytes_max)?;
        let count = manifest.regions.map_or(0, |regions| regions.count);
        DecodeError::limit("regions", count.into(), limits.regions_max)?;
        let mut sections = Sections(payload);
        let bytecode = sections.take(manifest.bytecode)?;
        let (text, entries) = (sections.take(manifest.text)?, sections.take(manifest.entries)?);
        // Each is of several bytes, so that there are no more of them than bytes.
        let mut regions = Vec::new();
        for _ in 0..count {
            let (wire, rest) = postcard::take_from_bytes::<WireRegion>(behind)?;
            behind = rest;
            let (text, entries) = (sections.take(wire.text)?, sections.take(wire.entries)?);
            regions.push(Region { wire, text, entries });
        }
        if !behind.is_empty() || !sections.0.is_empty() {
            return Err(DecodeError::Malformed("more than there was to come"));
        }
        let tables = regions.iter().map(|region| region.entries).chain([entries]);
        let tables = tables.map(|entries| table_bytes_max(bytecode.len(), entries.len()));
        // Each is bounded by the payload and by the limit on bytecode: no overflow.
        let memory = payload.len() + tables.sum::<usize>();
        DecodeError::limit("bytes in memory", memory as u64, limits.bytes_max)?;
        let (key, config) = (key(&manifest)?, manifest.config.read()?);
        Ok(Self { manifest, key, config, payload, bytecode, text, entries, regions })
    }

    fn check_hashes(&self) -> Result<(), DecodeError> {
        if *blake3::hash(self.payload).as_bytes() != self.manifest.hash {
            return Err(DecodeError::Hash("payload"));
        }
        if code_hash(self.bytecode) != self.key.code_hash {
            return Err(DecodeError::Hash("bytecode"));
        }
        match Digest::of_config(&self.config) == self.key.baked {
            true => Ok(()),
            false => Err(DecodeError::Hash("configuration")),
        }
    }

    /// Checks the numbers.
    fn artifact(self) -> Result<Artifact, DecodeError> {
        let Self { manifest, key, config, bytecode, text, .. } = self;
        let Manifest { created_s, code_len, blocks, instructions, .. } = manifest;
        let of = SentFor::new(bytecode)?;
        if code_len as usize > text.len() {
            return Err(DecodeError::Malformed("code outside of the text"));
        }
        if blocks as usize > bytecode.len() {
            return Err(DecodeError::Malformed("more blocks than bytecode"));
        }
        let entries = of.entries(self.entries, code_len)?;
        let regions = manifest.regions.map(|wire| regions(&of, wire, &self.regions)).transpose()?;
        Ok(Artifact {
            key,
            config,
            created_s,
            bytecode: bytecode.to_vec(),
            text: text.to_vec(),
            code_len,
            entries,
            blocks,
            instructions,
            regions,
        })
    }
}

fn key(manifest: &Manifest<'_>) -> Result<Key, DecodeError> {
    let Manifest { code_hash, baked, build, rank, .. } = *manifest;
    Ok(Key { code_hash, baked: Digest(baked), build: Digest(build), rank: read_rank(rank)? })
}

fn read_rank(rank: u8) -> Result<Rank, DecodeError> {
    Rank::from_u8(rank).ok_or(DecodeError::Malformed("not a rank"))
}

fn regions(
    of: &SentFor<'_>,
    wire: WireRegions,
    parts: &[Region<'_>],
) -> Result<ArtifactRegions, DecodeError> {
    let mut regions = ArtifactRegions {
        rank: read_rank(wire.rank)?,
        instructions: wire.instructions,
        objects: Vec::with_capacity(parts.len()),
    };
    if regions.rank == Rank::BASELINE {
        return Err(DecodeError::Malformed("regions of the baseline"));
    }
    for &Region { wire, text, entries } in parts {
        let WireRegion { pc, code_len, records, blocks, .. } = wire;
        let object = of.object(Sent { text, code_len, records, blocks, entries })?;
        if regions.objects.last().is_some_and(|&(Pc(last), _)| last >= pc) {
            return Err(DecodeError::Malformed("regions out of order"));
        }
        if object.entries.get(pc as usize).is_none() {
            return Err(DecodeError::Malformed("a region without an entry at its head"));
        }
        regions.objects.push((Pc(pc), object));
    }
    Ok(regions)
}

/// What is left of a payload.
struct Sections<'a>(&'a [u8]);

impl<'a> Sections<'a> {
    fn take(&mut self, len: u64) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(len).ok().filter(|&len| len <= self.0.len());
        let len = len.ok_or(DecodeError::Malformed("a section outside of the payload"))?;
        let (section, rest) = self.0.split_at(len);
        self.0 = rest;
        Ok(section)
    }
}
