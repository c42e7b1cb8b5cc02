//! Runs code objects on a stack, a memory and helpers of the test's own.

use kiln_abi::*;
use kiln_ir::*;
use kiln_tier0::Library;
use revm_primitives::U256;
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use std::{ffi::c_void, ptr, sync::LazyLock};

/// The library all tests share.
///
/// With the variable `PORTABLE` it is the one for CPUs without AVX2.
pub static LIBRARY: LazyLock<Library> = LazyLock::new(|| {
    let library = match std::env::var_os("PORTABLE") {
        Some(_) => Library::portable(),
        None => Library::new(),
    };
    library.expect("the library verifies")
});

/// Words of the stack below and above the block's entry that tests use.
pub const HEIGHT: usize = 40;

/// A code object mapped executable.
pub struct Program {
    pub object: CodeObject,
    records: Records,
    mapping: *mut c_void,
    len: usize,
}

const TEXT: usize = 64;

/// What lies where no record begins.
pub const NO_EXIT: ExitId = ExitId(u32::MAX);

impl Program {
    pub fn new(module: &Module) -> Self {
        Self::with(&LIBRARY, module)
    }

    /// Compiles a module with the stencils of a library.
    pub fn with(library: &Library, module: &Module) -> Self {
        let object =
            kiln_tier0::compile(library, module, &Limits::default()).expect("the module compiles");
        Self::load(object, &module.exits)
    }

    /// Maps an object with these exits.
    pub fn load(object: CodeObject, exits: &ExitTable) -> Self {
        let len = (TEXT + object.text.len()).next_multiple_of(4096);
        // SAFETY: a fresh mapping; the copies stay inside of it, and it is made executable only after
        // they are done.
        let mapping = unsafe {
            let flags = ProtFlags::READ | ProtFlags::WRITE;
            let mapping = mmap_anonymous(ptr::null_mut(), len, flags, MapFlags::PRIVATE).unwrap();
            let trampoline = LIBRARY.trampoline();
            ptr::copy_nonoverlapping(trampoline.as_ptr(), mapping.cast::<u8>(), trampoline.len());
            let text = mapping.cast::<u8>().add(TEXT);
            ptr::copy_nonoverlapping(object.text.as_ptr(), text, object.text.len());
            mprotect(mapping, len, MprotectFlags::READ | MprotectFlags::EXEC).unwrap();
            mapping
        };
        let mut records = Records::default();
        assert!(records.pack(exits));
        Self { object, records, mapping, len }
    }

    fn base(&self) -> *const u8 {
        self.mapping.cast::<u8>().wrapping_add(TEXT)
    }

    /// Runs from the region at `pc`.
    pub fn run(&self, machine: &mut Machine, pc: usize) -> Left {
        machine.prepare();
        let sp = machine.cx.stack_base.wrapping_add(machine.height);
        let left = self.enter(&mut machine.cx, sp, pc);
        let calls = &mut machine.host.calls;
        calls.iter_mut().for_each(|call| call.exit = self.exit(call.record));
        left
    }

    /// Enters at `pc`, with a context that is complete but for what belongs to the program.
    pub(crate) fn enter(&self, cx: &mut Context, sp: *mut Word, pc: usize) -> Left {
        let entry = self.object.entries.get(pc).expect("an entry");
        let entries = self.object.entries.raw();
        cx.entries = entries.as_ptr();
        cx.entries_len = entries.len() as u64;
        cx.code_base = self.base();
        // SAFETY: offset 0 of the trampoline is an `EnterFn`; the context was filled in above, `sp` is
        // inside of the stack, and the entry is one of the mapped object.
        let left = unsafe {
            let enter: EnterFn = std::mem::transmute(self.mapping);
            enter(cx, sp, self.base().wrapping_add(entry as usize))
        };
        Left { exit: self.exit(left.record), moved: (left.sp as isize - sp as isize) / 32 }
    }

    /// The exit whose record lies at an address.
    pub fn exit(&self, record: ExitRecord) -> ExitId {
        let at = (record as usize).wrapping_sub(self.base() as usize + self.object.records);
        let number = self.records.numbers.iter().position(|&number| number as usize * 4 == at);
        number.map_or(NO_EXIT, |number| ExitId(number as u32))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and no code of it is running.
        unsafe { munmap(self.mapping, self.len).unwrap() };
    }
}

/// How compiled code came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub exit: ExitId,
    /// Words by which the stack pointer moved.
    pub moved: isize,
}

/// A call of a helper that is not pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Called {
    pub helper: Helper,
    pub record: ExitRecord,
    /// Whose record it is; filled in when compiled code has left.
    pub exit: ExitId,
    pub words: [Option<U256>; 3],
    pub expand: Option<(Option<U256>, u64, u64)>,
    /// Height of the stack pointer over the stack's base, for instruction helpers.
    pub height: Option<usize>,
}

/// What helpers see through [`Context::runtime`].
#[derive(Default)]
pub struct Host {
    pub calls: Vec<Called>,
    /// Helpers refuse.
    pub refuse: bool,
    /// What guarded helpers with a destination write.
    pub result: U256,
    /// Limits that [`Helper::Expand`] sets.
    pub expanded: u64,
    /// Whether guarded helpers write to `p0`.
    pub writes: bool,
}

/// The state compiled code works on.
pub struct Machine {
    pub stack: Vec<Word>,
    pub height: usize,
    pub memory: Vec<u8>,
    pub calldata: Vec<u8>,
    pub address: [u8; 20],
    pub caller: [u8; 20],
    pub value: Word,
    pub host: Host,
    /// Bytes of memory compiled code is told of, where not all.
    pub believed: Option<usize>,
    pub cx: Context,
}

impl Machine {
    pub fn new() -> Box<Self> {
        let cx = Context {
            gas: 1_000_000,
            stack_base: ptr::null_mut(),
            stack_end: ptr::null_mut(),
            mem_base: ptr::null_mut(),
            mem_word_limit: 0,
            mem_byte_limit: 0,
            helpers: &HELPERS,
            entries: ptr::null(),
            entries_len: 0,
            code_base: ptr::null(),
            poll: POLL_BACK_EDGES,
            outcome: Outcome::Bail,
            calldata: ptr::null(),
            calldata_len: 0,
            swap_bytes: SWAP_BYTES,
            msize: 0,
            returndata_len: 0,
            address: ptr::null(),
            caller: ptr::null(),
            call_value: ptr::null(),
            halt: 0,
            runtime: ptr::null_mut(),
        };
        Box::new(Self {
            stack: vec![Word::ZERO; STACK_LIMIT],
            height: HEIGHT,
            memory: vec![0; 256],
            calldata: Vec::new(),
            address: [0; 20],
            caller: [0; 20],
            value: Word::ZERO,
            host: Host::default(),
            believed: None,
            cx,
        })
    }

    fn prepare(&mut self) {
        let cx = &mut self.cx;
        cx.stack_base = self.stack.as_mut_ptr();
        cx.stack_end = cx.stack_base.wrapping_add(STACK_LIMIT);
        cx.mem_base = self.memory.as_mut_ptr();
        let len = self.believed.unwrap_or(self.memory.len()) as u64;
        cx.mem_word_limit = (len + 1).saturating_sub(32);
        cx.mem_byte_limit = len;
        cx.msize = len;
        cx.calldata = self.calldata.as_ptr();
        cx.calldata_len = self.calldata.len() as u64;
        cx.address = self.address.as_ptr();
        cx.caller = self.caller.as_ptr();
        cx.call_value = &self.value;
        cx.runtime = ptr::from_mut(&mut self.host).cast();
    }

    pub fn set(&mut self, slot: i16, value: U256) {
        self.stack[(self.height as isize + slot as isize) as usize] = word(value);
    }

    /// The words that tests use.
    pub fn words(&self) -> Vec<Word> {
        self.stack[..2 * HEIGHT].to_vec()
    }

    pub fn get(&self, slot: i16) -> U256 {
        number(self.stack[(self.height as isize + slot as isize) as usize])
    }

    /// Fills the stack with words that all differ.
    pub fn scramble(&mut self, rng: &mut fastrand::Rng) {
        self.stack[..2 * HEIGHT].iter_mut().for_each(|word| {
            *word = Word([rng.u64(..), rng.u64(..), rng.u64(..), rng.u64(..)]);
        });
    }
}

pub fn word(value: U256) -> Word {
    Word(*value.as_limbs())
}

pub fn number(word: Word) -> U256 {
    U256::from_limbs(word.0)
}

// SAFETY for all mocks: compiled code passes pointers into the machine's stack or the object's pool,
// and the context that `Program::run` was given.

macro_rules! pure {
    ($name:ident, |$($arg:ident),*| $body:expr) => {
        unsafe extern "C" fn $name(dst: *mut Word, $($arg: *const Word),*) {
            // SAFETY: see above.
            unsafe {
                $(let $arg = number(*$arg);)*
                *dst = word($body);
            }
        }
    };
}

pure!(mul, |a, b| a.wrapping_mul(b));
pure!(pure1, |a| mock1(a));
pure!(pure2, |a, b| mock2(a, b));
pure!(pure3, |a, b, c| mock3(a, b, c));

pub fn mock1(a: U256) -> U256 {
    a.wrapping_add(U256::from(7))
}
pub fn mock2(a: U256, b: U256) -> U256 {
    a.wrapping_mul(U256::from(3)).wrapping_sub(b)
}
pub fn mock3(a: U256, b: U256, c: U256) -> U256 {
    mock2(a, b).wrapping_mul(U256::from(5)) ^ c
}

macro_rules! guarded {
    ($name:ident, $helper:ident) => {
        unsafe extern "C" fn $name(
            cx: *mut Context,
            record: ExitRecord,
            p0: *mut Word,
            p1: *const Word,
            p2: *const Word,
        ) -> ContinueOrLeave {
            // SAFETY: see above.
            unsafe {
                let host = &mut *(*cx).runtime.cast::<Host>();
                let words = [p0.cast_const(), p1, p2].map(|p| p.as_ref().map(|word| number(*word)));
                let helper = Helper::$helper;
                host.calls.push(Called {
                    helper,
                    record,
                    exit: NO_EXIT,
                    words,
                    expand: None,
                    height: None,
                });
                if host.refuse {
                    return LEAVE;
                }
                if host.writes {
                    *p0 = word(host.result);
                }
            }
            CONTINUE
        }
    };
}

macro_rules! instruction {
    ($name:ident, $helper:ident) => {
        unsafe extern "C" fn $name(
            cx: *mut Context,
            record: ExitRecord,
            sp: *mut Word,
        ) -> ContinueOrLeave {
            // SAFETY: see above.
            unsafe {
                let host = &mut *(*cx).runtime.cast::<Host>();
                let height = Some((sp as usize - (*cx).stack_base as usize) / 32);
                let helper = Helper::$helper;
                host.calls.push(Called {
                    helper,
                    record,
                    exit: NO_EXIT,
                    words: [None; 3],
                    expand: None,
                    height,
                });
                if host.refuse { LEAVE } else { CONTINUE }
            }
        }
    };
}

guarded!(calldataload, Calldataload);
guarded!(exp, Exp);
guarded!(keccak256, Keccak256);
guarded!(sload, Sload);
guarded!(tload, Tload);
guarded!(tstore, Tstore);
guarded!(calldatacopy, Calldatacopy);
guarded!(codecopy, Codecopy);
guarded!(returndatacopy, Returndatacopy);
guarded!(mcopy, Mcopy);
instruction!(sstore, Sstore);
instruction!(log, Log);
instruction!(instruction, Instruction);

unsafe extern "C" fn expand(
    cx: *mut Context,
    record: ExitRecord,
    offset: *const Word,
    offset_const: u64,
    size: u64,
) -> ContinueOrLeave {
    // SAFETY: see above.
    unsafe {
        let host = &mut *(*cx).runtime.cast::<Host>();
        let offset = offset.as_ref().map(|offset| number(*offset));
        let expand = Some((offset, offset_const, size));
        let helper = Helper::Expand;
        host.calls.push(Called {
            helper,
            record,
            exit: NO_EXIT,
            words: [None; 3],
            expand,
            height: None,
        });
        if host.refuse {
            return LEAVE;
        }
        (*cx).mem_word_limit = host.expanded - 31;
        (*cx).mem_byte_limit = host.expanded;
        (*cx).msize = host.expanded;
    }
    CONTINUE
}

pub static HELPERS: HelperTable = HelperTable {
    mul,
    div: pure2,
    sdiv: pure2,
    rem: pure2,
    smod: pure2,
    addmod: pure3,
    mulmod: pure3,
    signextend: pure2,
    byte: pure2,
    shl: pure2,
    shr: pure2,
    sar: pure2,
    clz: pure1,
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
};

/// A module in the making.
#[derive(Default)]
pub struct Builder {
    pub module: Module,
}

/// The exits that every module of [`Builder`] has.
pub const ENTRY: ExitId = ExitId(0);
pub const DONE: ExitId = ExitId(1);
pub const SIDE: ExitId = ExitId(2);
pub const OTHER: ExitId = ExitId(3);

impl Builder {
    pub fn new() -> Self {
        let mut builder = Self::default();
        builder.module.code_len = 1000;
        (0..4).for_each(|_| _ = builder.exit());
        builder
    }

    pub fn exit(&mut self) -> ExitId {
        let exits = &mut self.module.exits.exits;
        exits.push(Exit::plain(Pc(0), ExitKind::Interpret, 0));
        ExitId(exits.len() as u32 - 1)
    }

    pub fn constant(&mut self, value: U256) -> Operand {
        let pool = &mut self.module.exits.pool;
        pool.push(word(value));
        Operand::Const(ConstId(pool.len() as u32 - 1))
    }

    /// Appends a region that checks nothing.
    pub fn region(&mut self, pc: u32, insts: &[Inst], terminator: Terminator) -> &mut Region {
        let insts_start = self.module.insts.len() as u32;
        self.module.insts.extend(insts);
        self.module.regions.push(Region {
            pc: Pc(pc),
            is_jumpdest: false,
            need: 0,
            grow: 0,
            height: 0,
            gas: 0,
            entry_exit: ENTRY,
            insts_start,
            insts_len: insts.len() as u32,
            terminator,
            instructions: insts.len() as u32,
        });
        self.module.regions.last_mut().unwrap()
    }

    pub fn program(&self) -> Program {
        Program::new(&self.module)
    }
}

pub fn slot(slot: i16) -> Operand {
    Operand::Slot(Slot(slot))
}

pub fn inst(op: Op, dst: Option<i16>, args: &[Operand]) -> Inst {
    let mut all = [None; 3];
    all.iter_mut().zip(args).for_each(|(all, arg)| *all = Some(*arg));
    let (dst, exit) = (dst.map(Slot), Some(SIDE));
    Inst { op, checked: true, dst, args: all, imm: 0, exit, pc: Pc(0) }
}

/// Words at which arithmetic goes wrong.
pub fn edges() -> Vec<U256> {
    let one = U256::from(1);
    let mut edges = vec![U256::ZERO, one, U256::from(2), U256::MAX, U256::MAX - one];
    for bit in [7, 8, 31, 32, 63, 64, 65, 127, 128, 159, 160, 191, 192, 254, 255] {
        edges.extend([one << bit, (one << bit) - one, U256::MAX << bit]);
    }
    edges.push(U256::from_limbs([0x8000_0000_0000_0000, 0, 0x8000_0000_0000_0000, 0]));
    edges
}

pub fn random(rng: &mut fastrand::Rng) -> U256 {
    let limbs = [(); 4].map(|()| match rng.u8(..4) {
        0 => 0,
        1 => u64::MAX,
        _ => rng.u64(..),
    });
    U256::from_limbs(limbs) >> if rng.bool() { rng.usize(..256) } else { 0 }
}
