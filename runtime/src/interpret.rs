//! revm's interpreter, watched: a loop over `Interpreter::step` that counts how often blocks run and
//! stops where compiled code can take over.
//!
//! **Owns** the loop. **Callers guarantee** that the entries are those of a program for the frame's
//! code. **Never** gives another result than `run_plain`: all it adds are looks at pc and opcode.

use crate::{
    engine::{BakedId, Engine},
    heat::{self, CodeTag},
    helpers::Interp,
    keccak::{self, Memo},
    slot::Slot,
};
use kiln_abi::RawEntries;
use revm::{
    bytecode::{
        Bytecode,
        opcode::{JUMPDEST, JUMPI, KECCAK256},
    },
    interpreter::{
        GasTable, Host, Instruction, InstructionContext, InstructionExecResult, InstructionResult,
        InstructionTable, instruction_table, instructions::control, interpreter::EthInterpreter,
        interpreter_types::Jumps,
    },
    primitives::B256,
};
use std::{marker::PhantomData, sync::Arc};

/// What a watched instruction answers to be looked at. No instruction of revm's answers it: there is no
/// EOF in this version.
const PAUSE: InstructionResult = InstructionResult::InvalidEOFInitCode;

/// revm's table, with the instructions that are looked at in the place of its own: what is not watched
/// costs nothing. (A comparison of each opcode in the loop costs a fifth in tight loops.)
struct Watched<H>(PhantomData<fn(&mut H)>);

impl<H: Host> Watched<H> {
    /// JUMPDESTs are counted; pauses at hot ones. The blocks behind JUMPIs are not looked at: that costs
    /// two percent of the interpreter's time, and once there is compiled code around they are found
    /// where it is left.
    const COUNTING: InstructionTable<EthInterpreter, H> = {
        let mut table = instruction_table();
        table[JUMPDEST as usize] = Instruction::new(counted_jumpdest);
        table[KECCAK256 as usize] = Instruction::new(pause);
        table
    };

    /// Pauses at every block.
    const PAUSING: InstructionTable<EthInterpreter, H> = {
        let mut table = instruction_table();
        table[JUMPDEST as usize] = Instruction::new(pause);
        table[JUMPI as usize] = Instruction::new(jumpi);
        table[KECCAK256 as usize] = Instruction::new(pause);
        table
    };

    fn table<'a>(counting: bool) -> &'a InstructionTable<EthInterpreter, H>
    where
        H: 'a,
    {
        if counting { &Self::COUNTING } else { &Self::PAUSING }
    }
}

type Instructed<'a, H> = InstructionContext<'a, H, EthInterpreter>;

/// Does nothing: JUMPDEST does not either, and KECCAK256 is done by who looks at it.
fn pause<H>(_: Instructed<'_, H>) -> InstructionExecResult {
    Err(PAUSE)
}

fn counted_jumpdest<H>(context: Instructed<'_, H>) -> InstructionExecResult {
    let bytecode = &context.interpreter.bytecode;
    // Without a hash it is initcode, which is never compiled.
    let block = || (bytecode.hash().map_or_else(CodeTag::default, CodeTag::new), bytecode.pc() - 1);
    if heat::count(block) { Err(PAUSE) } else { Ok(()) }
}

/// If the jump is not taken, what follows is a block.
fn jumpi<H>(context: Instructed<'_, H>) -> InstructionExecResult {
    let InstructionContext { interpreter, host } = context;
    let next = interpreter.bytecode.pc();
    control::jumpi(InstructionContext { interpreter, host })?;
    // A JUMPDEST pauses by itself.
    let falls = interpreter.bytecode.pc() == next && interpreter.bytecode.opcode() != JUMPDEST;
    if falls { Err(PAUSE) } else { Ok(()) }
}

/// Why the loop came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// An instruction ended or suspended the frame; this is what `run_plain` would halt with.
    Frame(InstructionResult),
    /// Compiled code begins here.
    Entry,
    /// The code has another program by now, or has one now.
    Newer,
}

/// Who is told of blocks that are not compiled.
pub(crate) struct Counting<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) code: Code<'a>,
    pub(crate) tag: CodeTag,
}

/// The code of an interpreted frame.
pub(crate) enum Code<'a> {
    Known {
        slot: &'a Arc<Slot>,
        /// Programs of the slot that were published when the frame's was loaded.
        published: u32,
    },
    /// Nobody has asked for it yet.
    Unknown { hash: B256, baked: BakedId },
}

impl Counting<'_> {
    /// Counts the block that begins at `pc`. Whether the frame is to go on otherwise: the code has another
    /// program by now, or is known from now on.
    #[inline]
    pub(crate) fn block(&self, bytecode: &Bytecode, pc: usize) -> bool {
        match self.code {
            Code::Known { slot, published } => self.missed(slot, published, pc),
            Code::Unknown { .. } => heat::count(|| (self.tag, pc)) && self.hot(bytecode, pc),
        }
    }

    /// A block of a known code that is not compiled.
    #[inline]
    fn missed(&self, slot: &Arc<Slot>, published: u32, pc: usize) -> bool {
        // A program is looked for where one can have come about.
        self.engine.missed(slot, pc) && slot.published() != published
    }

    /// A block that was counted, and is hot.
    #[cold]
    #[inline(never)]
    fn hot(&self, bytecode: &Bytecode, pc: usize) -> bool {
        match self.code {
            Code::Known { slot, published } => self.missed(slot, published, pc),
            Code::Unknown { hash, baked } => {
                let slot = self.engine.slot(bytecode, hash, baked);
                self.engine.missed(&slot, pc);
                true
            }
        }
    }

    /// Whether each block is looked at, and not only those that are hot.
    fn is_known(&self) -> bool {
        matches!(self.code, Code::Known { .. })
    }
}

/// What a frame is interpreted with.
pub(crate) struct Watching<'w, 'c> {
    /// Where compiled code can take over; none without a program.
    pub(crate) entries: Option<RawEntries<'w>>,
    /// For revm's own KECCAK256.
    pub(crate) memo: &'w mut Memo,
    pub(crate) counting: Option<Counting<'c>>,
    /// Whether an instruction of the table is not revm's own.
    pub(crate) replaced: bool,
    /// With `replaced`: whether compiled code can take over in front of any instruction.
    pub(crate) any: bool,
}

impl Watching<'_, '_> {
    /// Looks at a block's leader, in front of which the frame stands.
    #[inline]
    fn leader(&self, bytecode: &Bytecode, pc: usize) -> Option<Stopped> {
        if self.entries.is_some_and(|entries| entries.get(pc).is_some()) {
            return Some(Stopped::Entry);
        }
        let counting = self.counting.as_ref();
        let newer = counting.is_some_and(|counting| counting.block(bytecode, pc));
        newer.then_some(Stopped::Newer)
    }

    /// Where an instruction paused: without entries, because the block was counted and is hot.
    #[inline]
    fn paused(&self, bytecode: &Bytecode, pc: usize) -> Option<Stopped> {
        match (self.entries, &self.counting) {
            (None, Some(counting)) => counting.hot(bytecode, pc).then_some(Stopped::Newer),
            _ => self.leader(bytecode, pc),
        }
    }
}

/// Interprets until the frame is over, or there is compiled code to go on in; at least one
/// instruction. Answers how many.
pub(crate) fn interpret<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    (table, gas): (&InstructionTable<EthInterpreter, H>, &GasTable),
    watching: &mut Watching<'_, '_>,
) -> (Stopped, u64) {
    if watching.replaced {
        let tables = (table, gas);
        return match watching.any {
            true => compare::<true, H>(interpreter, host, tables, watching),
            false => compare::<false, H>(interpreter, host, tables, watching),
        };
    }
    let mut steps = 0;
    let each = watching.entries.is_some()
        || watching.counting.as_ref().is_some_and(|counting| counting.is_known());
    let watched = Watched::table(!each);
    loop {
        steps += 1;
        let Err(halt) = interpreter.step(watched, gas, host) else { continue };
        if halt != PAUSE {
            return (Stopped::Frame(halt), steps);
        }
        if let Some(stopped) = paused(interpreter, host, (table, gas), watching) {
            return (stopped, steps);
        }
    }
}

/// An instruction paused: its static gas is paid, and the pc behind it.
#[inline]
fn paused<H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    (table, gas): (&InstructionTable<EthInterpreter, H>, &GasTable),
    watching: &mut Watching<'_, '_>,
) -> Option<Stopped> {
    let next = interpreter.bytecode.pc();
    interpreter.bytecode.relative_jump(-1);
    match interpreter.bytecode.opcode() {
        JUMPDEST => {
            if let Some(stopped) = watching.paused(&interpreter.bytecode, next - 1) {
                // Left in front of it.
                interpreter.gas.erase_cost(gas[JUMPDEST as usize] as u64);
                return Some(stopped);
            }
            interpreter.bytecode.relative_jump(1);
            None
        }
        JUMPI => {
            interpreter.bytecode.relative_jump(1);
            watching.paused(&interpreter.bytecode, next)
        }
        opcode => {
            debug_assert_eq!(opcode, KECCAK256, "only watched instructions pause");
            interpreter.gas.erase_cost(gas[opcode as usize] as u64);
            if keccak::instruction(interpreter, host, gas, watching.memo) {
                return None;
            }
            interpreter.step(table, gas, host).err().map(Stopped::Frame)
        }
    }
}

/// The same with the table as it is, for EVMs that replace instructions; `ANY` is [`Watching::any`].
fn compare<const ANY: bool, H: Host>(
    interpreter: &mut Interp,
    host: &mut H,
    (table, gas): (&InstructionTable<EthInterpreter, H>, &GasTable),
    watching: &mut Watching<'_, '_>,
) -> (Stopped, u64) {
    let mut steps = 0;
    loop {
        let opcode = interpreter.bytecode.opcode();
        steps += 1;
        if let Err(halt) = interpreter.step(table, gas, host) {
            return (Stopped::Frame(halt), steps);
        }
        let leads = opcode == JUMPI || interpreter.bytecode.opcode() == JUMPDEST;
        let bytecode = &interpreter.bytecode;
        let entries = watching.entries.filter(|_| ANY);
        if entries.is_some_and(|entries| entries.get(bytecode.pc()).is_some()) {
            return (Stopped::Entry, steps);
        }
        if leads && let Some(stopped) = watching.leader(bytecode, bytecode.pc()) {
            return (stopped, steps);
        }
    }
}
