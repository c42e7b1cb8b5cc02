//! From block IR to a code object.
//!
//! **Owns** the choice of stencils: operand kinds, operations in place, constants that make an
//! operation simpler. **Callers guarantee** a module that `kiln_ir::verify` accepts. **Never** panics
//! on a module's content: what can not be compiled is a [`CompileError`].

use crate::{
    CompileError, Library,
    key::{Binary, Environment, Key, Kind, Offset, Shift, Use},
    operand::Field,
    stitch::{Emitted, Stitcher},
    thunk,
};
use kiln_abi::{CodeObject, EntryTable, ExitId, Helper, HelperShape, Slot, Word};
use kiln_ir::{Cond, ConstId, Inst, Module, Op, Operand, Region, Target, Terminator};

/// Constants that stand in a 32-bit immediate or displacement are at most this, so that a word at
/// that offset still ends below 2^31.
const OFFSET_MAX: u64 = i32::MAX as u64 - 64;

/// Compiles all regions of a module, in order.
///
/// # Errors
/// If the module is malformed or too large. Its code then stays interpreted.
pub fn compile(library: &Library, module: &Module) -> Result<CodeObject, CompileError> {
    let mut compiler = Compiler::new(library, module);
    compiler.run()?;
    compiler.finish()
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
    let mut compiler = Compiler::new(library, module);
    compiler.traced = Some(Vec::new());
    compiler.code.trace = Some(Vec::new());
    compiler.run()?;
    let traced = compiler.traced.take().unwrap_or_default();
    Ok((compiler.finish()?, traced))
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
    code: Stitcher<'m>,
    entries: EntryTable,
    /// Words by which the stack pointer has moved in the region.
    moved: i64,
    traced: Option<Vec<Traced>>,
}

const MISSING: CompileError = CompileError::Malformed("an operand is missing");

impl<'m> Compiler<'m> {
    fn new(library: &'m Library, module: &'m Module) -> Self {
        Self {
            module,
            code: Stitcher::new(library, module),
            entries: EntryTable::new(module.code_len as usize),
            moved: 0,
            traced: None,
        }
    }

    fn finish(self) -> Result<CodeObject, CompileError> {
        let (text, code_len) = self.code.finish()?;
        Ok(CodeObject {
            text,
            code_len,
            entries: self.entries,
            exits: self.module.exits.clone(),
            blocks: self.module.regions.len(),
        })
    }

    fn run(&mut self) -> Result<(), CompileError> {
        for (index, region) in self.module.regions.iter().enumerate() {
            let start = self.code.begin_region()?;
            if region.pc.0 > self.module.code_len {
                return Err(CompileError::Malformed("a region behind the code"));
            }
            self.entries.insert(region.pc, start, region.is_jumpdest);
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
        Ok(())
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
        self.code.set(Field::A, -32 * i64::from(region.need));
        self.code.set(Field::B, 32 * i64::from(region.grow));
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

    fn binary(
        &mut self,
        inst: &Inst,
        op: Binary,
        (mut a, mut b): (Operand, Operand),
    ) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let commutes = op != Binary::Sub;
        let constant_left = matches!((a, b), (Operand::Const(_), Operand::Slot(_)));
        if commutes && (constant_left || b == Operand::Slot(dst)) {
            std::mem::swap(&mut a, &mut b);
        } else if constant_left {
            return self.subtract_from(a, b, dst);
        }
        let slot = self.slot_operand(a, dst)?;
        let in_place = slot == dst;
        let kind = match b {
            Operand::Slot(_) => self.operand(Field::B, b)?,
            Operand::Const(id) => return self.binary_constant(op, slot, dst, id),
        };
        self.code.emit(Key::Binary(op, kind, in_place && op != Binary::Mul))
    }

    /// `dst = constant - slot`.
    fn subtract_from(&mut self, a: Operand, b: Operand, dst: Slot) -> Result<(), CompileError> {
        let (Operand::Const(id), Operand::Slot(slot)) = (a, b) else { return Err(MISSING) };
        self.slot(Field::Dst, dst);
        self.slot(Field::A, slot);
        let kind = match self.operand(Field::B, a)? {
            Kind::Zero | Kind::Imm31 => Kind::Imm31,
            _ => {
                self.pool(Field::B, id)?;
                Kind::Pool
            }
        };
        self.code.emit(Key::Binary(Binary::SubFrom, kind, false))
    }

    /// `dst = slot op constant`, where the constant may make it simpler.
    fn binary_constant(
        &mut self,
        op: Binary,
        slot: Slot,
        dst: Slot,
        id: ConstId,
    ) -> Result<(), CompileError> {
        let in_place = slot == dst;
        let word = self.code.constant(id)?;
        let constant = classify(word);
        let (op, kind) = match (op, constant) {
            (Binary::Add | Binary::Sub | Binary::Or | Binary::Xor, Constant::Zero) => {
                return self.copy(dst, Operand::Slot(slot));
            }
            (Binary::And | Binary::Mul, Constant::Zero) => {
                return self.code.emit(Key::Copy(Kind::Zero));
            }
            // Adding a small negative number is subtracting its magnitude, and the other way round.
            (Binary::Add | Binary::Sub, Constant::Signed(value)) if value > i32::MIN.into() => {
                self.code.set(Field::Imm, -value);
                (if op == Binary::Add { Binary::Sub } else { Binary::Add }, Kind::Imm31)
            }
            (Binary::And, Constant::Signed(value)) => {
                self.code.set(Field::Signed, value);
                return self.code.emit(Key::AndSigned { in_place });
            }
            (Binary::Xor, _) if word == Word::MAX => return self.code.emit(Key::Not { in_place }),
            (Binary::Mul, Constant::Imm31(value) | Constant::Imm64(value)) => {
                self.code.set(Field::Wide, value);
                // The slow path passes the whole constant.
                self.pool(Field::B, id)?;
                return self.code.emit(Key::Binary(op, Kind::Imm64, false));
            }
            (Binary::Mul, _) => {
                let args = [Some(Operand::Slot(slot)), Some(Operand::Const(id)), None];
                return self.pure_call(Helper::Mul, dst, args);
            }
            (_, Constant::Imm31(value)) => {
                self.code.set(Field::Imm, value);
                (op, Kind::Imm31)
            }
            (_, Constant::Imm64(value)) => {
                self.code.set(Field::Wide, value);
                (op, Kind::Imm64)
            }
            (Binary::And, Constant::Wide) => match mask(word) {
                Some((limbs, half)) => return self.code.emit(Key::Mask { limbs, half, in_place }),
                None => (op, Kind::Pool),
            },
            _ => (op, Kind::Pool),
        };
        if kind == Kind::Pool {
            self.pool(Field::B, id)?;
        }
        self.code.emit(Key::Binary(op, kind, in_place))
    }

    /// The operands of a comparison, in an order that there is a stencil for; none if both are
    /// constants.
    fn compare(
        &mut self,
        used: Use,
        mut cond: Cond,
        (mut a, mut b): (Operand, Operand),
    ) -> Result<Option<Key>, CompileError> {
        if let Operand::Const(_) = a {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap();
        } else if matches!(
            (b, cond),
            (Operand::Slot(_), Cond::Ugt | Cond::Ule | Cond::Sgt | Cond::Sle)
        ) {
            std::mem::swap(&mut a, &mut b);
            cond = cond.swap();
        }
        let Operand::Slot(slot) = a else { return Ok(None) };
        self.slot(Field::A, slot);
        let signed = matches!(cond, Cond::Slt | Cond::Sgt | Cond::Sle | Cond::Sge);
        let kind = match (self.operand(Field::B, b)?, cond, b) {
            (Kind::Zero, Cond::Eq | Cond::Ne, _) => Kind::Zero,
            (Kind::Zero, ..) => Kind::Imm31,
            (Kind::Imm64, _, Operand::Const(id)) if signed => {
                self.pool(Field::B, id)?;
                Kind::Pool
            }
            (kind, ..) => kind,
        };
        Ok(Some(Key::Compare(used, cond, kind)))
    }

    fn set(
        &mut self,
        inst: &Inst,
        cond: Cond,
        (a, b): (Operand, Operand),
    ) -> Result<(), CompileError> {
        self.dst(inst)?;
        if let Some(key) = self.compare(Use::Set, cond, (a, b))? {
            return self.code.emit(key);
        }
        let holds = self.holds(cond, a, b)?;
        self.code.set(Field::Imm, holds.into());
        self.code.emit(Key::Copy(if holds { Kind::Imm31 } else { Kind::Zero }))
    }

    /// The outcome of a comparison of constants.
    fn holds(&self, cond: Cond, a: Operand, b: Operand) -> Result<bool, CompileError> {
        let (Operand::Const(a), Operand::Const(b)) = (a, b) else { return Err(MISSING) };
        Ok(holds(cond, self.code.constant(a)?, self.code.constant(b)?))
    }

    fn shift(&mut self, inst: &Inst, shift: Shift, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        self.slot_operand(a, dst)?;
        if inst.imm == 0 || inst.imm > 255 {
            return Err(CompileError::Malformed("a shift amount out of range"));
        }
        let bits = i64::from(inst.imm % 64);
        self.code.set(Field::Bits, bits);
        self.code.set(Field::Rest, 64 - bits);
        self.code.emit(Key::Shift(shift, (inst.imm / 64) as u8, bits != 0))
    }

    fn byte(&mut self, inst: &Inst, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let slot = self.slot_operand(a, dst)?;
        if inst.imm > 31 {
            return Err(CompileError::Malformed("a byte index out of range"));
        }
        let byte = 31 - i64::from(inst.imm);
        self.code.set(Field::A, self.displacement(slot) + byte);
        self.code.emit(Key::Byte)
    }

    fn signextend(&mut self, inst: &Inst, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let _ = self.slot_operand(a, dst)?;
        if inst.imm > 30 {
            return Err(CompileError::Malformed("a byte index out of range"));
        }
        self.code.set(Field::Bits, 56 - 8 * i64::from(inst.imm % 8));
        self.code.emit(Key::Signextend((inst.imm / 8) as u8))
    }

    /// Sets the fields of a memory operation's offset and exit.
    fn offset(&mut self, inst: &Inst, a: Operand) -> Result<Offset, CompileError> {
        let exit = match inst.exit {
            Some(ExitId(exit)) => exit,
            None if inst.checked => return Err(CompileError::Malformed("an exit is missing")),
            None => 0,
        };
        self.imm(Field::Len, exit)?;
        let id = match a {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                return Ok(Offset::Slot);
            }
            Operand::Const(id) => id,
        };
        match self.code.constant(id)?.as_u64() {
            Some(offset) if offset <= OFFSET_MAX => {
                self.code.set(Field::Imm, offset as i64);
                Ok(if inst.checked { Offset::Const } else { Offset::Covered })
            }
            _ => Err(CompileError::Malformed("a memory offset out of range")),
        }
    }

    fn mstore(&mut self, inst: &Inst, (a, b): (Operand, Operand)) -> Result<(), CompileError> {
        let kind = match b {
            Operand::Slot(slot) => {
                self.slot(Field::B, slot);
                Kind::Slot
            }
            Operand::Const(id) => match classify(self.code.constant(id)?) {
                Constant::Zero => Kind::Zero,
                Constant::Imm31(value) | Constant::Imm64(value) => {
                    self.code.set(Field::Wide, value.swap_bytes());
                    Kind::Imm64
                }
                _ => {
                    self.code.symbols.pool_b = self.code.pooled(id, true)?;
                    Kind::Pool
                }
            },
        };
        let offset = self.offset(inst, a)?;
        self.code.emit(Key::Mstore(offset, kind))
    }

    fn mstore8(&mut self, inst: &Inst, (a, b): (Operand, Operand)) -> Result<(), CompileError> {
        let kind = match b {
            Operand::Slot(slot) => {
                self.slot(Field::B, slot);
                Kind::Slot
            }
            Operand::Const(id) => {
                let byte = self.code.constant(id)?.0[0] as u8;
                self.code.set(Field::Bits, byte.into());
                Kind::Imm31
            }
        };
        let offset = self.offset(inst, a)?;
        self.code.emit(Key::Mstore8(offset, kind))
    }

    fn calldataload(&mut self, inst: &Inst, a: Operand) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        let id = match a {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                return self.code.emit(Key::Calldataload(Offset::Slot));
            }
            Operand::Const(id) => id,
        };
        match self.code.constant(id)?.as_u64() {
            Some(offset) if offset <= OFFSET_MAX => {
                self.code.set(Field::Imm, offset as i64);
                self.code.set(Field::Len, offset as i64 + 32);
                self.pool(Field::A, id)?;
                self.code.emit(Key::Calldataload(Offset::Const))
            }
            _ => {
                self.argument(0, Operand::Slot(dst))?;
                self.argument(1, a)?;
                self.code.symbols.helper = Helper::Calldataload as u8;
                self.code.emit(Key::Call)
            }
        }
    }

    fn environment(&mut self, inst: &Inst, what: Environment) -> Result<(), CompileError> {
        self.dst(inst)?;
        self.imm(Field::Imm, if what == Environment::Gas { inst.imm } else { 0 })?;
        self.code.emit(Key::Environment(what))
    }

    /// Sets an argument register to the address of an operand.
    fn argument(&mut self, number: u8, operand: Operand) -> Result<(), CompileError> {
        let kind = match operand {
            Operand::Slot(slot) => {
                self.slot(Field::A, slot);
                Kind::Slot
            }
            Operand::Const(id) => {
                self.pool(Field::A, id)?;
                Kind::Pool
            }
        };
        self.code.emit(Key::Argument(number, kind))
    }

    fn pure(&mut self, inst: &Inst, helper: Helper) -> Result<(), CompileError> {
        let dst = self.dst(inst)?;
        self.pure_call(helper, dst, inst.args)
    }

    fn pure_call(
        &mut self,
        helper: Helper,
        dst: Slot,
        args: [Option<Operand>; 3],
    ) -> Result<(), CompileError> {
        let count = match helper.shape() {
            HelperShape::Pure1 => 1,
            HelperShape::Pure2 => 2,
            HelperShape::Pure3 => 3,
            _ => return Err(CompileError::Malformed("a helper of another shape")),
        };
        self.argument(0, Operand::Slot(dst))?;
        for (number, arg) in (1..).zip(&args[..count]) {
            self.argument(number, arg.ok_or(MISSING)?)?;
        }
        self.code.symbols.helper = helper as u8;
        self.code.emit(Key::Call)
    }

    fn guarded(&mut self, inst: &Inst, helper: Helper) -> Result<(), CompileError> {
        if helper.shape() != HelperShape::Guarded3 {
            return Err(CompileError::Malformed("a helper of another shape"));
        }
        let mut operands =
            inst.dst.map(Operand::Slot).into_iter().chain(inst.args.into_iter().flatten());
        for (number, used) in (0..).zip(thunk::pointers(helper)) {
            if used {
                self.argument(number, operands.next().ok_or(MISSING)?)?;
            }
        }
        if operands.next().is_some() {
            return Err(CompileError::Malformed("more operands than the helper takes"));
        }
        self.call(helper, inst.exit)
    }

    fn call(&mut self, helper: Helper, exit: Option<ExitId>) -> Result<(), CompileError> {
        let exit = match exit {
            Some(ExitId(exit)) => exit,
            None if helper == Helper::Calldataload => 0,
            None => return Err(CompileError::Malformed("an exit is missing")),
        };
        self.imm(Field::Imm, exit)?;
        self.code.emit(Key::ExitArgument)?;
        self.code.symbols.helper = helper as u8;
        self.code.emit(Key::Call)
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
                self.code.symbols.taken = Some(taken);
                match self.compare(Use::Branch, cond, (a, b))? {
                    Some(key) => {
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
        if target == Target::Region(index as u32 + 1) && index + 1 < self.module.regions.len() {
            return Ok(());
        }
        self.code.jump(target)
    }
}

/// Whole limbs, and whether half of the next, of a mask that keeps the lowest bits.
fn mask(word: Word) -> Option<(u8, bool)> {
    const ALL: u64 = u64::MAX;
    match word.0 {
        [ALL, ALL, 0, 0] => Some((2, false)),
        [ALL, ALL, 0xffff_ffff, 0] => Some((2, true)),
        [ALL, ALL, ALL, 0] => Some((3, false)),
        _ => None,
    }
}

/// The comparison of two constants.
fn holds(cond: Cond, a: Word, b: Word) -> bool {
    let unsigned = |word: Word| [word.0[3], word.0[2], word.0[1], word.0[0]];
    let signed = |word: Word| [word.0[3] ^ 1 << 63, word.0[2], word.0[1], word.0[0]];
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Ult => unsigned(a) < unsigned(b),
        Cond::Ugt => unsigned(a) > unsigned(b),
        Cond::Ule => unsigned(a) <= unsigned(b),
        Cond::Uge => unsigned(a) >= unsigned(b),
        Cond::Slt => signed(a) < signed(b),
        Cond::Sgt => signed(a) > signed(b),
        Cond::Sle => signed(a) <= signed(b),
        Cond::Sge => signed(a) >= signed(b),
    }
}
