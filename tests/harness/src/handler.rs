//! A custom handler that observes every frame without an inspector.
//!
//! Owns the record of what happens between frames: an inspector would make the interpreter run, a
//! handler does not. It also is, itself, the test that a user's own handler works. Works over any
//! EVM with mainnet's context and frame, whatever its database; never changes what is executed, except
//! that it can make the first frame static.

use crate::db::CaseDb;
use revm::context::result::{EVMError, HaltReason};
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::handler::{EthFrame, EvmTr, FrameResult, Handler, ItemOrResult};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::{FrameInit, FrameInput};
use revm::interpreter::interpreter_types::{Jumps, MemoryTr};
use revm::interpreter::{Gas, InstructionResult, InterpreterResult};
use revm::primitives::{Address, Bytes, U256};
use revm::state::TransientStorage;
use revm::{Database, Journal, JournalEntry};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

/// Mainnet's context over a database.
pub type TracedContext<DB> = Context<BlockEnv, TxEnv, CfgEnv, DB, Journal<DB>, ()>;

/// The context of a case.
pub type CaseContext = TracedContext<CaseDb>;

/// Events kept of one transaction; beyond that, only their hash.
const EVENTS_MAX: usize = 512;

/// The canonical state of a frame at a call or create, seen from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Suspended {
    /// The pc at which it will go on.
    pub pc: usize,
    /// Gas, with refund, state gas and memory words.
    pub gas: Gas,
    /// Words on the stack.
    pub height: usize,
    /// Hash of the stack.
    pub stack: u64,
    /// Bytes of memory.
    pub memory_len: usize,
    /// Hash of memory.
    pub memory: u64,
    /// Bytes of return data.
    pub returndata_len: usize,
}

/// What the journal holds at a moment. Every account and slot that was made warm, changed or destroyed has
/// an entry, so these counts say what a frame did in front of a call, and what it logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct JournalLen {
    /// Entries.
    pub entries: usize,
    /// Logs.
    pub logs: usize,
}

/// Something that happened between frames.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame asks for another frame.
    Suspend(Suspended, JournalLen, Box<FrameInput>),
    /// A frame, or what took a frame's place, ended; before what it did is kept or undone.
    Result(Box<InterpreterResult>, Option<Address>),
}

/// What one transaction did, as seen between frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// The first events.
    pub events: Vec<Event>,
    /// How many there were.
    pub count: usize,
    /// Hash of those not kept.
    pub rest: u64,
    /// Transient storage at the end of the last frame.
    pub transient: TransientStorage,
    /// The journal at the end of the last frame, in its order: what was made warm, changed, destroyed.
    pub journal: Vec<JournalEntry>,
    /// Accounts that were destroyed.
    pub destroyed: Vec<Address>,
}

impl Trace {
    fn push(&mut self, event: Event) {
        self.count += 1;
        if self.events.len() < EVENTS_MAX {
            return self.events.push(event);
        }
        let mut hasher = DefaultHasher::new();
        self.rest.hash(&mut hasher);
        match event {
            Event::Suspend(suspended, journal, _) => (suspended, journal).hash(&mut hasher),
            Event::Result(result, address) => {
                (result.result, &result.output, result.gas, address).hash(&mut hasher);
            }
        }
        self.rest = hasher.finish();
    }

    fn result(&mut self, result: &FrameResult) {
        let address = match result {
            FrameResult::Call(_) => None,
            FrameResult::Create(outcome) => outcome.address,
        };
        self.push(Event::Result(Box::new(result.interpreter_result().clone()), address));
    }

    /// The results of all frames kept, in the order in which they ended.
    pub fn results(&self) -> impl Iterator<Item = (InstructionResult, &Bytes)> {
        self.events.iter().filter_map(|event| match event {
            Event::Result(result, _) => Some((result.result, &result.output)),
            Event::Suspend(..) => None,
        })
    }
}

/// Mainnet's handler, with a record.
#[derive(Debug)]
pub struct TraceHandler<EVM> {
    /// Whether the first frame is static.
    pub is_static: bool,
    /// The record.
    pub trace: Trace,
    _evm: PhantomData<fn(EVM)>,
}

impl<EVM> TraceHandler<EVM> {
    /// A handler with an empty record.
    pub fn new(is_static: bool) -> Self {
        Self { is_static, trace: Trace::default(), _evm: PhantomData }
    }
}

impl<EVM, DB> Handler for TraceHandler<EVM>
where
    DB: Database,
    EVM: EvmTr<Context = TracedContext<DB>, Frame = EthFrame<EthInterpreter>>,
{
    type Evm = EVM;
    type Error = EVMError<DB::Error>;
    type HaltReason = HaltReason;

    fn run_exec_loop(
        &mut self,
        evm: &mut EVM,
        mut first: FrameInit,
    ) -> Result<FrameResult, Self::Error> {
        if let FrameInput::Call(inputs) = &mut first.frame_input {
            inputs.is_static |= self.is_static;
        }
        if let ItemOrResult::Result(result) = evm.frame_init(first)? {
            self.trace.result(&result);
            return Ok(result);
        }
        loop {
            let result = match evm.frame_run()? {
                ItemOrResult::Item(init) => {
                    let suspended = suspended(evm.frame_stack().get());
                    let input = Box::new(init.frame_input.clone());
                    let journal = &evm.ctx().journaled_state.inner;
                    let journal =
                        JournalLen { entries: journal.journal.len(), logs: journal.logs.len() };
                    self.trace.push(Event::Suspend(suspended, journal, input));
                    match evm.frame_init(init)? {
                        ItemOrResult::Item(_) => continue,
                        ItemOrResult::Result(result) => result,
                    }
                }
                ItemOrResult::Result(result) => result,
            };
            self.trace.result(&result);
            if let Some(result) = evm.frame_return_result(result)? {
                let journal = &evm.ctx().journaled_state.inner;
                self.trace.transient = journal.transient_storage.clone();
                self.trace.journal = journal.journal.clone();
                self.trace.destroyed = journal.selfdestructed_addresses.clone();
                return Ok(result);
            }
        }
    }
}

fn suspended(frame: &EthFrame<EthInterpreter>) -> Suspended {
    let interpreter = &frame.interpreter;
    Suspended {
        pc: interpreter.bytecode.pc(),
        gas: interpreter.gas,
        height: interpreter.stack.len(),
        stack: hash_words(interpreter.stack.data()),
        memory_len: interpreter.memory.size(),
        memory: hash_bytes(&interpreter.memory.context_memory()),
        returndata_len: interpreter.return_data.0.len(),
    }
}

/// Of the stack's words: see [`hash`].
fn hash_words(words: &[U256]) -> u64 {
    hash(words.len(), words.iter().flat_map(|word| *word.as_limbs()))
}

/// Of bytes: see [`hash`].
fn hash_bytes(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    hash(bytes.len(), chunks.iter().chain([&last]).map(|chunk| u64::from_le_bytes(*chunk)))
}

/// Only has to differ where what is hashed differs. Not the standard library's: there are many words to
/// hash, and nobody chooses them to collide.
fn hash(len: usize, limbs: impl Iterator<Item = u64>) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    limbs.fold(len as u64, |state, limb| {
        let product = u128::from((state ^ limb).wrapping_add(FACTOR)) * u128::from(FACTOR);
        (product as u64 ^ (product >> 64) as u64).rotate_left(23)
    })
}
