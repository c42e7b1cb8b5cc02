//! A profile in bytes: in an envelope, how many there are of each, and then all of them, in postcard.
//!
//! Nothing is allocated by a number that was read: each part is taken from the bytes as it comes.

use super::{
    CodeId, CodeProfile, PENDING_MAX, PROFILE_BYTES_MAX, PROFILE_CODES_MAX, PROFILE_CONFIGS_MAX,
    Pending, Profile, QUARANTINED_MAX, Quarantined,
};
use crate::{
    DecodeError, Digest, Rank,
    envelope::{self, HEADER, PROFILE},
    wire::{Bytes, WireConfig, add, gas_bytes},
};
use serde::{Deserialize, Serialize};

/// Kept free for the header and the numbers of parts.
const RESERVE: usize = HEADER + 64;

#[derive(Serialize, Deserialize)]
struct WireId {
    code_hash: [u8; 32],
    baked: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct WireCode<'a> {
    id: WireId,
    heat: u32,
    tier: Option<u8>,
    /// 4 bytes each.
    #[serde(borrow)]
    seen: Bytes<'a>,
    counts: Bytes<'a>,
    bytecode: Option<Bytes<'a>>,
}

#[derive(Serialize, Deserialize)]
struct WireQuarantined<'a> {
    id: WireId,
    grounds: [u8; 16],
    reason: &'a str,
}

#[derive(Serialize, Deserialize)]
struct WirePending {
    id: WireId,
    rank: u8,
}

/// How many there are: configurations, codes, in quarantine, pending.
type Counts = [u32; 4];

impl Profile {
    /// In bytes, [`PROFILE_BYTES_MAX`] at most: what does not fit is left out, the coldest codes first.
    pub fn encode(&self) -> Vec<u8> {
        let mut profile = self.clone();
        profile.normalise();
        let (mut bytes, mut fits) = (profile.others(), 0);
        for code in &profile.codes {
            let len = bytes.len();
            bytes = code.write(bytes);
            if bytes.len() + RESERVE > PROFILE_BYTES_MAX {
                bytes.truncate(len);
                break;
            }
            fits += 1;
        }
        if fits < profile.codes.len() {
            profile.codes.truncate(fits);
            // What is pending without its code is left out: it is shorter now, and fits.
            return profile.encode();
        }
        let counts: Counts = [
            profile.configs.len(),
            profile.codes.len(),
            profile.quarantined.len(),
            profile.pending.len(),
        ]
        .map(|count| count as u32);
        let head = add(Vec::new(), &counts);
        envelope::seal(PROFILE, &[head, bytes].concat(), &[])
    }

    /// All but the codes.
    fn others(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for config in &self.configs {
            bytes = add(bytes, &WireConfig::new(config, &gas_bytes(&config.gas)));
        }
        for Quarantined { id, grounds, reason } in &self.quarantined {
            bytes = add(bytes, &WireQuarantined { id: id.wire(), grounds: grounds.0, reason });
        }
        for Pending { id, rank } in &self.pending {
            bytes = add(bytes, &WirePending { id: id.wire(), rank: rank.as_u8() });
        }
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// If they are no profile, or more than one may be.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        DecodeError::limit("bytes", bytes.len() as u64, PROFILE_BYTES_MAX)?;
        match envelope::open(PROFILE, bytes)? {
            (head, []) => Self::decode_unhashed(head),
            _ => Err(DecodeError::Malformed("more than there was to come")),
        }
    }

    /// From what is in the envelope.
    pub(crate) fn decode_unhashed(head: &[u8]) -> Result<Self, DecodeError> {
        let (counts, mut rest) = postcard::take_from_bytes::<Counts>(head)?;
        let max = [PROFILE_CONFIGS_MAX, PROFILE_CODES_MAX, QUARANTINED_MAX, PENDING_MAX];
        if counts.iter().zip(max).any(|(&count, max)| count as usize > max) {
            return Err(DecodeError::Malformed("more of something than there may be"));
        }
        let [configs, codes, quarantined, pending] = counts;
        let mut profile = Self::default();
        for _ in 0..configs {
            profile.configs.push(take::<WireConfig<'_>>(&mut rest)?.read()?);
        }
        for _ in 0..quarantined {
            let WireQuarantined { id, grounds, reason } = take(&mut rest)?;
            let (id, grounds, reason) = (id.read(), Digest(grounds), reason.into());
            profile.quarantined.push(Quarantined { id, grounds, reason });
        }
        for _ in 0..pending {
            let WirePending { id, rank } = take(&mut rest)?;
            profile.pending.push(Pending { id: id.read(), rank: read_rank(rank)? });
        }
        for _ in 0..codes {
            profile.codes.push(take::<WireCode<'_>>(&mut rest)?.read()?);
        }
        if !rest.is_empty() {
            return Err(DecodeError::Malformed("more than there was to come"));
        }
        let mut normal = profile.clone();
        normal.normalise();
        match normal == profile {
            true => Ok(profile),
            false => Err(DecodeError::Malformed("not in order, double, or not what it says")),
        }
    }
}

fn take<'a, T: Deserialize<'a>>(rest: &mut &'a [u8]) -> Result<T, DecodeError> {
    let (value, behind) = postcard::take_from_bytes(rest)?;
    *rest = behind;
    Ok(value)
}

fn read_rank(rank: u8) -> Result<Rank, DecodeError> {
    Rank::from_u8(rank).ok_or(DecodeError::Malformed("not a rank"))
}

impl CodeId {
    fn wire(&self) -> WireId {
        WireId { code_hash: self.code_hash, baked: self.baked.0 }
    }
}

impl WireId {
    fn read(&self) -> CodeId {
        CodeId { code_hash: self.code_hash, baked: Digest(self.baked) }
    }
}

impl CodeProfile {
    fn write(&self, bytes: Vec<u8>) -> Vec<u8> {
        let Self { id, heat, tier, seen, counts, bytecode } = self;
        let [seen, counts] = [seen, counts].map(|numbers| -> Vec<u8> {
            numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
        });
        let code = WireCode {
            id: id.wire(),
            heat: *heat,
            tier: tier.map(Rank::as_u8),
            seen: Bytes(&seen),
            counts: Bytes(&counts),
            bytecode: bytecode.as_deref().map(Bytes),
        };
        add(bytes, &code)
    }
}

impl WireCode<'_> {
    fn read(&self) -> Result<CodeProfile, DecodeError> {
        let numbers = |bytes: Bytes<'_>| match bytes.0.as_chunks() {
            (numbers, []) => Ok(numbers.iter().map(|&number| u32::from_le_bytes(number)).collect()),
            _ => Err(DecodeError::Malformed("a part of a number")),
        };
        Ok(CodeProfile {
            id: self.id.read(),
            heat: self.heat,
            tier: self.tier.map(read_rank).transpose()?,
            seen: numbers(self.seen)?,
            counts: numbers(self.counts)?,
            bytecode: self.bytecode.map(|code| code.0.to_vec()),
        })
    }
}
