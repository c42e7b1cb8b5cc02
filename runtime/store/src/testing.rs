//! The formats, for fuzz targets (feature `testing`).
//!
//! **Owns** what is asked of any bytes: they are an artifact or an error, a profile or an error, also with the hashes
//! set right; and what was read is written and read as the same. **Callers guarantee** nothing. **Never** opens a file.

use crate::{
    Artifact, ArtifactRegions, CodeId, CodeProfile, DecodeLimits, Digest, Key, Pending, Profile,
    Quarantined, Rank,
    envelope::{self, ARTIFACT, HEADER, PROFILE},
    key::code_hash,
};
use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_ir::{Config, OpcodeSet, SpecId};

const LIMITS: DecodeLimits = DecodeLimits {
    bytes_max: 1 << 20,
    code_bytes_max: 1 << 16,
    text_bytes_max: 1 << 16,
    regions_max: 64,
};

/// Reads bytes as an artifact and as a profile, and what is in their envelope as if its hashes were right.
///
/// # Panics
/// If something that was read is not written and read as the same.
pub fn decode(bytes: &[u8]) {
    let expected = sample().key;
    if let Ok(artifact) = Artifact::decode(bytes, &expected, &LIMITS) {
        assert!(artifact.key == expected, "another key");
        same_artifact(&artifact);
    }
    if let Ok(profile) = Profile::decode(bytes) {
        same_profile(&profile);
    }
    let Some(behind) = bytes.get(HEADER..) else { return };
    // Wherever the header says that the head ends, if it can be.
    let head_len = bytes[12..16].iter().rev().fold(0, |len, &byte| len << 8 | usize::from(byte));
    let (head, payload) = behind.split_at(head_len.min(behind.len()));
    if let Ok(mut artifact) = Artifact::decode_unhashed(head, payload, &LIMITS) {
        // What the hashes would have said.
        artifact.key.code_hash = code_hash(&artifact.bytecode);
        artifact.key.baked = Digest::of_config(&artifact.config);
        same_artifact(&artifact);
    }
    if let Ok(profile) = Profile::decode_unhashed(head) {
        same_profile(&profile);
    }
    for kind in [ARTIFACT, PROFILE] {
        let sealed = envelope::seal(kind, head, payload);
        assert!(envelope::open(kind, &sealed) == Ok((head, payload)), "not what was sealed");
    }
}

fn same_artifact(artifact: &Artifact) {
    let read = Artifact::decode(&artifact.encode(), &artifact.key, &LIMITS);
    assert!(read.as_ref() == Ok(artifact), "another artifact: {:?}", read.err());
}

fn same_profile(profile: &Profile) {
    let read = Profile::decode(&profile.encode());
    assert!(read.as_ref() == Ok(profile), "another profile: {:?}", read.err());
    let mut merged = profile.clone();
    merged.merge(profile.clone());
    assert!(merged == *profile, "merged with itself it is another profile");
}

/// An artifact that has everything.
fn sample() -> Artifact {
    let bytecode = [0x5b, 0x60, 0x5b, 0x00].repeat(10);
    let config = Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::EMPTY };
    let entries = |places: &[(u32, u32)]| {
        let mut entries = EntryTable::new(bytecode.len(), places.len());
        places.iter().for_each(|&(pc, offset)| entries.insert(Pc(pc), offset, pc % 4 == 0));
        entries.shrink();
        entries
    };
    let region = |pc| CodeObject {
        text: vec![0xcc; 40],
        code_len: 24,
        entries: entries(&[(pc, 1)]),
        records: 32,
        blocks: 2,
    };
    let regions = ArtifactRegions {
        rank: Rank::TIER1,
        instructions: 9,
        objects: [4, 36].map(|pc| (Pc(pc), region(pc))).to_vec(),
    };
    Artifact {
        key: Key::new(&bytecode, &config, Digest([7; 16]), Rank::TIER1),
        config,
        created_s: 1_700_000_000,
        text: vec![0x90; 64],
        code_len: 48,
        entries: entries(&[(0, 1), (3, 9), (4, 20), (36, 47)]),
        blocks: 4,
        instructions: 12,
        regions: Some(regions),
        bytecode,
    }
}

fn profile() -> Profile {
    let Artifact { key, config, bytecode, .. } = sample();
    let id = CodeId { code_hash: key.code_hash, baked: key.baked };
    let other = CodeId { code_hash: [9; 32], ..id };
    let code = CodeProfile {
        id,
        heat: 70,
        tier: Some(Rank::BASELINE),
        seen: vec![0, 3, 36],
        counts: vec![9, 8, 1 << 20],
        bytecode: Some(bytecode),
    };
    let cold = CodeProfile {
        id: other,
        heat: 2,
        tier: None,
        seen: vec![0],
        counts: Vec::new(),
        bytecode: None,
    };
    let mut profile = Profile {
        configs: vec![config],
        codes: vec![code, cold],
        quarantined: vec![Quarantined {
            id: other,
            grounds: Digest([3; 16]),
            reason: "too large".into(),
        }],
        pending: vec![Pending { id, rank: Rank::OPTIMISED }],
    };
    profile.normalise();
    profile
}

/// Bytes of each kind, by name: seeds.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let small = Artifact { regions: None, ..sample() };
    let bytes = sample().encode();
    vec![
        ("artifact", bytes.clone()),
        ("artifact_baseline", small.encode()),
        ("artifact_cut_off", bytes[..bytes.len() - 1].to_vec()),
        ("artifact_head", bytes[..HEADER + 8].to_vec()),
        ("profile", profile().encode()),
        ("profile_empty", Profile::default().encode()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_what_they_are_called() {
        for (name, bytes) in seeds() {
            decode(&bytes);
            let is_artifact = Artifact::decode(&bytes, &sample().key, &LIMITS).is_ok();
            assert_eq!(is_artifact, ["artifact", "artifact_baseline"].contains(&name), "{name}");
            assert_eq!(Profile::decode(&bytes).is_ok(), name.starts_with("profile"), "{name}");
        }
        assert!(profile().pending.len() == 1 && profile().codes.len() == 2);
    }

    /// Changed below the hashes, so that each number is checked.
    #[test]
    fn whatever_is_in_the_envelope_is_read_or_refused() {
        let mut rng = fastrand::Rng::with_seed(1);
        let (mut read, mut refused) = (0, 0);
        for _ in 0..20_000 {
            let all = seeds();
            let (_, mut bytes) = all[rng.usize(..all.len())].clone();
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(HEADER..bytes.len());
                bytes[at] = rng.u8(..);
            }
            decode(&bytes);
            let head_len = usize::from(bytes[12]) | usize::from(bytes[13]) << 8;
            let (head, payload) = bytes[HEADER..].split_at(head_len.min(bytes.len() - HEADER));
            match Artifact::decode_unhashed(head, payload, &LIMITS) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
        }
        assert!(read > 1000 && refused > 1000, "{read}, {refused}");
    }
}
