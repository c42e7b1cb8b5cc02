//! Messages are read as they were written, and any bytes are a message or an error, within bounds.

use super::*;
use crate::worker::assembler::Assembler;
use fastrand::Rng;
use kiln_abi::{CodeObject, EntryTable};
use kiln_ir::JumpDests;
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeSet,
};

const MAX: usize = 1 << 20;

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

/// Bytes that were allocated at a time while something was done, at most.
fn peak_of(act: impl FnOnce()) -> usize {
    NOW_AND_PEAK.set((0, 0));
    act();
    NOW_AND_PEAK.get().1.max(0) as usize
}

fn request(rng: &mut Rng) -> JobRequest {
    let bytecode: Vec<u8> =
        (0..rng.usize(1..400)).map(|_| if rng.u8(..4) == 0 { 0x5b } else { rng.u8(..) }).collect();
    let len = bytecode.len() as u32;
    JobRequest {
        config: Config {
            spec: SpecId::try_from_u8(rng.u8(..20)).unwrap_or_default(),
            gas: std::array::from_fn(|_| rng.u16(..)),
            replaced: (0..rng.u8(..9)).map(|_| rng.u8(..)).collect(),
        },
        limits: Limits {
            perturb: Perturb::from_bits(rng.u8(..16)).unwrap_or_default(),
            ..if rng.bool() { Limits::default() } else { Limits::NONE }
        },
        counts: (0..rng.usize(..20)).map(|_| (Pc(rng.u32(..len)), rng.u64(..))).collect(),
        choice: Choice { hot: rng.u64(..), regions_max: rng.usize(3..9) },
        target: if rng.bool() { Target::Host } else { Target::Baseline },
        deadline_ms: rng.u32(..),
        bytecode,
    }
}

fn object(rng: &mut Rng, bytecode: &[u8]) -> CodeObject {
    let text: Vec<u8> = (0..rng.usize(64..600)).map(|_| rng.u8(..)).collect();
    let mut entries = EntryTable::new(bytecode.len(), 2);
    // In order, so that the chunks are: a table that was read has them so.
    let dests = JumpDests::of(bytecode);
    let pcs: BTreeSet<usize> = (0..rng.usize(1..4)).map(|_| rng.usize(..bytecode.len())).collect();
    for pc in pcs {
        entries.insert(Pc(pc as u32), rng.u32(1..32), dests.contains(pc) && rng.bool());
    }
    entries.shrink();
    CodeObject {
        code_len: rng.usize(32..=48),
        records: 48 + 4 * rng.usize(..4),
        blocks: rng.usize(1..64),
        text,
        entries,
    }
}

fn answer(rng: &mut Rng, request: &JobRequest) -> Answer {
    Answer {
        objects: (0..rng.usize(..3)).map(|_| object(rng, &request.bytecode)).collect(),
        left_out: rng.u32(..),
        phases: Phases {
            analyse_ns: rng.u64(..),
            build_ns: rng.u64(..),
            optimise_ns: rng.u64(..),
            codegen_ns: rng.u64(..),
        },
        instructions: rng.u64(..),
        cpu_ns: rng.u64(..),
    }
}

/// The payload of a frame.
fn payload(frame: &[u8]) -> &[u8] {
    let (len, payload) = frame.split_first_chunk().expect("a length");
    assert_eq!(u32::from_le_bytes(*len) as usize, payload.len());
    payload
}

fn identity() -> Identity {
    Identity { version: "1.2.3".into(), abi: 4, cpu: 5 }
}

const CONFINE: Confine =
    Confine { memory_bytes_max: 6, nice: -7, request_bytes_max: 8, answer_bytes_max: 9 };

#[test]
fn messages_are_read_as_they_were_written() {
    let hello = encode_hello(&identity()).expect("a hello");
    assert_eq!(decode_hello(payload(&hello)), Ok(Hello::Same(identity())));
    let confine = encode_confine(&CONFINE).expect("limits");
    assert_eq!(decode_confine(payload(&confine)), Ok(CONFINE));
    let cancel = encode_cancel(77).expect("a cancel");
    assert!(matches!(decode_to_worker(payload(&cancel)), Ok(ToWorker::Cancel(77))));
    let mut rng = Rng::with_seed(1);
    for id in 0..300 {
        let request = request(&mut rng);
        let job = encode_job(id, &request, MAX).expect("a job");
        match decode_to_worker(payload(&job)) {
            Ok(ToWorker::Job(read, job)) => assert_eq!((read, *job), (id, request.clone())),
            other => panic!("{other:?}"),
        }
        let results = [
            Ok(answer(&mut rng, &request)),
            Err(JobError::Cancelled),
            Err(JobError::Failed("no".into())),
            Err(JobError::TooLarge("large".into())),
        ];
        for result in results {
            let frame = encode_answer(id, &result, MAX).expect("an answer");
            assert_eq!(decode_answer(payload(&frame), (id, &request), MAX), Ok(result));
            let another = WireError::Malformed("the answer to another job");
            let read = decode_answer(payload(&frame), (id.wrapping_add(1), &request), MAX);
            assert_eq!(read, Err(another));
        }
    }
}

#[test]
fn a_hello_of_another_protocol_is_known_as_such() {
    let mut hello = encode_hello(&identity()).expect("a hello");
    let at = HEADER + 1 + MAGIC.len();
    hello[at..at + 4].copy_from_slice(&[1, 2, 3, 4]);
    // What is behind it has another format.
    hello.truncate(at + 4);
    assert_eq!(decode_hello(&hello[HEADER..]), Ok(Hello::Other(0x0403_0201)));
}

#[test]
fn messages_over_the_limit_are_not_made() {
    let request = request(&mut Rng::with_seed(1));
    let frame = encode_job(0, &request, MAX).expect("a job");
    let bytes = frame.len() - HEADER;
    assert!(encode_job(0, &request, bytes).is_ok());
    let error = WireError::TooLong { bytes, max: bytes - 1 };
    assert_eq!(encode_job(0, &request, bytes - 1), Err(error));
    let long = Err(JobError::Failed("é".repeat(MAX)));
    let frame = encode_answer(0, &long, 2 * TEXT_MAX).expect("a short answer");
    let read = decode_answer(payload(&frame), (0, &request), MAX);
    assert!(matches!(read, Ok(Err(JobError::Failed(text))) if text == "é".repeat(TEXT_MAX / 2)));
}

#[test]
fn frames_are_put_together_from_any_pieces() {
    let mut rng = Rng::with_seed(2);
    let sent: Vec<Vec<u8>> =
        (0..200).map(|_| (0..rng.usize(..300)).map(|_| rng.u8(..)).collect()).collect();
    let stream: Vec<u8> = sent
        .iter()
        .flat_map(|payload| (payload.len() as u32).to_le_bytes().into_iter().chain(payload.clone()))
        .collect();
    let (mut inbox, mut received, mut rest) = (Assembler::new(300), Vec::new(), stream.as_slice());
    while !rest.is_empty() {
        let (now, later) = rest.split_at(rng.usize(1..=rest.len().min(700)));
        inbox.push(now);
        rest = later;
        while let Some(payload) = inbox.take().expect("frames in order") {
            received.push(payload);
        }
    }
    assert!(inbox.is_empty());
    assert_eq!(received, sent);
    inbox.push(&301u32.to_le_bytes());
    assert_eq!(inbox.take(), Err(WireError::TooLong { bytes: 301, max: 300 }));
}

/// What an answer with one object reads as, after a change.
fn read_changed(change: impl FnOnce(&mut CodeObject, &mut JobRequest)) -> Result<(), WireError> {
    let mut request = JobRequest {
        bytecode: [0x5b, 0x00].repeat(40),
        limits: Limits { text_ratio_max: 1, text_bytes_free: 0, ..Limits::default() },
        choice: Choice { hot: 1, regions_max: 1 },
        ..request(&mut Rng::with_seed(3))
    };
    let mut entries = EntryTable::new(80, 1);
    entries.insert(Pc(2), 1, true);
    entries.insert(Pc(79), 31, false);
    let mut object =
        CodeObject { text: vec![0; 600], code_len: 32, entries, records: 32, blocks: 1 };
    change(&mut object, &mut request);
    let answer = Answer { objects: vec![object], ..Answer::default() };
    let frame = encode_answer(0, &Ok(answer), MAX).expect("an answer");
    decode_answer(payload(&frame), (0, &request), MAX)?.map(drop).map_err(|error| panic!("{error}"))
}

#[test]
fn objects_that_can_not_be_are_refused() {
    assert_eq!(read_changed(|_, _| ()), Ok(()));
    let refused = |change: fn(&mut CodeObject, &mut JobRequest)| {
        assert!(read_changed(change).is_err());
    };
    // Over a limit.
    refused(|object, _| object.text.push(0));
    refused(|_, request| request.choice.regions_max = 0);
    // Not in the text.
    refused(|object, _| object.records = 604);
    refused(|object, _| object.code_len = 33);
    refused(|object, _| object.records = 34);
    // Entries where there is no code, of either kind.
    refused(|object, _| object.code_len = 31);
    refused(|_, request| request.bytecode.truncate(79));
    refused(|_, request| request.bytecode[2] = 0x5a);
    // The data of a PUSH1.
    refused(|_, request| request.bytecode[1] = 0x60);
    refused(|object, _| {
        object.code_len = 600;
        object.records = 600;
        object.entries.insert(Pc(4), 600, true);
    });
    refused(|object, _| object.entries.insert(Pc(79), 31, true));
}

#[test]
fn entries_out_of_order_or_at_offset_0_are_refused() {
    let request = JobRequest { bytecode: vec![0x5b; 9], ..request(&mut Rng::with_seed(4)) };
    let read = |entries: &[[u8; 9]]| {
        let sent = Sent {
            text: &[0; 64],
            code_len: 64,
            records: 64,
            blocks: 1,
            entries: entries.as_flattened(),
        };
        Budget::new(&request, MAX)?.take(sent).map(|object| object.entries.len())
    };
    let entry = |pc, offset, is_jumpdest| [pc, 0, 0, 0, offset, 0, 0, 0, is_jumpdest];
    assert_eq!(read(&[entry(3, 9, 0), entry(5, 8, 1)]), Ok(2));
    assert!(read(&[entry(5, 8, 1), entry(3, 9, 0)]).is_err());
    assert!(read(&[entry(5, 8, 1), entry(5, 8, 1)]).is_err());
    assert!(read(&[entry(5, 0, 1)]).is_err());
    assert!(read(&[entry(5, 8, 2)]).is_err());
    assert!(read(&[entry(9, 8, 0)]).is_err());
    assert!(read(&[[0xff; 9]]).is_err());
}

#[test]
fn objects_over_the_budget_are_refused_before_there_is_room_for_them() {
    // The table of entries of a long code, with an object of a few bytes.
    let request = JobRequest {
        bytecode: vec![0; 1 << 20],
        choice: Choice { hot: 1, regions_max: usize::MAX },
        ..request(&mut Rng::with_seed(5))
    };
    let entries = EntryTable::new(1 << 20, 0);
    let object = CodeObject { text: vec![0; 4], entries, ..CodeObject::default() };
    let answer = Answer { objects: vec![object; 1000], ..Answer::default() };
    let frame = encode_answer(0, &Ok(answer), MAX).expect("an answer");
    let peak = peak_of(|| {
        let read = decode_answer(payload(&frame), (0, &request), MAX);
        assert!(matches!(read, Err(WireError::Limit { .. })));
    });
    assert!(peak < 2 * MAX, "{peak} bytes");
}

/// Reads bytes as everything there is, and checks what comes of them.
fn read_all(bytes: &[u8], id: u64, request: &JobRequest) {
    let peak = peak_of(|| {
        let hello = decode_hello(bytes);
        assert!(hello.is_err() || bytes.len() <= HELLO_BYTES_MAX);
        let confine = decode_confine(bytes);
        assert!(confine.is_err() || bytes[0] == tag::CONFINE);
        if let Ok(ToWorker::Job(_, job)) = decode_to_worker(bytes) {
            assert!(job.bytecode.len() + COUNT * job.counts.len() < bytes.len());
        }
        if let Ok(Ok(answer)) = decode_answer(bytes, (id, request), MAX) {
            assert!(answer.objects.len() <= request.choice.regions_max);
            for object in answer.objects {
                assert!(object.code_len <= object.records && object.records <= object.text.len());
                assert!(object.records.is_multiple_of(4));
                for (Pc(pc), offset, is_jumpdest) in object.entries.iter() {
                    assert!((1..object.code_len).contains(&(offset as usize)));
                    assert!(!is_jumpdest || request.bytecode[pc as usize] == 0x5b);
                }
            }
        }
    });
    // Tables of entries are the only thing that is larger than what it is read from.
    let tables = request.choice.regions_max * (512 + 128 * (request.bytecode.len() / 32 + 1));
    assert!(peak < 8 * bytes.len() + tables + 4096, "{peak} bytes from {}", bytes.len());
}

#[test]
fn any_bytes_are_a_message_or_an_error() {
    let mut rng = Rng::with_seed(6);
    for round in 0..4000 {
        let request = request(&mut rng);
        let frame = match round % 6 {
            0 => encode_hello(&identity()),
            1 => encode_confine(&CONFINE),
            2 => encode_job(1, &request, MAX),
            3 | 4 => encode_answer(1, &Ok(answer(&mut rng, &request)), MAX),
            _ => encode_answer(1, &Err(JobError::Failed("no".into())), MAX),
        };
        let mut bytes = frame.expect("a frame").split_off(HEADER);
        read_all(&bytes, 1, &request);
        for _ in 0..8 {
            mutate(&mut rng, &mut bytes);
            read_all(&bytes, 1, &request);
        }
    }
    for _ in 0..4000 {
        let request = request(&mut rng);
        let mut bytes: Vec<u8> = (0..rng.usize(..200)).map(|_| rng.u8(..)).collect();
        if let Some(first) = bytes.first_mut() {
            *first = rng.u8(..8);
        }
        read_all(&bytes, rng.u64(..4), &request);
    }
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..6) {
        0 => bytes.truncate(at),
        1 => bytes.insert(at, rng.u8(..)),
        2 => bytes.extend_from_within(at..),
        // Long lengths.
        3 => bytes.splice(at..at, [0xff, 0xff, 0xff, 0xff, 0x0f]).for_each(drop),
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.u8(..8);
            }
        }
    }
}
