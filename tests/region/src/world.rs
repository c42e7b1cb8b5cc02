//! A host that compiled code reaches through helpers and the evaluator through its trait: what one does to
//! it, the other does.
//!
//! Helpers refuse, charge, log what they were given and change memory and the stack, all by what they are
//! given and how often they were called.

use crate::support::{Program, number, word};
use kiln_abi::{
    CONTINUE, Context, ContinueOrLeave, Exit, ExitId, ExitKind, ExitRecord, ExitTable, Helper,
    HelperTable, LEAVE, Outcome, STACK_LIMIT, Slot, Source, Word,
};
use kiln_ir::{
    eval::{Environment, Machine},
    ssa,
};
use revm_primitives::U256;
use std::ptr;

/// Bytes of memory that expansion can reach.
const MEMORY_MAX: usize = 4096;

/// What the host was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    helper: Helper,
    exit: ExitId,
    args: [Option<Word>; 3],
    gas: u64,
    stack: Vec<Word>,
}

/// A frame and its host.
#[derive(Clone)]
pub struct World {
    pub stack: Vec<Word>,
    /// Words on the stack at entry.
    pub height: usize,
    pub memory: Vec<u8>,
    pub covered: usize,
    pub gas: u64,
    pub poll: u32,
    pub calldata: Vec<u8>,
    pub environment: [Word; 3],
    pub events: Vec<Event>,
    /// The host refuses at the call with this number.
    pub refuse_at: usize,
    pub calls: usize,
    pub exits: ExitTable,
    pub code: Vec<u8>,
    /// What is running on it.
    program: *const Program,
}

impl World {
    pub fn new(rng: &mut fastrand::Rng, code: &[u8], exits: &ExitTable) -> Self {
        let mut memory: Vec<_> = std::iter::repeat_with(|| rng.u8(..)).take(MEMORY_MAX).collect();
        let covered = 32 * rng.usize(..8);
        memory[covered..].fill(0);
        let calldata = (0..rng.usize(..100)).map(|_| rng.u8(..)).collect();
        let address =
            |rng: &mut fastrand::Rng| Word([rng.u64(..), rng.u64(..), rng.u64(..1 << 32), 0]);
        Self {
            stack: Vec::new(),
            height: 0,
            memory,
            covered,
            gas: 1_000_000,
            poll: 1000,
            calldata,
            environment: [address(rng), address(rng), Word::from_u64(rng.u64(..5))],
            events: Vec::new(),
            refuse_at: usize::MAX,
            calls: 0,
            exits: exits.clone(),
            code: code.to_vec(),
            program: ptr::null(),
        }
    }

    /// The exit that a helper was given.
    fn exit(&self, record: ExitRecord) -> ExitId {
        // SAFETY: helpers run while the program that `run` was given does.
        unsafe { (*self.program).exit(record) }
    }

    fn refuses(&mut self) -> bool {
        self.calls += 1;
        self.calls == self.refuse_at
    }

    fn log(&mut self, helper: Helper, exit: ExitId, args: [Option<Word>; 3], stack: &[Word]) {
        let (gas, stack) = (self.gas, stack.to_vec());
        self.events.push(Event { helper, exit, args, gas, stack });
    }

    /// As the helper; memory is a little dearer than in the EVM.
    fn expands(&mut self, exit: ExitId, offset: Word, size: u64) -> bool {
        let end = offset.as_u64().and_then(|offset| offset.checked_add(size));
        let Some(end) = end.filter(|&end| end <= MEMORY_MAX as u64) else { return false };
        let end = (end as usize).next_multiple_of(32);
        let cost = (end.saturating_sub(self.covered) / 8) as u64;
        if self.refuses() || self.gas < cost {
            return false;
        }
        self.log(Helper::Expand, exit, [Some(offset), None, None], &[]);
        self.gas -= cost;
        self.covered = self.covered.max(end);
        true
    }

    /// A result that depends on everything that was given; some of them are small.
    fn mix(&self, args: [Option<Word>; 3]) -> Word {
        let mut mixed = U256::from(self.calls);
        for arg in args.into_iter().flatten() {
            mixed = mixed.wrapping_mul(U256::from(0x9e37_79b9_7f4a_7c15u64)) ^ number(arg);
        }
        word(mixed >> [0, 100, 200, 250][self.calls % 4])
    }

    fn guards(&mut self, helper: Helper, exit: ExitId, args: [Option<Word>; 3]) -> Option<Word> {
        if self.refuses() || self.gas < 50 {
            return None;
        }
        self.log(helper, exit, args, &[]);
        self.gas -= 37;
        let result = self.mix(args);
        let copies =
            matches!(helper, Helper::Calldatacopy | Helper::Codecopy | Helper::Returndatacopy);
        if copies || helper == Helper::Mcopy {
            let at = self.calls % self.covered.max(1);
            self.memory[at] = result.0[0] as u8;
        }
        Some(result)
    }

    /// Makes the stack canonical as the host does, and runs something like an instruction.
    fn instructs(&mut self, helper: Helper, exit: ExitId) -> bool {
        let record = *self.exits.exit(exit);
        self.fix(&record);
        let height = (self.height as isize + record.height as isize) as usize;
        let stack = self.stack[..height].to_vec();
        self.log(helper, exit, [None; 3], &stack);
        let (inputs, outputs) = effect(self.code[record.pc.0 as usize]);
        if outputs == 1 {
            self.stack[height - inputs] = self.mix([stack.last().copied(), None, None]);
        }
        self.gas -= self.gas.min(11);
        self.covered = (self.covered + 32).min(MEMORY_MAX);
        !self.refuses()
    }

    fn context(&mut self) -> Context {
        let base = self.stack.as_mut_ptr();
        Context {
            gas: self.gas,
            stack_base: base,
            stack_end: base.wrapping_add(STACK_LIMIT),
            mem_base: self.memory.as_mut_ptr(),
            mem_word_limit: (self.covered as u64).saturating_sub(31),
            mem_byte_limit: self.covered as u64,
            helpers: &HELPERS,
            entries: ptr::null(),
            entries_len: 0,
            code_base: ptr::null(),
            poll: self.poll,
            outcome: Outcome::Bail,
            calldata: self.calldata.as_ptr(),
            calldata_len: self.calldata.len() as u64,
            swap_bytes: kiln_abi::SWAP_BYTES,
            returndata_len: 17,
            caller: ptr::null(),
            address: ptr::null(),
            msize: self.covered as u64,
            call_value: ptr::null(),
            halt: 0,
            runtime: ptr::from_mut(self).cast(),
        }
    }

    /// Runs compiled code on it, and gives the exit.
    pub fn run(&mut self, program: &Program, pc: usize) -> ExitId {
        let bytes = |word: Word| {
            let mut bytes = [0; 20];
            bytes.copy_from_slice(&number(word).to_be_bytes::<32>()[12..]);
            bytes
        };
        self.program = program;
        let [address, caller] = [0, 1].map(|index| bytes(self.environment[index]));
        let value = self.environment[2];
        let mut cx = self.context();
        (cx.address, cx.caller, cx.call_value) = (address.as_ptr(), caller.as_ptr(), &value);
        let sp = cx.stack_base.wrapping_add(self.height);
        let left = program.enter(&mut cx, sp, pc);
        assert_eq!(left.moved, 0);
        (self.gas, self.poll) = (cx.gas, cx.poll);
        left.exit
    }

    /// Makes the stack canonical for the exit it was left through, as far as the host will read it. What lies
    /// elsewhere is nobody's business.
    pub fn canonical(&mut self, exit: ExitId) {
        let record = *self.exits.exit(exit);
        self.fix(&record);
        let height = (self.height as isize + record.height as isize) as usize;
        let read = match record.kind {
            ExitKind::Interpret | ExitKind::Resume => height,
            ExitKind::Stop => 0,
            ExitKind::Return | ExitKind::Revert => 2,
        };
        for slot in self.height..height - read {
            self.stack[slot] = Word::ZERO;
        }
        self.stack.truncate(height);
    }

    /// Performs the fixups of an exit.
    fn fix(&mut self, record: &Exit) {
        let at = |height: usize, slot: Slot| (height as isize + slot.0 as isize) as usize;
        let fixups = self.exits.fixups(record).to_vec();
        let words: Vec<_> = fixups
            .iter()
            .map(|fixup| match fixup.source {
                Source::Slot(slot) => self.stack[at(self.height, slot)],
                Source::Const(index) => self.exits.pool[index as usize],
            })
            .collect();
        for (fixup, word) in fixups.iter().zip(words) {
            self.stack[at(self.height, fixup.slot)] = word;
        }
    }

    /// What both engines are compared by.
    pub fn state(&self) -> (&[Word], &[u8], usize, u64, u32, &[Event]) {
        (&self.stack, &self.memory, self.covered, self.gas, self.poll, &self.events)
    }
}

/// Words taken and left by the instructions that are run through the host in these tests.
fn effect(opcode: u8) -> (usize, usize) {
    match opcode {
        0x55 => (2, 0),
        0xa0..=0xa4 => (2 + (opcode - 0xa0) as usize, 0),
        0x31 | 0x3b | 0x3f | 0x40 | 0x49 => (1, 1),
        _ => (0, 1),
    }
}

impl Machine for World {
    fn word(&self, slot: Slot) -> Word {
        self.stack[(self.height as isize + slot.0 as isize) as usize]
    }

    fn set_word(&mut self, slot: Slot, value: Word) {
        self.stack[(self.height as isize + slot.0 as isize) as usize] = value;
    }

    fn height(&self) -> usize {
        self.height
    }

    fn move_sp(&mut self, _: i16) {
        unreachable!("the stack pointer of a region does not move")
    }

    fn poll(&mut self) -> bool {
        self.poll = self.poll.wrapping_sub(1);
        self.poll != u32::MAX
    }

    fn gas(&self) -> u64 {
        self.gas
    }

    fn set_gas(&mut self, gas: u64) {
        self.gas = gas;
    }

    fn memory_covers(&self, offset: u64, size: u64) -> bool {
        offset.checked_add(size).is_some_and(|end| end <= self.covered as u64)
    }

    fn load_word(&self, offset: u64) -> Word {
        word(U256::from_be_slice(&self.memory[offset as usize..][..32]))
    }

    fn store_word(&mut self, offset: u64, value: Word) {
        let bytes = number(value).to_be_bytes::<32>();
        self.memory[offset as usize..][..32].copy_from_slice(&bytes);
    }

    fn store_byte(&mut self, offset: u64, value: u8) {
        self.memory[offset as usize] = value;
    }

    fn expand(&mut self, exit: ExitId, offset: Word, size: u64) -> bool {
        self.expands(exit, offset, size)
    }

    fn calldata_word(&mut self, offset: Word) -> Word {
        let at = offset.as_u64().map_or(usize::MAX, |at| at.min(1 << 40) as usize);
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = self.calldata.get(at.saturating_add(index)).copied().unwrap_or(0);
        }
        word(U256::from_be_bytes(bytes))
    }

    fn environment(&self, what: Environment) -> Word {
        match what {
            Environment::Address => self.environment[0],
            Environment::Caller => self.environment[1],
            Environment::CallValue => self.environment[2],
            Environment::Calldatasize => Word::from_u64(self.calldata.len() as u64),
            Environment::Returndatasize => Word::from_u64(17),
            Environment::Msize => Word::from_u64(self.covered as u64),
        }
    }

    fn guarded(
        &mut self,
        helper: Helper,
        exit: ExitId,
        dst: Option<Slot>,
        args: [Option<Word>; 3],
    ) -> bool {
        assert_eq!(dst, None);
        self.guards(helper, exit, args).is_some()
    }

    fn instruction(&mut self, helper: Helper, exit: ExitId) -> bool {
        self.instructs(helper, exit)
    }

    fn entry(&self, _: Word) -> Option<usize> {
        unreachable!("regions do not look for entries")
    }
}

impl ssa::eval::Machine for World {
    fn guarded_value(
        &mut self,
        helper: Helper,
        exit: ExitId,
        args: [Option<Word>; 3],
    ) -> Option<Word> {
        self.guards(helper, exit, args)
    }
}

/// Lets a helper act on the world, with the gas and the limits in the context.
///
/// # Safety
/// `cx` was made by [`World::context`], and its world is used by nobody else meanwhile.
unsafe fn act(cx: *mut Context, act: impl FnOnce(&mut World) -> bool) -> ContinueOrLeave {
    // SAFETY: the caller's.
    let (cx, world) = unsafe { (&mut *cx, &mut *(*cx).runtime.cast::<World>()) };
    world.gas = cx.gas;
    let answer = act(world);
    cx.gas = world.gas;
    cx.mem_byte_limit = world.covered as u64;
    cx.mem_word_limit = (world.covered as u64).saturating_sub(31);
    cx.msize = world.covered as u64;
    if answer { CONTINUE } else { LEAVE }
}

// SAFETY for all: compiled code passes the context that it was entered with and pointers to words.
unsafe extern "C" fn expand(
    cx: *mut Context,
    exit: ExitRecord,
    offset: *const Word,
    offset_const: u64,
    size: u64,
) -> ContinueOrLeave {
    // SAFETY: see above.
    unsafe {
        let offset = offset.as_ref().map_or(Word::from_u64(offset_const), |offset| *offset);
        act(cx, |world| world.expands(world.exit(exit), offset, size))
    }
}

unsafe extern "C" fn calldataload(
    cx: *mut Context,
    _: ExitRecord,
    p0: *mut Word,
    p1: *const Word,
    _: *const Word,
) -> ContinueOrLeave {
    // SAFETY: see above.
    unsafe {
        act(cx, |world| {
            *p0 = world.calldata_word(*p1);
            true
        })
    }
}

macro_rules! guarded {
    ($name:ident, $helper:ident, $writes:literal) => {
        unsafe extern "C" fn $name(
            cx: *mut Context,
            exit: ExitRecord,
            p0: *mut Word,
            p1: *const Word,
            p2: *const Word,
        ) -> ContinueOrLeave {
            // SAFETY: see above.
            unsafe {
                let pointers = [p0.cast_const(), p1, p2].map(|word| word.as_ref().copied());
                let args = match pointers {
                    [_, a, b] if $writes => [a, b, None],
                    [None, a, b] => [a, b, None],
                    all => all,
                };
                act(cx, |world| match world.guards(Helper::$helper, world.exit(exit), args) {
                    Some(result) => {
                        if $writes {
                            *p0 = result;
                        }
                        true
                    }
                    None => false,
                })
            }
        }
    };
}

guarded!(exp, Exp, true);
guarded!(keccak256, Keccak256, true);
guarded!(sload, Sload, true);
guarded!(tload, Tload, true);
guarded!(tstore, Tstore, false);
guarded!(calldatacopy, Calldatacopy, false);
guarded!(codecopy, Codecopy, false);
guarded!(returndatacopy, Returndatacopy, false);
guarded!(mcopy, Mcopy, false);

macro_rules! instruction {
    ($name:ident, $helper:ident) => {
        unsafe extern "C" fn $name(
            cx: *mut Context,
            exit: ExitRecord,
            sp: *mut Word,
        ) -> ContinueOrLeave {
            // SAFETY: see above.
            unsafe {
                act(cx, |world| {
                    assert_eq!(sp, world.stack.as_mut_ptr().wrapping_add(world.height));
                    world.instructs(Helper::$helper, world.exit(exit))
                })
            }
        }
    };
}

instruction!(sstore, Sstore);
instruction!(log, Log);
instruction!(instruction, Instruction);

static HELPERS: HelperTable = HelperTable {
    calldataload,
    exp,
    keccak256,
    sload,
    tload,
    tstore,
    calldatacopy,
    codecopy,
    returndatacopy,
    mcopy,
    expand,
    sstore,
    log,
    instruction,
    ..crate::run::HELPERS
};
