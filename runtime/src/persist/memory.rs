//! What is remembered of codes: taken down for the store, and given back to slots of a later session.
//!
//! **Owns** what of a slot that is. **Callers guarantee** nothing: what was read may be of any code, and is a hint.
//! **Never** says that work which was called off has failed: it is asked for again.

use super::{index::CodeKey, program::rank_of};
use crate::{
    hooks::Tier,
    slot::{Baked, Seen, Slot},
};
use kiln_ir::Limits;
use kiln_store::{CodeId, CodeProfile, Digest, Pending, Profile, Quarantined};
use revm::{
    bytecode::Bytecode,
    primitives::{B256, Bytes},
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// A compilation that was asked for and not done.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished {
    pub(crate) bytecode: Bytecode,
    /// What the database says its hash is.
    pub(crate) hash: B256,
    pub(crate) baked: Arc<Baked>,
    pub(crate) tier: Tier,
}

impl Unfinished {
    /// Of a slot. None if what was asked for is to be loaded: nothing is lost with that.
    pub(crate) fn of(slot: &Slot, tier: Tier) -> Option<Self> {
        if slot.is_retired() || slot.is_stored() && slot.pin().is_none() {
            return None;
        }
        let (bytecode, hash, baked) = (slot.bytecode.clone(), slot.hash, slot.baked.clone());
        Some(Self { bytecode, hash, baked, tier })
    }
}

/// What a code is quarantined for holds for this build and these limits only: with others it may be compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grounds(Digest);

impl Grounds {
    pub(crate) fn new(build: Digest, limits: &Limits) -> Self {
        Self(Digest::of(format!("{build} {limits:?}").as_bytes()))
    }
}

/// What is remembered from earlier sessions.
#[derive(Debug, Default)]
pub(crate) struct Remembered {
    codes: HashMap<CodeKey, CodeProfile>,
    quarantined: HashMap<CodeKey, Arc<str>>,
}

impl Remembered {
    /// From a profile, and what was left to be done.
    pub(crate) fn new(profile: Profile, grounds: &Grounds) -> (Self, Vec<Unfinished>) {
        let baked: HashMap<Digest, Arc<Baked>> = profile
            .configs
            .into_iter()
            .map(Baked::new)
            .map(|baked| (baked.digest, Arc::new(baked)))
            .collect();
        let mut codes: HashMap<CodeKey, CodeProfile> =
            profile.codes.into_iter().map(|code| (key(&code.id), code)).collect();
        let unfinished = profile.pending.iter().filter_map(|Pending { id, rank }| {
            let bytecode = codes.get_mut(&key(id))?.bytecode.take()?;
            let tier = Tier::ALL.into_iter().find(|&tier| rank_of(tier) == *rank)?;
            let (bytecode, baked) =
                (Bytecode::new_legacy(Bytes::from(bytecode)), baked.get(&id.baked)?.clone());
            Some(Unfinished { bytecode, hash: B256::new(id.code_hash), baked, tier })
        });
        let unfinished = unfinished.collect();
        let quarantined = profile
            .quarantined
            .into_iter()
            .filter(|quarantined| quarantined.grounds == grounds.0)
            .map(|Quarantined { id, reason, .. }| (key(&id), reason.into()));
        let quarantined = quarantined.collect();
        (Self { codes, quarantined }, unfinished)
    }

    /// Gives a slot that nobody else sees yet what is remembered of its code. Whether there was anything.
    pub(crate) fn restore(&self, slot: &Slot) -> bool {
        let key = (slot.hash, slot.baked.digest);
        let (code, reason) = (self.codes.get(&key), self.quarantined.get(&key));
        if let Some(CodeProfile { seen, counts, heat, .. }) = code {
            slot.restore(seen, counts, *heat);
        }
        if let Some(reason) = reason {
            slot.ticket.bar(reason.clone());
            slot.leave_alone();
        }
        code.is_some() || reason.is_some()
    }

    /// How much a code ran, as far as is remembered.
    pub(crate) fn heat(&self, key: &CodeKey) -> u32 {
        self.codes.get(key).map_or(0, |code| code.heat)
    }

    /// The hash of every code that something is remembered of.
    pub(crate) fn hashes(&self) -> impl Iterator<Item = &B256> {
        self.codes.keys().map(|(hash, _)| hash)
    }
}

fn key(id: &CodeId) -> CodeKey {
    (B256::new(id.code_hash), id.baked)
}

/// A profile that is being taken down.
pub(crate) struct Notes<'a> {
    grounds: &'a Grounds,
    profile: Profile,
    configs: HashSet<Digest>,
}

impl<'a> Notes<'a> {
    pub(crate) fn new(grounds: &'a Grounds) -> Self {
        Self { grounds, profile: Profile::default(), configs: HashSet::new() }
    }

    fn id(&mut self, hash: B256, baked: &Baked) -> CodeId {
        if self.configs.insert(baked.digest) {
            self.profile.configs.push(baked.config.clone());
        }
        CodeId { code_hash: hash.0, baked: baked.digest }
    }

    /// What is known of a slot's code.
    pub(crate) fn add(&mut self, slot: &Slot) {
        let id = self.id(slot.hash, &slot.baked);
        let seen: Vec<u32> =
            slot.seen().into_iter().flat_map(Seen::leaders).map(|pc| pc.0).collect();
        let counted = slot.seen().filter(|seen| seen.is_counted());
        let runs =
            |seen: &Seen, pc: u32| u32::try_from(seen.runs(kiln_abi::Pc(pc))).unwrap_or(u32::MAX);
        let counts = counted
            .map_or(Vec::new(), |counted| seen.iter().map(|&pc| runs(counted, pc)).collect());
        let tier = slot.pin().as_ref().map(|program| rank_of(program.tier()));
        let heat = slot.uses_of_all();
        if let Some(reason) = slot.ticket.quarantined() {
            let (grounds, reason) = (self.grounds.0, reason.to_string());
            self.profile.quarantined.push(Quarantined { id, grounds, reason });
        }
        self.profile.codes.push(CodeProfile { id, heat, tier, seen, counts, bytecode: None });
    }

    /// Something that is to be asked for again.
    pub(crate) fn add_unfinished(&mut self, unfinished: &Unfinished) {
        let Unfinished { bytecode, hash, baked, tier } = unfinished;
        let id = self.id(*hash, baked);
        self.profile.pending.push(Pending { id, rank: rank_of(*tier) });
        // Merged with what is known of the code.
        self.profile.codes.push(CodeProfile {
            id,
            heat: 0,
            tier: None,
            seen: Vec::new(),
            counts: Vec::new(),
            bytecode: Some(bytecode.original_byte_slice().to_vec()),
        });
    }

    /// The whole of it, in order.
    pub(crate) fn finish(self) -> Profile {
        let mut profile = self.profile;
        profile.normalise();
        profile
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_abi::Pc;
    use kiln_ir::{OpcodeSet, SpecId};

    fn baked() -> Arc<Baked> {
        let replaced = OpcodeSet::EMPTY;
        Arc::new(Baked::new(kiln_ir::Config { spec: SpecId::CANCUN, gas: [1; 256], replaced }))
    }

    /// Of its own code for each number.
    fn slot(number: u8) -> Slot {
        let code = Bytecode::new_legacy(Bytes::copy_from_slice(&[0x60, number, 0x5b, 0x5b, 0x00]));
        let hash = code.hash_slow();
        Slot::new(code, hash, baked())
    }

    fn grounds(limits: &Limits) -> Grounds {
        Grounds::new(Digest::of(b"build"), limits)
    }

    #[test]
    fn what_is_taken_down_comes_back() {
        let ours = grounds(&Limits::default());
        let (ran, barred, waits) = (slot(1), slot(2), slot(3));
        ran.miss(0);
        (0..5).for_each(|_| _ = ran.recorded().step(2, 0x5b, false));
        assert!(ran.touch(0));
        barred.ticket.bar("it never returned".into());
        let mut notes = Notes::new(&ours);
        [&ran, &barred, &waits].into_iter().for_each(|slot| notes.add(slot));
        notes.add_unfinished(&Unfinished::of(&waits, Tier::Optimised).unwrap());
        let profile = notes.finish();
        assert_eq!((profile.codes.len(), profile.configs.len()), (3, 1));

        let (remembered, unfinished) = Remembered::new(profile.clone(), &ours);
        let again = slot(1);
        assert!(remembered.restore(&again));
        let seen = again.seen().unwrap();
        assert_eq!(seen.leaders().collect::<Vec<_>>(), [Pc(0), Pc(2)]);
        assert_eq!((seen.runs(Pc(2)), again.uses_of_all()), (5, ran.uses_of_all()));
        assert!(ran.uses_of_all() > 0 && remembered.heat(&(again.hash, again.baked.digest)) > 0);
        let again = slot(2);
        assert!(remembered.restore(&again) && again.state().barred);
        assert_eq!(again.ticket.quarantined().map(|reason| &**reason), Some("it never returned"));
        assert!(!remembered.restore(&slot(9)));
        let [unfinished] = &unfinished[..] else { panic!("{unfinished:?}") };
        assert_eq!((unfinished.tier, unfinished.hash), (Tier::Optimised, waits.hash));
        assert_eq!(unfinished.bytecode, waits.bytecode);
        assert_eq!(remembered.hashes().count(), 3);

        // Under other limits it may be compiled.
        let others = grounds(&Limits { insts_max: 7, ..Limits::default() });
        let again = slot(2);
        Remembered::new(profile, &others).0.restore(&again);
        assert!(!again.state().barred);
    }

    #[test]
    fn what_is_only_to_be_loaded_is_not_unfinished() {
        let slot = slot(1);
        assert!(Unfinished::of(&slot, Tier::Baseline).is_some());
        slot.set_stored(true);
        assert!(Unfinished::of(&slot, Tier::Baseline).is_none());
    }
}
