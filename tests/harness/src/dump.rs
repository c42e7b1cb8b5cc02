//! The stack-dump oracle: every state that an engine reports at a safepoint is one that the interpreter came through, in
//! order. The first that is not is where an error arose, or a few instructions behind.
//!
//! Owns the record of the interpreter's states ([`Steps`]), the comparison, and what is said of the first
//! difference ([`Divergence`]). Callers give each engine that is [`Watched`] one case at a time. Never compares
//! results: that is for [`crate::compare`]; a frame that ends within compiled code ends without a report.
//!
//! A report belongs to the first step, from the one that the last report belongs to on, with the same depth, pc, gas,
//! refund, stack and memory. Within a frame pc and gas tell steps apart; frames at one depth follow each other in
//! order, and between two of them the one around them reports.

use crate::case::Case;
use crate::db::CaseDb;
use crate::engine::{Outcome, context, tiered, transact};
use crate::handler::CaseContext;
use kiln_runtime::{Config, Engine, EngineError, EthEvm, Hooks, Safepoint, SafepointKind};
use revm::MainBuilder;
use revm::bytecode::opcode::{self as op, OpCode};
use revm::context::FrameStack;
use revm::handler::evm::{ContextDbError, FrameInitResult};
use revm::handler::instructions::InstructionProvider;
use revm::handler::{EthFrame, EvmTr, FrameInitOrResult, FrameResult, FrameTr};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::interpreter_types::{Jumps, LoopControl};
use revm::primitives::{U256, hex};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of memory that are compared; of longer memory only the length is.
const MEMORY_MAX: usize = 8 << 10;
/// Steps of a case that are kept; reports behind them are not compared.
const STEPS_MAX: usize = 2_000_000;
/// Instructions that a difference lists.
const LISTED_MAX: usize = 24;

/// The state of a frame in front of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    depth: u32,
    pc: u32,
    gas: u64,
    refunded: i64,
    height: u32,
    stack: u64,
    memory_len: u64,
    memory: u64,
}

impl State {
    /// Whether it is in front of the same instruction, by the same way as far as can be seen.
    fn is_at(&self, other: &Self) -> bool {
        (self.depth, self.pc, self.gas) == (other.depth, other.pc, other.gas)
    }
}

/// A quick hash of words.
fn mix(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0, |hash: u64, word| {
        let mixed = (hash ^ word).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    })
}

fn stack_hash(stack: &[U256]) -> u64 {
    mix(stack.iter().flat_map(|word| *word.as_limbs()))
}

fn memory_hash(memory: &[u8]) -> u64 {
    if memory.len() > MEMORY_MAX {
        return 0;
    }
    let (words, rest) = memory.as_chunks::<8>();
    let rest = rest.iter().map(|&byte| u64::from(byte));
    mix(words.iter().map(|&word| u64::from_le_bytes(word)).chain(rest))
}

/// A state with everything that is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Full {
    /// Calls and creates around the frame.
    pub depth: usize,
    /// The instruction that comes next.
    pub pc: usize,
    /// Gas left.
    pub gas: u64,
    /// Gas refunded so far in the frame.
    pub refunded: i64,
    /// The stack, the top last.
    pub stack: Vec<U256>,
    /// Memory.
    pub memory: Vec<u8>,
}

/// The same, where it lies.
#[derive(Clone, Copy)]
struct View<'a> {
    depth: usize,
    pc: usize,
    gas: u64,
    refunded: i64,
    stack: &'a [U256],
    memory: &'a [u8],
}

impl<'a> View<'a> {
    fn reported(safepoint: &Safepoint<'a>) -> Self {
        let Safepoint { depth, pc, gas, refunded, stack, memory, .. } = *safepoint;
        Self { depth, pc, gas, refunded, stack, memory }
    }

    fn of_frame(frame: &'a EthFrame<EthInterpreter>, memory: &'a [u8]) -> Self {
        let interpreter = &frame.interpreter;
        Self {
            depth: frame.depth,
            pc: interpreter.bytecode.pc(),
            gas: interpreter.gas.remaining(),
            refunded: interpreter.gas.refunded(),
            stack: interpreter.stack.data(),
            memory,
        }
    }

    fn full(self) -> Full {
        let Self { depth, pc, gas, refunded, stack, memory } = self;
        Full { depth, pc, gas, refunded, stack: stack.to_vec(), memory: memory.to_vec() }
    }

    /// `memory` is the hash of memory.
    fn state(self, memory: u64) -> State {
        State {
            depth: self.depth as u32,
            pc: self.pc as u32,
            gas: self.gas,
            refunded: self.refunded,
            height: self.stack.len() as u32,
            stack: stack_hash(self.stack),
            memory_len: self.memory.len() as u64,
            memory,
        }
    }
}

/// What the interpreter came through, in order.
#[derive(Clone, Debug, Default)]
pub struct Steps {
    states: Vec<State>,
    opcodes: Vec<u8>,
    /// The step to keep everything of, and that.
    wanted: Option<usize>,
    full: Option<Full>,
    /// By depth: the hash of memory, where no instruction since can have changed it.
    memory: Vec<Option<u64>>,
}

/// Whether an instruction may change memory, of its own frame or by what it calls.
fn writes_memory(opcode: u8) -> bool {
    !matches!(opcode, 0..op::KECCAK256 | op::POP | op::PC..=op::JUMPDEST | op::PUSH0..=op::SWAP16)
}

impl Steps {
    /// Everything that an EVM comes through in a case, and what that comes to; `wanted` is a step of which all is kept.
    fn on<EVM>(case: &Case, evm: EVM, wanted: Option<usize>) -> (Self, Outcome)
    where
        EVM: EthEvm<Context = CaseContext>,
    {
        let mut stepping = Stepping { evm, steps: Self { wanted, ..Self::default() } };
        let outcome = transact(case, &mut stepping);
        (stepping.steps, outcome)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// Whether nothing was run.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    fn step(&mut self, frame: &EthFrame<EthInterpreter>) {
        if self.len() == STEPS_MAX {
            return;
        }
        let memory = frame.interpreter.memory.context_memory();
        let view = View::of_frame(frame, &memory);
        if self.wanted == Some(self.len()) {
            self.full = Some(view.full());
        }
        let opcode = frame.interpreter.bytecode.opcode();
        self.memory.resize(self.memory.len().max(frame.depth + 1), None);
        let known = &mut self.memory[frame.depth];
        let hash = *known.get_or_insert_with(|| memory_hash(&memory));
        if writes_memory(opcode) {
            *known = None;
        }
        self.opcodes.push(opcode);
        self.states.push(view.state(hash));
    }

    /// A frame begins, or goes on.
    fn frame(&mut self, depth: usize) {
        self.memory.truncate(depth);
    }
}

/// An EVM whose frames are interpreted one instruction at a time, and recorded.
struct Stepping<EVM> {
    evm: EVM,
    steps: Steps,
}

impl<EVM: EthEvm<Context = CaseContext>> EvmTr for Stepping<EVM> {
    type Context = CaseContext;
    type Instructions = EVM::Instructions;
    type Precompiles = EVM::Precompiles;
    type Frame = EthFrame<EthInterpreter>;

    fn all(
        &self,
    ) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Self::Frame>) {
        self.evm.all()
    }

    fn all_mut(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Self::Frame>,
    ) {
        self.evm.all_mut()
    }

    fn frame_init(
        &mut self,
        frame_input: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        self.evm.frame_init(frame_input)
    }

    fn frame_run(
        &mut self,
    ) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        let (context, instructions, _, frames) = self.evm.all_mut();
        let frame = frames.get();
        self.steps.frame(frame.depth);
        loop {
            self.steps.step(frame);
            let (table, gas) = (instructions.instruction_table(), instructions.gas_table());
            if let Err(halt) = frame.interpreter.step(table, gas, context) {
                if frame.interpreter.bytecode.action().is_none() {
                    frame.interpreter.halt(halt);
                }
                break;
            }
        }
        let action = frame.interpreter.take_next_action();
        frame.process_next_action(context, action).inspect(|next| {
            if next.is_result() {
                frame.set_finished(true);
            }
        })
    }

    fn frame_return_result(
        &mut self,
        result: <Self::Frame as FrameTr>::FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Self::Context>> {
        self.evm.frame_return_result(result)
    }
}

/// Follows an engine's reports along the interpreter's steps.
#[derive(Debug)]
struct Follower {
    steps: Arc<Steps>,
    /// The step that the last report belongs to.
    last: usize,
    /// Reports up to the first that belongs to no step.
    reports: usize,
    lost: Option<Lost>,
}

/// A report that belongs to no step.
#[derive(Debug)]
struct Lost {
    kind: SafepointKind,
    state: Full,
    /// The step that the report before belongs to.
    last: usize,
    /// The step in front of the same instruction, if there is one.
    step: Option<usize>,
}

impl Follower {
    /// From the first step on.
    fn new(steps: Arc<Steps>) -> Self {
        Self { steps, last: 0, reports: 0, lost: None }
    }

    /// A report. After the first that belongs to no step the others are not looked at.
    fn report(&mut self, kind: SafepointKind, view: View<'_>) {
        let cut_off = self.steps.len() == STEPS_MAX;
        if self.lost.is_some() || cut_off {
            return;
        }
        self.reports += 1;
        let state = view.state(memory_hash(view.memory));
        let ahead = &self.steps.states[self.last.min(self.steps.len())..];
        if let Some(steps) = ahead.iter().position(|step| *step == state) {
            self.last += steps;
            return;
        }
        // With another gas it is not the same place, but the nearest there is.
        let same = ahead.iter().position(|step| step.is_at(&state));
        let near = |step: &State| (step.depth, step.pc) == (state.depth, state.pc);
        let step = same.or_else(|| ahead.iter().position(near)).map(|steps| self.last + steps);
        self.lost = Some(Lost { kind, state: view.full(), last: self.last, step });
    }
}

/// The first state of an engine that the interpreter did not come through.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// What the engine was about.
    pub kind: SafepointKind,
    /// The engine's state.
    pub found: Full,
    /// The interpreter's, in front of the same instruction; none if it does not come there any more.
    pub expected: Option<Full>,
    /// The instructions (pc and opcode) that the interpreter runs in this frame from the last state that was the same
    /// up to there: one of them is wrong. At most the last few.
    pub since: Vec<(usize, u8)>,
}

impl Divergence {
    fn new(lost: Lost, steps: &Steps, expected: Option<Full>) -> Self {
        let Lost { kind, state, last, step } = lost;
        let end = step.unwrap_or(steps.len()).min(last + LISTED_MAX * 16);
        let depth = steps.states.get(last).map_or(0, |step| step.depth);
        let listed = (last..end).filter(|&step| steps.states[step].depth == depth);
        let mut since: Vec<_> =
            listed.map(|step| (steps.states[step].pc as usize, steps.opcodes[step])).collect();
        match step {
            Some(_) => drop(since.drain(..since.len().saturating_sub(LISTED_MAX))),
            None => since.truncate(LISTED_MAX),
        }
        Self { kind, found: state, expected, since }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, found, expected, since } = self;
        writeln!(f, "first difference at pc {:#x}, depth {}, where {kind}", found.pc, found.depth)?;
        match expected {
            Some(expected) => {
                let mut field =
                    |name: &str, expected: &dyn fmt::Display, found: &dyn fmt::Display| {
                        let (expected, found) = (expected.to_string(), found.to_string());
                        if expected == found {
                            return Ok(());
                        }
                        writeln!(f, "  {name}: the interpreter has {expected}, the engine {found}")
                    };
                field("gas", &expected.gas, &found.gas)?;
                field("refund", &expected.refunded, &found.refunded)?;
                field("stack height", &expected.stack.len(), &found.stack.len())?;
                field("memory size", &expected.memory.len(), &found.memory.len())?;
                words(f, expected, found)?;
                bytes(f, expected, found)?;
            }
            None => {
                writeln!(f, "  the interpreter does not come there with gas {}", found.gas)?;
                writeln!(f, "  the engine's stack: {:x?}", found.stack)?;
            }
        }
        write!(f, "  instructions since the last state that was the same:")?;
        since.iter().try_for_each(|&(pc, opcode)| {
            let name = OpCode::new(opcode).map_or("unknown", |opcode| opcode.as_str());
            write!(f, "\n    {pc:#06x} {name}")
        })
    }
}

/// Words of the stack that differ, from the top down.
fn words(f: &mut fmt::Formatter<'_>, expected: &Full, found: &Full) -> fmt::Result {
    let depths = expected.stack.len().max(found.stack.len());
    for depth in 0..depths {
        let word = |stack: &[U256]| stack.len().checked_sub(depth + 1).map(|at| stack[at]);
        let (expected, found) = (word(&expected.stack), word(&found.stack));
        if expected != found {
            let text = |word: Option<U256>| word.map_or("none".into(), |word| format!("{word:#x}"));
            let (expected, found) = (text(expected), text(found));
            writeln!(f, "  stack, {depth} below the top: {expected}, the engine {found}")?;
        }
    }
    Ok(())
}

/// Words of memory that differ.
fn bytes(f: &mut fmt::Formatter<'_>, expected: &Full, found: &Full) -> fmt::Result {
    let words = expected.memory.chunks(32).zip(found.memory.chunks(32)).enumerate();
    for (index, (expected, found)) in words.filter(|(_, (expected, found))| expected != found) {
        let (expected, found) = (hex::encode(expected), hex::encode(found));
        writeln!(f, "  memory at {:#x}: {expected}, the engine {found}", 32 * index)?;
    }
    Ok(())
}

/// Who follows the reports of an engine at the moment.
type Following = Arc<Mutex<Option<Follower>>>;

/// An engine that is followed.
#[derive(Debug)]
pub struct Watched {
    engine: Engine,
    following: Following,
}

/// What following an engine through a case came to.
#[derive(Debug)]
pub struct Followed {
    /// The first difference, if there is one.
    pub divergence: Option<Divergence>,
    /// Reports up to there.
    pub reports: usize,
    /// What the case came to on the engine.
    pub outcome: Outcome,
}

impl Watched {
    /// Starts an engine.
    ///
    /// # Errors
    /// If it does not start.
    pub fn new(config: Config) -> Result<Self, EngineError> {
        let following = Following::default();
        let followed = following.clone();
        let hooks = Hooks::default().on_safepoint(move |safepoint| {
            let mut following = followed.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(follower) = &mut *following {
                follower.report(safepoint.kind, View::reported(safepoint));
            }
        });
        Ok(Self { engine: Engine::with_hooks(config, hooks)?, following })
    }

    /// The engine. Not to be run on several threads while it is followed.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs a case and follows it along the steps of plain revm, which [`stepped`] gives.
    pub fn follow(&self, case: &Case, steps: &Arc<Steps>) -> Followed {
        let db = CaseDb::new(case);
        let again = |step| Steps::on(case, context(case, &db).build_mainnet(), Some(step)).0;
        self.follow_along(steps, || tiered(case, &db, &self.engine), again)
    }

    /// Follows what `run` does along these steps. `again` records them once more, with everything of one of them.
    fn follow_along(
        &self,
        steps: &Arc<Steps>,
        run: impl FnOnce() -> Outcome,
        again: impl FnOnce(usize) -> Steps,
    ) -> Followed {
        let set = |follower| {
            let mut following = self.following.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *following, follower)
        };
        set(Some(Follower::new(steps.clone())));
        let outcome = run();
        let Some(follower) = set(None) else { unreachable!("it was set above") };
        let reports = follower.reports;
        let divergence = follower.lost.map(|lost| {
            let expected = lost.step.and_then(|step| again(step).full);
            Divergence::new(lost, steps, expected)
        });
        Followed { divergence, reports, outcome }
    }

    /// As [`Self::follow`], on EVMs that `evm` makes: the oracle's steps are those of one, and `tiered` gets another one.
    pub fn follow_on<EVM>(
        &self,
        case: &Case,
        evm: impl Fn() -> EVM,
        tiered: impl FnOnce(EVM, Engine) -> Outcome,
    ) -> Followed
    where
        EVM: EthEvm<Context = CaseContext>,
    {
        let steps = Arc::new(Steps::on(case, evm(), None).0);
        let run = || tiered(evm(), self.engine.clone());
        self.follow_along(&steps, run, |step| Steps::on(case, evm(), Some(step)).0)
    }
}

/// What plain revm comes through, and what it comes to, one instruction at a time.
pub fn stepped(case: &Case) -> (Arc<Steps>, Outcome) {
    let (steps, outcome) = Steps::on(case, context(case, &CaseDb::new(case)).build_mainnet(), None);
    (Arc::new(steps), outcome)
}

#[cfg(test)]
mod tests;
