//! What lies around everything that is written: magic, version, lengths, and a hash.
//!
//! **Owns** the header of [`HEADER`] bytes: magic (8), version (4), bytes of the head (4) and of the rest (8), and the
//! BLAKE3 hash of all that and of the head (32). Numbers have the lowest byte first. Behind it the head, then the rest,
//! whose hash is in the head. **Callers guarantee** nothing of what they open. **Never** copies or allocates.

use crate::{FORMAT, decode::DecodeError};

/// Bytes in front of the head.
pub(crate) const HEADER: usize = 56;
/// Bytes of the header that are hashed.
const HASHED: usize = 24;

/// What is in the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// What it is called.
    pub(crate) name: &'static str,
    pub(crate) magic: [u8; 8],
}

pub(crate) const ARTIFACT: Kind = Kind { name: "artifact", magic: *b"kilnart\n" };
pub(crate) const PROFILE: Kind = Kind { name: "profile", magic: *b"kilnprf\n" };

/// Head and rest in their envelope.
pub(crate) fn seal(kind: Kind, head: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + head.len() + rest.len());
    bytes.extend(kind.magic);
    bytes.extend(FORMAT.to_le_bytes());
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend((rest.len() as u64).to_le_bytes());
    let hash = hash(&bytes, head);
    bytes.extend(hash.as_bytes());
    bytes.extend(head);
    bytes.extend(rest);
    bytes
}

/// Head and rest. Of the rest only the length is checked.
pub(crate) fn open(kind: Kind, bytes: &[u8]) -> Result<(&[u8], &[u8]), DecodeError> {
    let cut_off = DecodeError::Length { is: bytes.len() as u64, should: HEADER as u64 };
    let (header, behind) = bytes.split_first_chunk::<HEADER>().ok_or(cut_off)?;
    let (hashed, expected) = header.split_at(HASHED);
    let [m0, m1, m2, m3, m4, m5, m6, m7, v0, v1, v2, v3, h0, h1, h2, h3, rest @ ..] = *header;
    if [m0, m1, m2, m3, m4, m5, m6, m7] != kind.magic {
        return Err(DecodeError::Magic(kind.name));
    }
    let found = u32::from_le_bytes([v0, v1, v2, v3]);
    if found != FORMAT {
        return Err(DecodeError::Version { found, ours: FORMAT });
    }
    let head_len = u32::from_le_bytes([h0, h1, h2, h3]);
    let (&rest_len, _) = rest.split_first_chunk().ok_or(DecodeError::Magic(kind.name))?;
    let should = (HEADER as u64)
        .checked_add(u64::from(head_len))
        .and_then(|len| len.checked_add(u64::from_le_bytes(rest_len)))
        .ok_or(DecodeError::Malformed("lengths beyond 64 bits"))?;
    if should != bytes.len() as u64 {
        return Err(DecodeError::Length { is: bytes.len() as u64, should });
    }
    // Within the bytes, by the sum just checked.
    let (head, rest) = behind.split_at(head_len as usize);
    match hash(hashed, head).as_bytes() == expected {
        true => Ok((head, rest)),
        false => Err(DecodeError::Hash("head")),
    }
}

fn hash(hashed: &[u8], head: &[u8]) -> blake3::Hash {
    blake3::Hasher::new().update(hashed).update(head).finalize()
}
