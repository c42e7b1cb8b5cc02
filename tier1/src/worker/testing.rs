//! The protocol, for fuzz targets (feature `testing`).
//!
//! **Owns** what is asked of any bytes that come in: they are a stream of frames or an error, each payload is a message
//! or an error, and a message is written and read as itself. **Callers guarantee** nothing. **Never** starts a process.

use super::{
    Answer, JobRequest, Target,
    assembler::Assembler,
    limits::Confine,
    wire::{self, HEADER, Hello, ToWorker},
};
use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_ir::{Config, Limits, OpcodeSet, SpecId, identity::Identity, ssa::Choice};

/// Bytes of a message, at most.
const MAX: usize = 1 << 16;
/// The number of the job to which answers belong.
const ID: u64 = 7;

/// Reads bytes as each kind of message, and as a stream of frames.
///
/// # Panics
/// If a message that was read is not written as itself.
pub fn decode(bytes: &[u8]) {
    message(bytes);
    let mut assembler = Assembler::new(MAX);
    for piece in bytes.chunks(7) {
        assembler.push(piece);
        while let Ok(Some(payload)) = assembler.take() {
            message(&payload);
        }
    }
}

/// What it is read as is written and read as the same again. Its own bytes may differ: numbers have longer forms.
fn message(payload: &[u8]) {
    if let Ok(hello) = wire::decode_hello(payload)
        && let Hello::Same(identity) = &hello
        && let Ok(frame) = wire::encode_hello(identity)
    {
        assert_eq!(wire::decode_hello(&frame[HEADER..]), Ok(hello));
    }
    if let Ok(confine) = wire::decode_confine(payload) {
        let frame = wire::encode_confine(&confine).expect("limits are short");
        assert_eq!(wire::decode_confine(&frame[HEADER..]), Ok(confine));
    }
    match wire::decode_to_worker(payload) {
        Ok(ToWorker::Cancel(id)) => {
            let frame = wire::encode_cancel(id).expect("a number is short");
            let again = wire::decode_to_worker(&frame[HEADER..]);
            assert!(matches!(again, Ok(ToWorker::Cancel(is)) if is == id));
        }
        Ok(ToWorker::Job(id, job)) => {
            let frame = wire::encode_job(id, &job, 4 * MAX).expect("as long as what was read");
            match wire::decode_to_worker(&frame[HEADER..]) {
                Ok(ToWorker::Job(is, again)) => assert_eq!((is, again), (id, job)),
                other => panic!("{other:?}"),
            }
        }
        Err(_) => {}
    }
    let request = request();
    if let Ok(result) = wire::decode_answer(payload, (ID, &request), MAX) {
        let frame = wire::encode_answer(ID, &result, 4 * MAX).expect("as long as what was read");
        assert_eq!(wire::decode_answer(&frame[HEADER..], (ID, &request), MAX), Ok(result));
    }
}

/// The request of the answers that are read.
fn request() -> JobRequest {
    JobRequest {
        bytecode: [0x5b, 0x00].repeat(40),
        config: Config { spec: SpecId::OSAKA, gas: [3; 256], replaced: OpcodeSet::EMPTY },
        limits: Limits::default(),
        counts: vec![(Pc(0), 9), (Pc(2), 1)],
        choice: Choice { hot: 1, regions_max: 4 },
        target: Target::Host,
        deadline_ms: 1000,
    }
}

/// A payload of each kind, by name: seeds.
///
/// # Panics
/// If one of them can not be written.
pub fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let mut entries = EntryTable::new(80, 1);
    entries.insert(Pc(2), 1, true);
    entries.insert(Pc(79), 31, false);
    let object =
        CodeObject { text: vec![0x90; 600], code_len: 32, entries, records: 32, blocks: 1 };
    let answer = Answer { objects: vec![object], ..Answer::default() };
    let identity = Identity { version: "1.2.3".into(), abi: 4, cpu: 5 };
    let confine =
        Confine { memory_bytes_max: 6, nice: -7, request_bytes_max: 8, answer_bytes_max: 9 };
    let frames = [
        ("hello", wire::encode_hello(&identity)),
        ("confine", wire::encode_confine(&confine)),
        ("job", wire::encode_job(ID, &request(), MAX)),
        ("cancel", wire::encode_cancel(ID)),
        ("answer", wire::encode_answer(ID, &Ok(answer), MAX)),
        ("refusal", wire::encode_answer(ID, &Err(super::JobError::Failed("no".into())), MAX)),
    ];
    let payload = |(name, frame): (_, Result<Vec<u8>, _>)| {
        (name, frame.expect("a short message").split_off(HEADER))
    };
    frames.into_iter().map(payload).collect()
}
