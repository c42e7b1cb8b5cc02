//! What is remembered of codes: written and read, made one of several, and bounded.

mod support;

use fastrand::Rng;
use kiln_ir::Config;
use kiln_store::{
    BadReason, CodeId, CodeProfile, DecodeError, Digest, Key, Loaded, PENDING_MAX,
    PROFILE_BYTES_MAX, PROFILE_CODES_MAX, Pending, Profile, QUARANTINED_MAX, Quarantined, Rank,
};
use std::{fs, thread};
use support::{bytecode, config, store};

fn id(bytecode: &[u8], config: &Config) -> CodeId {
    let Key { code_hash, baked, .. } =
        Key::new(bytecode, config, Digest::default(), Rank::BASELINE);
    CodeId { code_hash, baked }
}

/// Of a few codes that all profiles know.
fn profile(rng: &mut Rng) -> Profile {
    let mut fixed = Rng::with_seed(9);
    let configs = [config(&mut fixed), config(&mut fixed)];
    let codes: Vec<_> = (1..9).map(|nth| bytecode(&mut fixed, 40 * nth)).collect();
    let mut profile = Profile { configs: configs.to_vec(), ..Profile::default() };
    for _ in 0..rng.usize(..12) {
        let (code, config) = (&codes[rng.usize(..8)], &configs[rng.usize(..2)]);
        let mut seen: Vec<u32> =
            (0..rng.usize(..20)).map(|_| rng.u32(..code.len() as u32)).collect();
        seen.sort_unstable();
        seen.dedup();
        let counts = if rng.bool() { seen.iter().map(|_| rng.u32(1..)).collect() } else { vec![] };
        let id = id(code, config);
        let is_pending = rng.bool();
        if is_pending {
            profile.pending.push(Pending { id, rank: Rank::ALL[rng.usize(..3)] });
        } else if rng.bool() {
            let reason = ["too large", "it panicked", "€"][rng.usize(..3)].repeat(rng.usize(..99));
            let grounds = Digest(rng.u128(..).to_le_bytes());
            profile.quarantined.push(Quarantined { id, grounds, reason });
        }
        profile.codes.push(CodeProfile {
            id,
            heat: rng.u32(..100),
            tier: [None, Some(Rank::BASELINE), Some(Rank::TIER1)][rng.usize(..3)],
            seen,
            counts,
            bytecode: is_pending.then(|| code.clone()),
        });
    }
    profile.normalise();
    profile
}

#[test]
fn what_is_written_is_read() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..500 {
        let profile = profile(&mut rng);
        let mut again = profile.clone();
        again.normalise();
        assert!(again == profile, "in order twice it is another");
        let bytes = profile.encode();
        assert!(Profile::decode(&bytes).as_ref() == Ok(&profile));
        let at = rng.usize(..bytes.len());
        let mut changed = bytes.clone();
        changed[at] ^= 1 << rng.u8(..8);
        assert!(Profile::decode(&changed).is_err(), "byte {at}");
        assert!(Profile::decode(&bytes[..at]).is_err());
        assert!(Profile::decode(&[&*bytes, b"\0"].concat()).is_err());
    }
}

#[test]
fn merging_knows_what_both_know() {
    let mut rng = Rng::with_seed(2);
    for _ in 0..500 {
        let (old, new) = (profile(&mut rng), profile(&mut rng));
        let mut merged = old.clone();
        merged.merge(new.clone());
        let find = |profile: &Profile, id| profile.codes.iter().find(|code| code.id == id).cloned();
        for code in &merged.codes {
            let parts: Vec<_> =
                [find(&old, code.id), find(&new, code.id)].into_iter().flatten().collect();
            assert_eq!(Some(code.heat), parts.iter().map(|part| part.heat).max());
            assert_eq!(Some(code.tier), parts.iter().map(|part| part.tier).max());
            assert!(code.counts.is_empty() || code.counts.len() == code.seen.len());
            for part in &parts {
                for (at, pc) in part.seen.iter().enumerate() {
                    let place = code.seen.binary_search(pc).expect("a leader that was seen");
                    let count = part.counts.get(at).copied().unwrap_or(0);
                    assert!(code.counts.get(place).copied().unwrap_or(0) >= count);
                }
            }
        }
        let count = |profile: &Profile| profile.codes.len();
        assert!(count(&merged) >= count(&old).max(count(&new)));
        assert!(merged.codes.is_sorted_by(|a, b| a.heat >= b.heat));
        // The newer one says what is pending and in quarantine, of the codes it knows.
        for pending in &old.pending {
            let is_known = find(&new, pending.id).is_some();
            let is_pending = merged.pending.iter().any(|other| other.id == pending.id);
            assert_eq!(
                is_pending,
                !is_known || new.pending.iter().any(|other| other.id == pending.id)
            );
        }
        assert!(new.pending.iter().all(|pending| merged.pending.contains(pending)));
        assert!(new.quarantined.iter().all(|quarantined| merged.quarantined.contains(quarantined)));
        // Only what is pending has its code.
        for code in &merged.codes {
            let is_pending = merged.pending.iter().any(|pending| pending.id == code.id);
            assert_eq!(code.bytecode.is_some(), is_pending);
        }
        // What is known already changes nothing.
        let again = merged.clone();
        merged.merge(again.clone());
        assert!(merged == again);
        merged.merge(new);
        assert!(merged.codes == again.codes);
    }
}

#[test]
fn what_can_not_be_is_left_out() {
    let mut rng = Rng::with_seed(3);
    let (config, code) = (config(&mut rng), bytecode(&mut rng, 50));
    let good = CodeProfile {
        id: id(&code, &config),
        heat: 1,
        tier: None,
        seen: vec![0, 49],
        counts: vec![7, 8],
        bytecode: Some(code),
    };
    let of = |code: CodeProfile| {
        let pending = vec![Pending { id: code.id, rank: Rank::BASELINE }];
        let mut profile = Profile {
            configs: vec![config.clone()],
            codes: vec![code],
            pending,
            ..Profile::default()
        };
        profile.normalise();
        profile
    };
    assert!(of(good.clone()).codes == [good.clone()]);
    let leaders =
        of(CodeProfile { seen: vec![49, 50, 0, 0], counts: vec![8, 9, 6, 7], ..good.clone() });
    assert!(leaders.codes == [good.clone()]);
    let other_code = of(CodeProfile { bytecode: Some(vec![1]), ..good.clone() });
    assert!(other_code.codes == [CodeProfile { bytecode: None, ..good.clone() }]);
    let no_counts = of(CodeProfile { counts: vec![1], ..good.clone() });
    assert!(no_counts.codes == [CodeProfile { counts: vec![], ..good.clone() }]);
    let unknown =
        of(CodeProfile { id: CodeId { baked: Digest::default(), ..good.id }, ..good.clone() });
    assert!(unknown.codes.is_empty() && unknown.pending.is_empty());
}

#[test]
fn what_is_too_much_is_left_out_and_the_hottest_stay() {
    let mut rng = Rng::with_seed(4);
    let config = config(&mut rng);
    let baked = Digest::of_config(&config);
    let id = |nth: u32| CodeId {
        code_hash: [nth.to_le_bytes(); 8].as_flattened().try_into().expect("32"),
        baked,
    };
    let code = |nth: u32, leaders: u32| CodeProfile {
        id: id(nth),
        heat: nth,
        tier: None,
        seen: (0..leaders).collect(),
        counts: vec![u32::MAX; leaders as usize],
        bytecode: None,
    };
    let mut profile = Profile {
        configs: vec![config],
        codes: (0..PROFILE_CODES_MAX as u32 + 99).map(|nth| code(nth, 2)).collect(),
        quarantined: (0..5000)
            .map(|nth| Quarantined {
                id: id(nth),
                grounds: Digest::default(),
                reason: "€".repeat(99),
            })
            .collect(),
        pending: (0..2000).map(|nth| Pending { id: id(nth + 99), rank: Rank::TIER1 }).collect(),
    };
    profile.normalise();
    assert_eq!((profile.codes.len(), profile.codes[0].heat), (PROFILE_CODES_MAX, 65_634));
    assert_eq!((profile.quarantined.len(), profile.pending.len()), (QUARANTINED_MAX, PENDING_MAX));
    assert_eq!(profile.quarantined[0].reason.len(), 198);
    assert!(Profile::decode(&profile.encode()).as_ref() == Ok(&profile));
    // Few codes of many leaders: the file is bounded, too.
    let codes: Vec<_> = (0..600).map(|nth| code(nth, 20_000)).collect();
    let bytes = Profile { codes, ..profile }.encode();
    let read = Profile::decode(&bytes).expect("a profile");
    assert!(bytes.len() <= PROFILE_BYTES_MAX && bytes.len() > PROFILE_BYTES_MAX - 200_000);
    assert!(read.codes.len() > 150 && read.codes.iter().all(|code| code.heat > 300));
    assert!(matches!(
        Profile::decode(&vec![0; PROFILE_BYTES_MAX + 1]),
        Err(DecodeError::Limit { .. })
    ));
}

#[test]
fn what_several_save_at_once_is_all_there() {
    let (_folder, store) = store();
    assert!(store.load_profile().expect("to read") == Loaded::Missing);
    let profiles: Vec<_> = (0..8).map(|seed| profile(&mut Rng::with_seed(seed))).collect();
    thread::scope(|scope| {
        for profile in &profiles {
            scope.spawn(|| store.save_profile(profile).expect("to write"));
        }
    });
    let saved = store.load_profile().expect("to read").found().expect("a profile");
    for code in profiles.iter().flat_map(|profile| &profile.codes) {
        let known = saved.codes.iter().find(|known| known.id == code.id).expect("every code");
        assert!(known.heat >= code.heat && code.seen.iter().all(|pc| known.seen.contains(pc)));
    }
}

#[test]
fn a_damaged_profile_is_set_aside() {
    let (_folder, store) = store();
    let profile = profile(&mut Rng::with_seed(5));
    store.save_profile(&profile).expect("to write");
    let path = store.path().join("profile");
    let mut bytes = fs::read(&path).expect("its file");
    *bytes.last_mut().expect("a byte") ^= 1;
    fs::write(&path, &bytes).expect("to damage it");
    let Loaded::Bad(bad) = store.load_profile().expect("to read") else { panic!("not refused") };
    assert!(
        bad.set_aside && matches!(bad.reason, BadReason::Decode(DecodeError::Hash(_))),
        "{bad}"
    );
    assert!(store.load_profile().expect("to read") == Loaded::Missing);
    // And one is no obstacle to the next.
    fs::write(&path, &bytes).expect("to damage it");
    store.save_profile(&profile).expect("to write");
    assert!(store.load_profile().expect("to read").found() == Some(profile));
}
