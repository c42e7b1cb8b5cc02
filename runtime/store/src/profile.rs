//! What is remembered of codes, so that the next process need not find it out again.
//!
//! **Owns** what that is, how what several processes know becomes one, and how it is bounded: what is too much is left
//! out, the coldest codes first. **Callers guarantee** that what they use of a profile they check: it is a hint about
//! codes, and a leader in it need not be one. **Never** holds the bytecode of a code that is not pending.

mod format;

use crate::{Digest, Rank, key::code_hash};
use kiln_abi::EntryTable;
use kiln_ir::Config;
use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Bytes of a profile's file.
pub const PROFILE_BYTES_MAX: usize = 32 << 20;
/// Codes of a profile.
pub const PROFILE_CODES_MAX: usize = 1 << 16;
/// Configurations of a profile.
pub const PROFILE_CONFIGS_MAX: usize = 64;
/// Codes in quarantine.
pub const QUARANTINED_MAX: usize = 4096;
/// Codes that are pending.
pub const PENDING_MAX: usize = 1024;
/// Bytes of the reason why a code is in quarantine.
pub const REASON_BYTES_MAX: usize = 200;

/// A code, and what is baked into its programs: what everything in a profile is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CodeId {
    /// Keccak-256 of the bytecode.
    pub code_hash: [u8; 32],
    /// [`Digest::of_config`].
    pub baked: Digest,
}

/// What is known of codes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// What the digests in it stand for. A code without its configuration is left out.
    pub configs: Vec<Config>,
    /// The hottest first.
    pub codes: Vec<CodeProfile>,
    /// Codes that are not to be compiled.
    pub quarantined: Vec<Quarantined>,
    /// What was asked for and not done. Each is one of [`Self::codes`].
    pub pending: Vec<Pending>,
}

/// What is known of one code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeProfile {
    /// Which.
    pub id: CodeId,
    /// How much it ran. Only compared.
    pub heat: u32,
    /// The best tier that compiled it.
    pub tier: Option<Rank>,
    /// The leaders that ran, ascending. Each lies in the code, if there is bytecode; whether an instruction begins there
    /// is for who uses it to see: where 0x5b is the data of a push, there is no JUMPDEST.
    pub seen: Vec<u32>,
    /// How often each of them did; or none of that.
    pub counts: Vec<u32>,
    /// Its bytecode, if it is pending.
    pub bytecode: Option<Vec<u8>>,
}

/// A code that is not to be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Which.
    pub id: CodeId,
    /// Of the build and the options that it holds for: with others it may be compiled.
    pub grounds: Digest,
    /// Why, in words.
    pub reason: String,
}

/// A code that was to be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Which.
    pub id: CodeId,
    /// By which tier.
    pub rank: Rank,
}

impl Profile {
    /// Adds what another process, or a later time, knows. Of each code all leaders that were seen, and the most
    /// there was of heat, counts and tiers: so what is merged twice counts once. Whether a code is pending or in
    /// quarantine is for the newer one to say, if it knows the code.
    pub fn merge(&mut self, newer: Self) {
        let known: HashSet<CodeId> = newer.codes.iter().map(|code| code.id).collect();
        self.pending.retain(|pending| !known.contains(&pending.id));
        self.quarantined.retain(|quarantined| !known.contains(&quarantined.id));
        // The first of several is kept.
        self.pending.splice(..0, newer.pending);
        self.quarantined.splice(..0, newer.quarantined);
        self.configs.splice(..0, newer.configs);
        self.codes.extend(newer.codes);
        self.normalise();
    }

    /// Merges what is double, leaves out what can not be or is too much, and puts the rest in order.
    pub fn normalise(&mut self) {
        keep_first(&mut self.configs, PROFILE_CONFIGS_MAX, Digest::of_config);
        let configs: HashSet<Digest> = self.configs.iter().map(Digest::of_config).collect();
        self.codes.retain(|code| configs.contains(&code.id.baked));
        self.codes = merge_codes(std::mem::take(&mut self.codes));
        self.codes.sort_by_key(|code| (Reverse(code.heat), code.id));
        self.codes.truncate(PROFILE_CODES_MAX);

        for quarantined in &mut self.quarantined {
            let len = quarantined.reason.floor_char_boundary(REASON_BYTES_MAX);
            quarantined.reason.truncate(len);
        }
        keep_first(&mut self.quarantined, QUARANTINED_MAX, |quarantined| quarantined.id);
        self.order_pending();
    }

    /// Leaves out what is pending without its code, and the bytecode of what is not pending.
    fn order_pending(&mut self) {
        let codes: HashSet<CodeId> = self.codes.iter().map(|code| code.id).collect();
        self.pending.retain(|pending| codes.contains(&pending.id));
        keep_first(&mut self.pending, PENDING_MAX, |pending| pending.id);
        let pending: HashSet<CodeId> = self.pending.iter().map(|pending| pending.id).collect();
        for code in &mut self.codes {
            if !pending.contains(&code.id) {
                code.bytecode = None;
            }
        }
    }
}

/// The first of each kind, so many at most.
fn keep_first<T, K: Hash + Eq>(all: &mut Vec<T>, max: usize, key: impl Fn(&T) -> K) {
    let mut found = HashSet::new();
    all.retain(|one| found.len() < max && found.insert(key(one)));
}

/// One of each, with all that is known of it.
fn merge_codes(codes: Vec<CodeProfile>) -> Vec<CodeProfile> {
    let mut merged: Vec<CodeProfile> = Vec::with_capacity(codes.len());
    let mut places = HashMap::new();
    for mut code in codes {
        code.normalise();
        match places.get(&code.id) {
            Some(&place) => {
                let known: &mut CodeProfile = &mut merged[place];
                known.merge(code);
            }
            None => {
                places.insert(code.id, merged.len());
                merged.push(code);
            }
        }
    }
    merged
}

impl CodeProfile {
    fn merge(&mut self, other: Self) {
        self.heat = self.heat.max(other.heat);
        self.tier = self.tier.max(other.tier);
        self.bytecode = self.bytecode.take().or(other.bytecode);
        let has_counts = !(self.counts.is_empty() && other.counts.is_empty());
        let of = |seen: &[u32], counts: &[u32]| -> Vec<(u32, u32)> {
            let counts = counts.iter().copied().chain(std::iter::repeat(0));
            seen.iter().copied().zip(counts).collect()
        };
        let mut all = of(&self.seen, &self.counts);
        all.extend(of(&other.seen, &other.counts));
        self.set_leaders(all, has_counts);
        self.normalise();
    }

    /// Of each leader the highest count.
    fn set_leaders(&mut self, mut all: Vec<(u32, u32)>, has_counts: bool) {
        all.sort_unstable_by_key(|&(pc, count)| (pc, Reverse(count)));
        all.dedup_by_key(|&mut (pc, _)| pc);
        self.seen = all.iter().map(|&(pc, _)| pc).collect();
        self.counts = if has_counts { all.iter().map(|&(_, n)| n).collect() } else { Vec::new() };
    }

    /// Leaves out what can not be.
    fn normalise(&mut self) {
        if self.counts.len() != self.seen.len() {
            self.counts.clear();
        }
        let is_code = |code: &Vec<u8>| {
            code.len() <= EntryTable::CODE_LEN_MAX && code_hash(code) == self.id.code_hash
        };
        self.bytecode = self.bytecode.take().filter(is_code);
        let end = self.bytecode.as_ref().map_or(EntryTable::CODE_LEN_MAX, Vec::len);
        let is_in_code = |&pc: &u32| (pc as usize) < end;
        if !self.seen.is_sorted_by(|a, b| a < b) || !self.seen.iter().all(is_in_code) {
            let has_counts = !self.counts.is_empty();
            let counts = self.counts.iter().copied().chain(std::iter::repeat(0));
            let all = self.seen.iter().copied().zip(counts);
            let all = all.filter(|(pc, _)| is_in_code(pc)).collect();
            self.set_leaders(all, has_counts);
        }
    }
}
