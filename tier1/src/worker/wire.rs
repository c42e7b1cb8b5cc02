//! How hellos, jobs and answers are written down.
//!
//! **Owns** the formats. A frame is the length of its payload, 4 bytes, the lowest first, and the payload;
//! that one begins with a byte that says what it is. Behind it a body in postcard; a hello has magic and
//! protocol version first, so that these are read from any version.
//!
//! **Callers guarantee** nothing of what they decode: any bytes give a value or an error, and what is
//! allocated is bounded by the length of the bytes and, for objects, by the limit given. **Never** changes
//! without [`PROTOCOL`].

use super::{Answer, JobError, JobRequest, Phases, Target, limits::Confine, objects::Budget};
use kiln_abi::Pc;
use kiln_ir::{
    Config, Limits, OpcodeSet, Perturb, SpecId,
    identity::Identity,
    sent::{self, Sent, entries_to_send},
    ssa::Choice,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

/// Of the formats and of who sends what when.
pub(super) const PROTOCOL: u32 = 2;
/// Bytes of a frame in front of its payload.
pub(super) const HEADER: usize = 4;
/// Bytes of a hello's payload, at most.
pub(super) const HELLO_BYTES_MAX: usize = 4096;
/// Characters of a compiler's refusal that are sent.
const TEXT_MAX: usize = 1024;

const MAGIC: [u8; 8] = *b"kiln-t1\n";
const GAS_BYTES: usize = 512;
const COUNT: usize = 12;

/// What a payload is: its first byte.
mod tag {
    pub(super) const HELLO: u8 = 1;
    pub(super) const CONFINE: u8 = 2;
    pub(super) const JOB: u8 = 3;
    pub(super) const CANCEL: u8 = 4;
    pub(super) const ANSWER: u8 = 5;
}

/// Why bytes are no message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(super) enum WireError {
    #[error("a message of {bytes} bytes, of {max} at most")]
    TooLong { bytes: usize, max: usize },
    #[error("{what} over the limit of {max} bytes")]
    Limit { what: &'static str, max: usize },
    #[error("{0}")]
    Malformed(&'static str),
    #[error("malformed: {0}")]
    Postcard(#[from] postcard::Error),
}

impl From<sent::Malformed> for WireError {
    fn from(sent::Malformed(what): sent::Malformed) -> Self {
        Self::Malformed(what)
    }
}

/// Bytes that are written and read in one piece.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// A frame that is being written.
struct Frame(Vec<u8>);

impl Frame {
    fn new(tag: u8) -> Self {
        Self(vec![0, 0, 0, 0, tag])
    }

    fn add(self, value: &impl Serialize) -> Result<Self, WireError> {
        Ok(Self(postcard::to_extend(value, self.0)?))
    }

    fn finish(mut self, max: usize) -> Result<Vec<u8>, WireError> {
        let bytes = self.0.len() - HEADER;
        match u32::try_from(bytes) {
            Ok(len) if bytes <= max => self.0[..HEADER].copy_from_slice(&len.to_le_bytes()),
            _ => return Err(WireError::TooLong { bytes, max }),
        }
        Ok(self.0)
    }
}

fn body(payload: &[u8], tag: u8) -> Result<&[u8], WireError> {
    match payload.split_first() {
        Some((&first, body)) if first == tag => Ok(body),
        _ => Err(WireError::Malformed("not the message that was to come")),
    }
}

/// All of a body.
fn whole<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, WireError> {
    match postcard::take_from_bytes(body)? {
        (value, []) => Ok(value),
        _ => Err(WireError::Malformed("more than there was to come")),
    }
}

#[derive(Serialize, Deserialize)]
struct WireIdentity<'a> {
    version: &'a str,
    abi: u64,
    cpu: u64,
}

/// What one side says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// It speaks the same protocol.
    Same(Identity),
    /// It speaks this one.
    Other(u32),
}

pub(super) fn encode_hello(identity: &Identity) -> Result<Vec<u8>, WireError> {
    let mut frame = Frame::new(tag::HELLO);
    frame.0.extend(MAGIC);
    frame.0.extend(PROTOCOL.to_le_bytes());
    let Identity { version, abi, cpu } = identity;
    frame.add(&WireIdentity { version, abi: *abi, cpu: *cpu })?.finish(HELLO_BYTES_MAX)
}

pub(super) fn decode_hello(payload: &[u8]) -> Result<Hello, WireError> {
    let rest = body(payload, tag::HELLO)?
        .strip_prefix(&MAGIC)
        .ok_or(WireError::Malformed("not the magic number"))?;
    let (protocol, rest) =
        rest.split_first_chunk().ok_or(WireError::Malformed("no protocol version"))?;
    match u32::from_le_bytes(*protocol) {
        PROTOCOL => {}
        other => return Ok(Hello::Other(other)),
    }
    let WireIdentity { version, abi, cpu } = whole(rest)?;
    Ok(Hello::Same(Identity { version: version.into(), abi, cpu }))
}

pub(super) fn encode_confine(confine: &Confine) -> Result<Vec<u8>, WireError> {
    Frame::new(tag::CONFINE).add(confine)?.finish(HELLO_BYTES_MAX)
}

pub(super) fn decode_confine(payload: &[u8]) -> Result<Confine, WireError> {
    whole(body(payload, tag::CONFINE)?)
}

#[derive(Serialize, Deserialize)]
struct WireJob<'a> {
    id: u64,
    spec: u8,
    #[serde(borrow)]
    gas: Bytes<'a>,
    replaced: [u64; 4],
    limits: [u64; 6],
    perturb: u8,
    hot: u64,
    regions_max: u64,
    baseline: bool,
    deadline_ms: u32,
    /// [`COUNT`] bytes each: pc, count.
    counts: Bytes<'a>,
    bytecode: Bytes<'a>,
}

pub(super) fn encode_job(id: u64, request: &JobRequest, max: usize) -> Result<Vec<u8>, WireError> {
    let JobRequest { bytecode, config, limits, counts, choice, target, deadline_ms } = request;
    let gas: Vec<u8> = config.gas.iter().flat_map(|gas| gas.to_le_bytes()).collect();
    let counts: Vec<u8> = counts
        .iter()
        .flat_map(|(Pc(pc), count)| pc.to_le_bytes().into_iter().chain(count.to_le_bytes()))
        .collect();
    let job = WireJob {
        id,
        spec: config.spec as u8,
        gas: Bytes(&gas),
        replaced: config.replaced.words(),
        limits: limits_to_send(limits),
        perturb: limits.perturb.bits(),
        hot: choice.hot,
        regions_max: choice.regions_max as u64,
        baseline: *target == Target::Baseline,
        deadline_ms: *deadline_ms,
        counts: Bytes(&counts),
        bytecode: Bytes(bytecode),
    };
    Frame::new(tag::JOB).add(&job)?.finish(max)
}

/// What a parent sends between the hello and the end.
#[derive(Debug)]
pub(super) enum ToWorker {
    /// A job, with its number.
    Job(u64, Box<JobRequest>),
    /// The job of this number is called off.
    Cancel(u64),
}

pub(super) fn decode_to_worker(payload: &[u8]) -> Result<ToWorker, WireError> {
    if let Ok(body) = body(payload, tag::CANCEL) {
        return whole(body).map(ToWorker::Cancel);
    }
    let job: WireJob<'_> = whole(body(payload, tag::JOB)?)?;
    if job.gas.0.len() != GAS_BYTES {
        return Err(WireError::Malformed("not the gas of 256 opcodes"));
    }
    let mut gas = [0; 256];
    for (gas, sent) in gas.iter_mut().zip(job.gas.0.as_chunks().0) {
        *gas = u16::from_le_bytes(*sent);
    }
    let replaced = OpcodeSet::from_words(job.replaced);
    let (counts, rest) = job.counts.0.as_chunks::<COUNT>();
    if !rest.is_empty() {
        return Err(WireError::Malformed("a part of a count"));
    }
    let count = |&[p0, p1, p2, p3, count @ ..]: &[u8; COUNT]| {
        (Pc(u32::from_le_bytes([p0, p1, p2, p3])), u64::from_le_bytes(count))
    };
    let spec = SpecId::try_from_u8(job.spec).ok_or(WireError::Malformed("not a fork"))?;
    let perturb = Perturb::from_bits(job.perturb);
    let perturb = perturb.ok_or(WireError::Malformed("not the bits of slow paths"))?;
    let request = JobRequest {
        bytecode: job.bytecode.0.to_vec(),
        config: Config { spec, gas, replaced },
        limits: Limits { perturb, ..limits_received(job.limits)? },
        counts: counts.iter().map(count).collect(),
        choice: Choice { hot: job.hot, regions_max: size(job.regions_max)? },
        target: if job.baseline { Target::Baseline } else { Target::Host },
        deadline_ms: job.deadline_ms,
    };
    Ok(ToWorker::Job(job.id, Box::new(request)))
}

fn limits_to_send(limits: &Limits) -> [u64; 6] {
    let Limits {
        code_bytes_max,
        block_instructions_max,
        insts_max,
        fixups_max,
        text_ratio_max,
        text_bytes_free,
        perturb: _,
    } = *limits;
    let limits = [
        code_bytes_max,
        block_instructions_max,
        insts_max,
        fixups_max,
        text_ratio_max,
        text_bytes_free,
    ];
    limits.map(|limit| limit as u64)
}

fn limits_received(sent: [u64; 6]) -> Result<Limits, WireError> {
    let mut limits = [0; 6];
    for (limit, sent) in limits.iter_mut().zip(sent) {
        *limit = size(sent)?;
    }
    let [
        code_bytes_max,
        block_instructions_max,
        insts_max,
        fixups_max,
        text_ratio_max,
        text_bytes_free,
    ] = limits;
    Ok(Limits {
        code_bytes_max,
        block_instructions_max,
        insts_max,
        fixups_max,
        text_ratio_max,
        text_bytes_free,
        perturb: Perturb::NONE,
    })
}

fn size(sent: u64) -> Result<usize, WireError> {
    usize::try_from(sent).map_err(|_| WireError::Malformed("a size beyond this machine's"))
}

pub(super) fn encode_cancel(id: u64) -> Result<Vec<u8>, WireError> {
    Frame::new(tag::CANCEL).add(&id)?.finish(HELLO_BYTES_MAX)
}

#[derive(Serialize, Deserialize)]
enum WireResult<'a> {
    Done { phases: [u64; 4], instructions: u64, cpu_ns: u64, left_out: u32, objects: u32 },
    Cancelled,
    Failed(&'a str),
    TooLarge(&'a str),
}

#[derive(Serialize, Deserialize)]
struct WireObject<'a> {
    code_len: u32,
    records: u32,
    blocks: u32,
    #[serde(borrow)]
    entries: Bytes<'a>,
    text: Bytes<'a>,
}

pub(super) fn encode_answer(
    id: u64,
    result: &Result<Answer, JobError>,
    max: usize,
) -> Result<Vec<u8>, WireError> {
    let frame = Frame::new(tag::ANSWER).add(&id)?;
    let frame = match result {
        Ok(answer) => add_objects(frame, answer)?,
        Err(JobError::Cancelled) => frame.add(&WireResult::Cancelled)?,
        Err(JobError::Failed(text)) => frame.add(&WireResult::Failed(short(text)))?,
        Err(JobError::TooLarge(text)) => frame.add(&WireResult::TooLarge(short(text)))?,
    };
    frame.finish(max)
}

fn add_objects(frame: Frame, answer: &Answer) -> Result<Frame, WireError> {
    let Answer { objects, left_out, phases, instructions, cpu_ns } = answer;
    let Phases { analyse_ns, build_ns, optimise_ns, codegen_ns } = *phases;
    let short = |size: usize| {
        u32::try_from(size).map_err(|_| WireError::Malformed("a number beyond 32 bits"))
    };
    let mut frame = frame.add(&WireResult::Done {
        phases: [analyse_ns, build_ns, optimise_ns, codegen_ns],
        instructions: *instructions,
        cpu_ns: *cpu_ns,
        left_out: *left_out,
        objects: short(objects.len())?,
    })?;
    for object in objects {
        frame = frame.add(&WireObject {
            code_len: short(object.code_len)?,
            records: short(object.records)?,
            blocks: short(object.blocks)?,
            entries: Bytes(&entries_to_send(&object.entries)),
            text: Bytes(&object.text),
        })?;
    }
    Ok(frame)
}

/// The answer to the request with this number. `max` bounds the bytes of all objects together.
pub(super) fn decode_answer(
    payload: &[u8],
    (id, request): (u64, &JobRequest),
    max: usize,
) -> Result<Result<Answer, JobError>, WireError> {
    let (of, rest) = postcard::take_from_bytes::<u64>(body(payload, tag::ANSWER)?)?;
    if of != id {
        return Err(WireError::Malformed("the answer to another job"));
    }
    let (result, mut rest) = postcard::take_from_bytes(rest)?;
    let mut answer = Answer::default();
    let error = match result {
        WireResult::Done { phases, instructions, cpu_ns, left_out, objects } => {
            let [analyse_ns, build_ns, optimise_ns, codegen_ns] = phases;
            answer.phases = Phases { analyse_ns, build_ns, optimise_ns, codegen_ns };
            (answer.instructions, answer.cpu_ns) = (instructions, cpu_ns);
            answer.left_out = left_out;
            let mut budget = Budget::new(request, max)?;
            for _ in 0..objects {
                let (object, behind) = postcard::take_from_bytes::<WireObject<'_>>(rest)?;
                let WireObject { code_len, records, blocks, entries, text } = object;
                let (text, entries) = (text.0, entries.0);
                answer.objects.push(budget.take(Sent {
                    text,
                    code_len,
                    records,
                    blocks,
                    entries,
                })?);
                rest = behind;
            }
            None
        }
        WireResult::Cancelled => Some(JobError::Cancelled),
        WireResult::Failed(text) => Some(JobError::Failed(short(text).into())),
        WireResult::TooLarge(text) => Some(JobError::TooLarge(short(text).into())),
    };
    if !rest.is_empty() {
        return Err(WireError::Malformed("more than there was to come"));
    }
    Ok(error.map_or(Ok(answer), Err))
}

/// The beginning of a text.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_MAX)]
}

#[cfg(test)]
mod tests;
