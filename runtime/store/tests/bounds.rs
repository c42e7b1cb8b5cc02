//! Whatever bytes say of themselves, decoding allocates no more than they are long, some times over.

mod support;

use fastrand::Rng;
use kiln_store::{Artifact, DecodeLimits, Profile};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// Counts what a thread has allocated, and the most it had.
struct Counting;

thread_local! {
    static NOW_AND_PEAK: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    // Not there any more while the thread ends.
    let _ = NOW_AND_PEAK.try_with(|cell| {
        let (now, peak) = cell.get();
        cell.set((now + bytes, peak.max(now + bytes)));
    });
}

// SAFETY: it is the system's; what is counted needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: by the caller.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that was allocated at once.
fn peak_of(run: impl FnOnce()) -> usize {
    NOW_AND_PEAK.set((0, 0));
    run();
    NOW_AND_PEAK.get().1 as usize
}

const LIMITS: DecodeLimits = DecodeLimits {
    bytes_max: 1 << 20,
    code_bytes_max: 1 << 16,
    text_bytes_max: 1 << 16,
    regions_max: 16,
};

/// An envelope around a head and what comes behind it.
fn sealed(magic: &[u8; 8], head: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(1u32.to_le_bytes());
    bytes.extend((head.len() as u32).to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    let hash = blake3::Hasher::new().update(&bytes).update(head).finalize();
    bytes.extend(hash.as_bytes());
    [&*bytes, head, payload].concat()
}

/// Head and payload of what was written.
fn parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    let head_len = u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]]) as usize;
    bytes[56..].split_at(head_len)
}

#[test]
fn the_format_is_as_it_is_described() {
    let artifact = support::artifact(&mut Rng::with_seed(1));
    let bytes = artifact.encode();
    let (head, payload) = parts(&bytes);
    assert!(sealed(b"kilnart\n", head, payload) == bytes);
    assert!(payload.starts_with(&artifact.bytecode));
    let bytes = Profile::default().encode();
    assert!(sealed(b"kilnprf\n", parts(&bytes).0, &[]) == bytes);
}

#[test]
fn any_bytes_take_no_more_room_than_they_may() {
    let mut rng = Rng::with_seed(2);
    let mut read = 0;
    for _ in 0..3000 {
        let artifact = support::artifact(&mut rng);
        let bytes = artifact.encode();
        let (head, payload) = parts(&bytes);
        let mut head = head.to_vec();
        for _ in 0..rng.usize(..3) {
            // Numbers that say there is very much to come.
            let at = rng.usize(64..head.len());
            let end = head.len().min(at + rng.usize(..6));
            head[at..end].fill(0xff);
        }
        let bytes = sealed(b"kilnart\n", &head, payload);
        let peak = peak_of(|| {
            let artifact = Artifact::decode(&bytes, &artifact.key, &LIMITS);
            read += usize::from(artifact.is_ok());
        });
        // Tables are the larger part: 128 bytes and some for an entry of nine.
        assert!(
            peak < 20 * bytes.len() && peak < 2 * LIMITS.bytes_max,
            "{peak} of {}",
            bytes.len()
        );
        for len in [head.len(), 30] {
            let mut bytes = sealed(b"kilnprf\n", &head[..len], &[]);
            bytes.extend(vec![0xff; rng.usize(..40)]);
            let peak = peak_of(|| drop(Profile::decode(&bytes)));
            assert!(peak < 20 * bytes.len(), "{peak} of {}", bytes.len());
        }
    }
    assert!(read > 500, "{read}");
}

/// A table for each of many small regions of a long code is more than the file.
#[test]
fn tables_are_counted_before_there_is_room_for_them() {
    let mut rng = Rng::with_seed(3);
    let mut artifact = support::artifact(&mut rng);
    artifact.bytecode = vec![0x5b; 1 << 16];
    let rank = kiln_store::Rank::TIER1;
    let one = std::iter::repeat_with(|| support::regions(&mut rng, &artifact.bytecode, rank))
        .find(|regions| !regions.objects.is_empty())
        .expect("one with a region");
    let objects = vec![one.objects[0].clone(); 4000];
    artifact.regions = Some(kiln_store::ArtifactRegions { objects, ..one });
    artifact.key =
        kiln_store::Key::new(&artifact.bytecode, &artifact.config, artifact.key.build, rank);
    let bytes = artifact.encode();
    let limits = DecodeLimits { bytes_max: 4 << 20, regions_max: 5000, ..LIMITS };
    assert!(bytes.len() < limits.bytes_max);
    let peak = peak_of(|| {
        let error = Artifact::decode(&bytes, &artifact.key, &limits).expect_err("too much");
        assert!(error.to_string().starts_with("bytes in memory: "), "{error}");
    });
    assert!(peak < limits.bytes_max, "{peak}");
}
