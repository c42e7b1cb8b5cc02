//! From bytecode to block IR, one block at a time, over a symbolic stack.
//!
//! The cost is a few tens of nanoseconds an instruction. It stays linear because what an exit lists
//! is bounded: when more than [`DIRTY_MAX`] words are away from home, they are brought there.

mod flush;
mod lower;
mod peephole;
mod stack;
mod terminator;

use crate::{
    code::{Block, Blocks},
    config::{Bounds, BuildError, Config, Limits},
    module::{Module, Region, Target, Terminator},
    perturb::Perturb,
};
use kiln_abi::{Exit, ExitId, ExitKind, ExitTable, Fixup, Pc, Slot, Source, Word};
use stack::{OutOfStack, SymbolicStack, Value};

/// Words of a block that may be away from their own slots, which bounds the fixups of an exit.
const DIRTY_MAX: usize = 48;

/// Builds the IR of the blocks that `select` chooses by their leader.
///
/// A block is left out where compiling it gains nothing: when its first instruction is already the
/// interpreter's, or when no stack can satisfy it.
///
/// # Errors
/// If the work would go over the limits, or was called off.
pub fn build<'b>(
    code: &[u8],
    blocks: &Blocks,
    config: &Config,
    bounds: impl Into<Bounds<'b>>,
    select: &dyn Fn(Pc) -> bool,
) -> Result<Module, BuildError> {
    Scratch::default().build(code, blocks, config, bounds, select)
}

/// What builds leave behind for the next one: warm buffers. One that a build panicked with is to be
/// dropped.
#[derive(Debug)]
pub struct Scratch {
    stack: SymbolicStack,
    /// Direct-mapped cache of pool entries, by a hash of the word. What it holds of another module is
    /// seen by the word that lies there.
    constants: Box<[u32; 256]>,
    positions: Vec<i16>,
    /// Empty; its buffers are those of a module that was given back.
    module: Module,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            stack: SymbolicStack::new(),
            constants: Box::new([0; 256]),
            positions: Vec::new(),
            module: Module::default(),
        }
    }
}

impl Scratch {
    /// Bytes of a module's buffers that are kept at most, each by itself.
    const KEPT_MAX: usize = 256 << 10;

    /// As [`build`].
    ///
    /// # Errors
    /// As [`build`].
    pub fn build<'b>(
        &mut self,
        code: &[u8],
        blocks: &Blocks,
        config: &Config,
        bounds: impl Into<Bounds<'b>>,
        select: &dyn Fn(Pc) -> bool,
    ) -> Result<Module, BuildError> {
        let bounds = bounds.into();
        let mut builder = Builder::new((code, blocks), config, bounds.limits.perturb, self);
        let selected = || blocks.blocks.iter().filter(|block| select(block.start));
        builder.reserve(selected());
        for block in selected() {
            builder.block(block);
            builder.check(bounds.limits)?;
            bounds.check()?;
        }
        builder.resolve();
        Ok(builder.module)
    }

    /// Takes back the buffers of a module that is not needed any more.
    pub fn recycle(&mut self, module: Module) {
        fn kept<T>(mut buffer: Vec<T>) -> Vec<T> {
            buffer.clear();
            let fits = buffer.capacity() * size_of::<T>() <= Scratch::KEPT_MAX;
            if fits { buffer } else { Vec::new() }
        }
        let ExitTable { exits, fixups, pool } = module.exits;
        self.module = Module {
            code_len: 0,
            regions: kept(module.regions),
            insts: kept(module.insts),
            exits: ExitTable { exits: kept(exits), fixups: kept(fixups), pool: kept(pool) },
        };
    }
}

struct Builder<'a> {
    code: &'a [u8],
    blocks: &'a Blocks,
    config: &'a Config,
    perturb: Perturb,
    module: Module,
    stack: &'a mut SymbolicStack,
    constants: &'a mut [u32; 256],
    positions: &'a mut Vec<i16>,
    /// The instruction being lowered.
    pc: Pc,
    /// Static gas of the block before the instruction being lowered.
    gas_before: u32,
    /// Static gas of the instruction being lowered.
    gas_own: u32,
    /// First instruction of the block.
    insts_start: usize,
    /// First exit of the block.
    exits_start: usize,
    /// Bytes of memory that earlier accesses of the block have made sure of.
    memory_known: u64,
}

/// What lowering an instruction came to.
enum Lowered {
    /// The block goes on.
    Continue,
    /// The block ends here.
    Ends(Terminator),
}

impl<'a> Builder<'a> {
    fn new(
        (code, blocks): (&'a [u8], &'a Blocks),
        config: &'a Config,
        perturb: Perturb,
        scratch: &'a mut Scratch,
    ) -> Self {
        let mut module = core::mem::take(&mut scratch.module);
        module.code_len = code.len() as u32;
        module.exits.pool.push(Word::ZERO);
        Self {
            code,
            blocks,
            config,
            perturb,
            module,
            stack: &mut scratch.stack,
            constants: &mut scratch.constants,
            positions: &mut scratch.positions,
            pc: Pc(0),
            gas_before: 0,
            gas_own: 0,
            insts_start: 0,
            exits_start: 0,
            memory_known: 0,
        }
    }

    /// Makes room for about what these blocks come to, so that little is moved and no page is
    /// touched for nothing.
    fn reserve<'b>(&mut self, blocks: impl Iterator<Item = &'b Block>) {
        let (mut regions, mut instructions) = (0, 0);
        for block in blocks {
            regions += 1;
            instructions += block.instructions as usize;
        }
        self.module.regions.reserve(regions);
        self.module.insts.reserve(instructions / 2);
        self.module.exits.exits.reserve(regions * 3);
        self.module.exits.fixups.reserve(instructions / 3);
    }

    /// Refuses work over the limits.
    fn check(&self, limits: &Limits) -> Result<(), BuildError> {
        let over = |what, is, max| {
            if is > max { Err(BuildError::Limit { what, is, max }) } else { Ok(()) }
        };
        over("IR instructions", self.module.insts.len(), limits.insts_max)?;
        over("fixups", self.module.exits.fixups.len(), limits.fixups_max)
    }

    /// Adds the region of a block, or nothing.
    fn block(&mut self, block: &Block) {
        let insts_start = self.module.insts.len();
        let fixups_start = self.module.exits.fixups.len();
        self.exits_start = self.module.exits.exits.len();
        self.insts_start = insts_start;
        self.stack.reset();
        self.gas_before = 0;
        self.gas_own = 0;
        self.memory_known = 0;
        self.pc = block.start;
        let entry_exit = self.plain_exit(ExitKind::Interpret, block.start, 0, 0);
        match self.body(block) {
            // One that needs more words than a stack holds can never run.
            Ok(Some((terminator, instructions))) if self.stack.fits() => {
                self.settle_gas(insts_start);
                self.module.regions.push(Region {
                    pc: block.start,
                    is_jumpdest: block.is_jumpdest,
                    need: self.stack.need(),
                    grow: self.stack.grow(),
                    height: self.stack.height(),
                    gas: self.gas_before,
                    entry_exit,
                    insts_start: insts_start as u32,
                    insts_len: (self.module.insts.len() - insts_start) as u32,
                    terminator,
                    instructions,
                });
            }
            Ok(_) | Err(OutOfStack) => {
                self.module.insts.truncate(insts_start);
                self.module.exits.exits.truncate(self.exits_start);
                self.module.exits.fixups.truncate(fixups_start);
            }
        }
    }

    /// Lowers the instructions of a block; gives the terminator and how many instructions run in
    /// compiled code, or none where that would be none.
    fn body(&mut self, block: &Block) -> Result<Option<(Terminator, u32)>, OutOfStack> {
        for index in 0..block.instructions {
            let opcode = self.code[self.pc.0 as usize];
            self.gas_own = u32::from(self.config.gas[opcode as usize]);
            if self.stack.dirty_bound() > DIRTY_MAX && self.stack.dirty().len() > DIRTY_MAX {
                self.flush(&mut [])?;
            }
            let next = match self.lower(opcode, index + 1 == block.instructions)? {
                (Lowered::Ends(Terminator::Exit(exit)), _) if self.interprets(exit) => {
                    // The instruction itself is the interpreter's.
                    return Ok((index != 0).then_some((Terminator::Exit(exit), index)));
                }
                (Lowered::Ends(terminator), _) => {
                    self.gas_before += self.gas_own;
                    return Ok(Some((terminator, index + 1)));
                }
                (Lowered::Continue, next) => next,
            };
            if self.perturb.spill {
                self.spill(next)?;
            }
            self.gas_before += self.gas_own;
            self.pc = next;
        }
        let terminator = self.end_of_block(block)?;
        Ok(Some((terminator, block.instructions)))
    }

    fn interprets(&self, exit: ExitId) -> bool {
        self.module.exits.exit(exit).kind == ExitKind::Interpret
    }

    /// Once the gas of the whole block is known: what each exit gives back, and what GAS adds.
    fn settle_gas(&mut self, insts_start: usize) {
        let total = self.gas_before;
        for exit in &mut self.module.exits.exits[self.exits_start + 1..] {
            // `gas_back` held the gas before the instruction, `rest` its own.
            let own = exit.rest;
            exit.gas_back = total - exit.gas_back;
            exit.rest = exit.gas_back.saturating_sub(own);
        }
        for inst in &mut self.module.insts[insts_start..] {
            if inst.op == crate::module::Op::Gas {
                inst.imm = total - inst.imm;
            }
        }
    }

    /// An exit without fixups; `before` and `own` as [`Self::settle_gas`] wants them.
    fn plain_exit(&mut self, kind: ExitKind, pc: Pc, before: u32, own: u32) -> ExitId {
        let table = &mut self.module.exits;
        let id = ExitId(table.exits.len() as u32);
        table.exits.push(Exit {
            height: self.stack.height(),
            gas_back: before,
            rest: own,
            ..Exit::plain(pc, kind, table.fixups.len() as u32)
        });
        id
    }

    /// The exit in front of the instruction being lowered, with everything that is away from home.
    fn exit(&mut self, kind: ExitKind) -> ExitId {
        let id = self.plain_exit(kind, self.pc, self.gas_before, self.gas_own);
        let from = self.module.exits.fixups.len();
        self.stack.dirty();
        let stack = &*self.stack;
        let fixups = &mut self.module.exits.fixups;
        fixups.extend(
            stack.listed().map(|position| Fixup {
                slot: Slot(position),
                source: source(stack.get(position)),
            }),
        );
        let len = fixups.len() - from;
        self.module.exits.exits[id.0 as usize].fixups_len = len as u16;
        id
    }

    fn constant(&mut self, word: Word) -> u32 {
        let pool = &mut self.module.exits.pool;
        if word.is_zero() {
            return 0;
        }
        let mixed = (word.0[0] ^ word.0[1].rotate_left(17) ^ word.0[2].rotate_left(31) ^ word.0[3])
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let cached = &mut self.constants[(mixed >> 56) as usize];
        if pool.get(*cached as usize) != Some(&word) {
            *cached = pool.len() as u32;
            pool.push(word);
        }
        *cached
    }

    /// Turns targets, so far pcs, into regions or ways out.
    fn resolve(&mut self) {
        for index in 0..self.module.regions.len() {
            let height = self.module.regions[index].height;
            let mut terminator = self.module.regions[index].terminator;
            let mut resolve = |target: &mut Target| {
                let Target::Region(pc) = *target else { return };
                let region = region_at(&self.module.regions, index, Pc(pc));
                *target = match region.filter(|_| !self.perturb.every_exit) {
                    Some(region) if region > index => Target::Region(region as u32),
                    Some(region) => {
                        let exit = resume_exit(&mut self.module, Pc(pc), height);
                        Target::Back { region: region as u32, exit }
                    }
                    None => Target::Exit(resume_exit(&mut self.module, Pc(pc), height)),
                };
            };
            match &mut terminator {
                Terminator::Jump(target) => resolve(target),
                Terminator::Branch { taken, next, .. } => {
                    resolve(taken);
                    resolve(next);
                }
                Terminator::JumpDynamic { .. } | Terminator::Exit(_) => {}
            }
            self.module.regions[index].terminator = terminator;
        }
    }
}

/// The region at `pc`, which is often the one behind the region `from`.
fn region_at(regions: &[Region], from: usize, pc: Pc) -> Option<usize> {
    match regions.get(from + 1) {
        Some(next) if next.pc == pc => Some(from + 1),
        _ => regions.binary_search_by_key(&pc, |region| region.pc).ok(),
    }
}

/// Where a value comes from, for the host that writes it.
fn source(value: Value) -> Source {
    match value {
        Value::Slot(slot) => Source::Slot(Slot(slot)),
        Value::Const { id, .. } => Source::Const(id),
    }
}

/// The way out to a leader that is not compiled, or that is polled at, behind a terminator.
fn resume_exit(module: &mut Module, pc: Pc, height: i16) -> ExitId {
    let table = &mut module.exits;
    let id = ExitId(table.exits.len() as u32);
    let plain = Exit::plain(pc, ExitKind::Resume, table.fixups.len() as u32);
    table.exits.push(Exit { moved: height, height, ..plain });
    id
}
