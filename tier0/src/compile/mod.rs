//! From block IR to a code object.
//!
//! **Owns** the choice of stencils: operand kinds, operations in place, constants that make an
//! operation simpler. **Callers guarantee** a module that `kiln_ir::verify` accepts. **Never** panics
//! on a module's content: what can not be compiled is a [`CompileError`].

mod effects;
mod words;

use crate::{
    CompileError, Library, Link,
    key::{Binary, Environment, Key, Kind, Shift, Use},
    link::Links,
    operand::Field,
    stitch::{Emitted, Scratch, Stitcher, Text},
};
use kiln_abi::{CodeObject, EntryTable, HelperShape, STACK_LIMIT, Slot, Word};
use kiln_ir::{Bounds, ConstId, Inst, Limits, Module, Op, Operand, Region, Target, Terminator};

/// Constants that stand in a 32-bit immediate or displacement are at most this, so that a word at
/// that offset still ends below 2^31.
const OFFSET_MAX: u64 = i32::MAX as u64 - 64;

/// Compiles all regions of a module, in order.
///
/// # Errors
/// If the module is malformed or too large, or goes over the limits, or the work was called off. Its
/// code then stays interpreted.
pub fn compile<'b>(
    library: &Library,
    module: &Module,
    bounds: impl Into<Bounds<'b>>,
) -> Result<CodeObject, CompileError> {
    Scratch::default().compile(library, module, &[], bounds)
}

impl Scratch {
    /// As [`compile`], with optimised regions in the place of some blocks; `links` in the order of their
    /// pcs. The limits are for what is compiled here, without the regions.
    ///
    /// # Errors
    /// As [`compile`].
    pub fn compile<'b>(
        &mut self,
        library: &Library,
        module: &Module,
        links: &[Link<'_>],
        bounds: impl Into<Bounds<'b>>,
    ) -> Result<CodeObject, CompileError> {
        let mut compiler = Compiler::new(library, module, links, self)?;
        compiler.run(bounds.into())?;
        compiler.finish(self)
    }
}

/// What was emitted for an instruction, or for a part of a region without instruction.
pub(crate) struct Traced {
    /// The region.
    pub region: usize,
    /// The instruction; none for a region's check and terminator.
    pub inst: Option<Inst>,
    /// Where its code lies, and how long it is.
    pub at: usize,
    /// Bytes of hot code.
    pub len: usize,
    /// The stencils.
    pub stencils: Vec<Emitted>,
}

/// Compiles, and tells what was emitted.
pub(crate) fn trace(
    library: &Library,
    module: &Module,
) -> Result<(CodeObject, Vec<Traced>), CompileError> {
    let mut scratch = Scratch::default();
    let mut compiler = Compiler::new(library, module, &[], &mut scratch)?;
    compiler.traced = Some(Vec::new());
    compiler.code.trace = Some(Vec::new());
    compiler.run((&Limits::NONE).into())?;
    let traced = compiler.traced.take().unwrap_or_default();
    Ok((compiler.finish(&mut scratch)?, traced))
}

/// What kind of constant a word is.
enum Constant {
    Zero,
    Imm31(i64),
    Imm64(i64),
    /// All bits above the lowest 31 are set.
    Signed(i64),
    Wide,
}

fn classify(word: Word) -> Constant {
    match word.0 {
        [0, 0, 0, 0] => Constant::Zero,
        [low, 0, 0, 0] if low <= i32::MAX as u64 => Constant::Imm31(low as i64),
        [low, 0, 0, 0] => Constant::Imm64(low as i64),
        [low, u64::MAX, u64::MAX, u64::MAX]
            if low as i64 >= i32::MIN.into() && (low as i64) < 0 =>
        {
            Constant::Signed(low as i64)
        }
        _ => Constant::Wide,
    }
}

struct Compiler<'m> {
    module: &'m Module,
    loops: Loops,
    code: Stitcher<'m>,
    entries: EntryTable,
    /// Words by which the stack pointer has moved in the region.
    moved: i64,
    traced: Option<Vec<Traced>>,
}

/// Regions between the ends of a back-edge, at most, for it to be a loop: longer ones mostly lead to code that
/// several places share.
const LOOP_MAX: usize = 32;

/// The regions that lie in a loop of constant jumps: between the target of a back-edge and the back-edge.
/// They run over and over, so that there speed counts, and elsewhere size.
struct Loops {
    /// By region, how many loops begin less how many ended in front of it, summed up.
    depth: Vec<u32>,
}

impl Loops {
    fn of(module: &Module) -> Self {
        let mut change = vec![0i32; module.regions.len() + 1];
        for (index, region) in module.regions.iter().enumerate() {
            let mut edge = |target| {
                if let Target::Back { region: to, .. } = target
                    && index - (to as usize).min(index) < LOOP_MAX
                    && let Some(begins) = change.get_mut(to as usize)
                {
                    *begins += 1;
                    change[index + 1] -= 1;
                }
            };
            match region.terminator {
                Terminator::Jump(target) => edge(target),
                Terminator::Branch { taken, next, .. } => [taken, next].into_iter().for_each(edge),
                Terminator::JumpDynamic { .. } | Terminator::Exit(_) => {}
            }
        }
        let mut sum = 0;
        let depth = change.into_iter().map(|change| {
            sum += change;
            sum.max(0) as u32
        });
        Self { depth: depth.collect() }
    }

    fn contains(&self, region: usize) -> bool {
        self.depth.get(region).is_some_and(|&depth| depth > 0)
    }
}

const MISSING: CompileError = CompileError::Malformed("an operand is missing");

impl<'m> Compiler<'m> {
    fn new(
        library: &'m Library,
        module: &'m Module,
        links: &'m [Link<'m>],
        scratch: &mut Scratch,
    ) -> Result<Self, CompileError> {
        if module.code_len as usize > EntryTable::CODE_LEN_MAX {
            return Err(CompileError::TooLarge);
        }
        Ok(Self {
            module,
            loops: Loops::of(module),
            code: Stitcher::new(library, module, Links::new(links)?, scratch)?,
            entries: EntryTable::new(module.code_len as usize, module.regions.len()),
            moved: 0,
            traced: None,
        })
    }

    fn finish(mut self, scratch: &mut Scratch) -> Result<CodeObject, CompileError> {
        let Text { bytes, code_len, records } = self.code.finish(&mut self.entries, scratch)?;
        self.entries.shrink();
        Ok(CodeObject {
            text: bytes,
            code_len,
            records,
            entries: self.entries,
            blocks: self.module.regions.len(),
        })
    }

    fn run(&mut self, bounds: Bounds<'_>) -> Result<(), CompileError> {
        let text_max = bounds.limits.text_bytes_max(self.module.instructions());
        for (index, region) in self.module.regions.iter().enumerate() {
            bounds.check()?;
            if self.code.skip_linked(region.pc) {
                continue;
            }
            let start = self.code.begin_region(text_max)?;
            if region.pc.0 > self.module.code_len {
                return Err(CompileError::Malformed("a region behind the code"));
            }
            self.entries.insert(region.pc, start, region.is_jumpdest);
            self.code.wide = self.code.is_wide() && !self.loops.contains(index);
            self.moved = 0;
            self.check(region)?;
            self.note(index, None, start as usize);
            let insts = self
                .module
                .insts
                .get(region.insts_start as usize..)
                .and_then(|insts| insts.get(..region.insts_len as usize))
                .ok_or(CompileError::Malformed("a region without its instructions"))?;
            for inst in insts {
                let at = self.code.hot_len();
                self.inst(inst)?;
                self.note(index, Some(inst), at);
            }
            let at = self.code.hot_len();
            self.terminator(index, region)?;
            self.note(index, None, at);
        }
        self.code.check_len(text_max)
    }

    fn note(&mut self, region: usize, inst: Option<&Inst>, at: usize) {
        if let Some(traced) = &mut self.traced {
            let stencils = self.code.trace.as_mut().map(std::mem::take).unwrap_or_default();
            let len = self.code.hot_len() - at;
            traced.push(Traced { region, inst: inst.copied(), at, len, stencils });
        }
    }

    fn check(&mut self, region: &Region) -> Result<(), CompileError> {
        let [need, grow, gas] = [region.need != 0, region.grow != 0, region.gas != 0];
        if !(need || grow || gas) {
            return Ok(());
        }
        let (words, room) = (i64::from(region.need), i64::from(region.grow));
        let (words, room) = (32 * words, 32 * room);
        self.code.set(Field::A, -words);
        let most = 32 * STACK_LIMIT as i64;
        if need && grow && words + room > most {
            return Err(CompileError::Malformed("more words than a stack holds"));
        }
        self.code.set(Field::B, if need { most - words - room } else { room });
        self.imm(Field::Imm, region.gas)?;
        self.code.symbols.exit = Some(region.entry_exit);
        self.code.emit(Key::Check { need, grow, gas })
    }

    /// Sets a field to a number that must be below 2^31.
    fn imm(&mut self, field: Field, value: u32) -> Result<(), CompileError> {
        let value = i32::try_from(value).map_err(|_| CompileError::TooLarge)?;
        self.code.set(field, value.into());
        Ok(())
    }

    /// Where a slot lies from the stack pointer, in bytes. (A bias of the stack pointer does not pay:
    /// slots below and above it are equally common, 25.9 bytes an instruction without, 26.2 with one
    /// word, 26.9 with two.)
    fn displacement(&self, slot: Slot) -> i64 {
        32 * (i64::from(slot.0) - self.moved)
    }

    fn slot(&mut self, field: Field, slot: Slot) {
        self.code.set(field, self.displacement(slot));
    }

    fn dst(&mut self, inst: &Inst) -> Result<Slot, CompileError> {
        let dst = inst.dst.ok_or(CompileError::Malformed("a destination is missing"))?;
        self.slot(Field::Dst, dst);
        Ok(dst)
    }

    /// Sets the fields of an operand in the first or second position.
    fn operand(&mut self, field: Field, operand: Operand) -> Result<Kind, CompileError> {
        let id = match operand {
            Operand::Slot(slot) => {
                self.slot(field, slot);
                return Ok(Kind::Slot);
            }
            Operand::Const(id) => id,
        };
        match classify(self.code.constant(id)?) {
            Constant::Zero => {
                self.code.set(Field::Imm, 0);
                Ok(Kind::Zero)
            }
            Constant::Imm31(value) => {
                self.code.set(Field::Imm, value);
                Ok(Kind::Imm31)
            }
            Constant::Imm64(value) => {
                self.code.set(Field::Wide, value);
                Ok(Kind::Imm64)
            }
            Constant::Signed(_) | Constant::Wide => {
                self.pool(field, id)?;
                Ok(Kind::Pool)
            }
        }
    }

    fn pool(&mut self, field: Field, id: ConstId) -> Result<(), CompileError> {
        let index = self.code.pooled(id, false)?;
        match field {
            Field::A => self.code.symbols.pool_a = index,
            _ => self.code.symbols.pool_b = index,
        }
        Ok(())
    }

    /// The first operand as a slot: a constant is written to the destination first.
    fn slot_operand(&mut self, operand: Operand, dst: Slot) -> Result<Slot, CompileError> {
        match operand {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                Ok(slot)
            }
            Operand::Const(_) => {
                self.copy(dst, operand)?;
                self.slot(Field::A, dst);
                Ok(dst)
            }
        }
    }

    fn copy(&mut self, dst: Slot, from: Operand) -> Result<(), CompileError> {
        self.slot(Field::Dst, dst);
        if from == Operand::Slot(dst) {
            return Ok(());
        }
        let kind = self.operand(Field::A, from)?;
        self.code.emit(Key::Copy(kind))
    }

    fn inst(&mut self, inst: &Inst) -> Result<(), CompileError> {
        let [a, b, _] = inst.args;
        let one = || a.ok_or(MISSING);
        let two = || Ok::<_, CompileError>((a.ok_or(MISSING)?, b.ok_or(MISSING)?));
        match inst.op {
            Op::Copy => {
                let dst = self.dst(inst)?;
                self.copy(dst, one()?)
            }
            Op::Add => self.binary(inst, Binary::Add, two()?),
            Op::Sub => self.binary(inst, Binary::Sub, two()?),
            Op::Mul => self.binary(inst, Binary::Mul, two()?),
            Op::And => self.binary(inst, Binary::And, two()?),
            Op::Or => self.binary(inst, Binary::Or, two()?),
            Op::Xor => self.binary(inst, Binary::Xor, two()?),
            Op::Not => {
                let dst = self.dst(inst)?;
                let in_place = self.slot_operand(one()?, dst)? == dst;
                self.code.emit(Key::Not { in_place })
            }
            Op::Set(cond) => self.set(inst, cond, two()?),
            Op::ShlImm => self.shift(inst, Shift::Left, one()?),
            Op::ShrImm => self.shift(inst, Shift::Right, one()?),
            Op::SarImm => self.shift(inst, Shift::Signed, one()?),
            Op::ByteImm => self.byte(inst, one()?),
            Op::SignextendImm => self.signextend(inst, one()?),
            Op::Mload => {
                self.dst(inst)?;
                let offset = self.offset(inst, one()?)?;
                self.code.emit(Key::Mload(offset))
            }
            Op::Mstore => self.mstore(inst, two()?),
            Op::Mstore8 => self.mstore8(inst, two()?),
            Op::Calldataload => self.calldataload(inst, one()?),
            Op::Address => self.environment(inst, Environment::Address),
            Op::Caller => self.environment(inst, Environment::Caller),
            Op::CallValue => self.environment(inst, Environment::CallValue),
            Op::Calldatasize => self.environment(inst, Environment::Calldatasize),
            Op::Returndatasize => self.environment(inst, Environment::Returndatasize),
            Op::Msize => self.environment(inst, Environment::Msize),
            Op::Gas => self.environment(inst, Environment::Gas),
            Op::Pure(helper) => self.pure(inst, helper),
            Op::Guarded(helper) => self.guarded(inst, helper),
            Op::Instruction(helper) => {
                if helper.shape() != HelperShape::Instruction {
                    return Err(CompileError::Malformed("a helper of another shape"));
                }
                self.call(helper, inst.exit)
            }
        }
    }

    /// Moves the stack pointer to where the next region expects it.
    fn adjust(&mut self, region: &Region) -> Result<(), CompileError> {
        if region.height != 0 {
            self.code.set(Field::Imm, 32 * i64::from(region.height));
            self.code.emit(Key::Adjust)?;
            self.moved = region.height.into();
        }
        Ok(())
    }

    fn terminator(&mut self, index: usize, region: &Region) -> Result<(), CompileError> {
        match region.terminator {
            Terminator::Exit(exit) => self.code.jump(Target::Exit(exit)),
            Terminator::Jump(target) => {
                self.adjust(region)?;
                self.jump(index, target)
            }
            Terminator::Branch { cond, a, b, taken, next } => {
                self.adjust(region)?;
                match self.compare(Use::Branch, cond, (a, b))? {
                    Some(key) => {
                        self.code.symbols.taken = Some(self.code.target(taken)?);
                        self.code.emit(key)?;
                        self.jump(index, next)
                    }
                    None => {
                        let target = if self.holds(cond, a, b)? { taken } else { next };
                        self.jump(index, target)
                    }
                }
            }
            Terminator::JumpDynamic { dest, exit } => {
                self.adjust(region)?;
                self.slot(Field::A, dest);
                self.code.symbols.exit = Some(exit);
                self.code.emit(Key::JumpDynamic)
            }
        }
    }

    /// Jumps, unless the target follows anyway.
    fn jump(&mut self, index: usize, target: Target) -> Result<(), CompileError> {
        let follows = self.module.regions.get(index + 1);
        let falls = target == Target::Region(index as u32 + 1);
        if falls && follows.is_some_and(|region| !self.code.is_link(region)) {
            return Ok(());
        }
        self.code.jump(target)
    }
}
