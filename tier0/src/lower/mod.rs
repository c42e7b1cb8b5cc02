//! What each operation does, as Cranelift IR.
//!
//! **Owns** the lowering of every operation of the block IR. Operands are read limb by limb through
//! [`Lower::limb`], results are written limb by limb through [`Lower::put`], so that the same code
//! serves stencils (a patched load) and regions in SSA (a value at hand). **Callers guarantee** that
//! destination and operand slots are the same slot or do not overlap. **Never** places code.

mod arith;
mod bitwise;
mod compare;
mod control;
mod host;
mod memory;

use crate::{
    key::{Key, Kind},
    operand::{Field, Magic},
    stencil::Symbol,
};
use cranelift_codegen::ir::{
    AbiParam, ConstantData, ExtFuncData, ExternalName, GlobalValueData, InstBuilder, MemFlagsData,
    Signature, Type, UserExternalName, Value, condcodes::IntCC, types::*,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::FunctionBuilder;

/// Where the limbs of an operand come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source {
    /// A stack slot.
    Slot(Field),
    /// A constant below 2^31 in a patched immediate.
    Imm31(Field),
    /// A constant of one limb.
    Limb(Value),
    /// A word in memory: the constant pool.
    Memory(Value),
    /// Zero.
    Zero,
}

/// No trap, and no claim about alignment: words are aligned to 8 bytes, EVM memory not at all.
pub(crate) const FLAGS: MemFlagsData = MemFlagsData::new().with_notrap();

/// The function being authored.
pub(crate) struct Lower<'a, 'b> {
    /// Cranelift's builder.
    pub b: &'a mut FunctionBuilder<'b>,
    /// All parameters, which are passed on to the next stencil.
    pub params: Vec<Value>,
    /// The stack pointer.
    pub sp: Value,
    /// The context.
    pub cx: Value,
    /// What stands for the fields.
    pub magic: &'a Magic,
}

/// Authors the body of a stencil; the caller ends it with the jump to the next one.
pub(crate) fn lower(l: &mut Lower<'_, '_>, key: Key) {
    match key {
        Key::Copy(kind) => l.copy(kind),
        Key::Binary(op, kind, in_place) => l.binary(op, kind, in_place),
        Key::AndSigned { in_place } => l.and_signed(in_place),
        Key::Mask { limbs, half, in_place } => l.mask(limbs as usize, half, in_place),
        Key::Not { .. } => l.not(),
        Key::Compare(used, cond, kind) => l.compare(used, cond, kind),
        Key::Shift(shift, limbs, bits) => l.shift(shift, limbs as usize, bits),
        Key::Byte => l.byte(),
        Key::Signextend(limb) => l.signextend(limb as usize),
        Key::Mload(offset) => l.mload(offset),
        Key::Mstore(offset, kind) => l.mstore(offset, kind),
        Key::Mstore8(offset, kind) => l.mstore8(offset, kind),
        Key::Calldataload(offset) => l.calldataload(offset),
        Key::Environment(what) => l.environment(what),
        Key::Argument(number, kind) => l.argument(number as usize, kind),
        Key::ExitArgument => l.exit_argument(),
        Key::Call => l.call_thunk(),
        Key::Adjust => l.adjust(),
        // Written by hand.
        Key::Check { .. } | Key::Poll | Key::JumpDynamic => {}
    }
}

impl Lower<'_, '_> {
    /// The operand of the given kind in the first (`A`) or second (`B`) position.
    pub(crate) fn source(&mut self, field: Field, kind: Kind) -> Source {
        match kind {
            Kind::Slot => Source::Slot(field),
            Kind::Imm31 => Source::Imm31(Field::Imm),
            Kind::Imm64 => Source::Limb(self.symbol(Symbol::Wide, false)),
            Kind::Pool => Source::Memory(self.pool(field)),
            Kind::Zero => Source::Zero,
        }
    }

    /// Limb `k` of an operand.
    pub(crate) fn limb(&mut self, source: Source, k: usize) -> Value {
        match source {
            Source::Slot(field) => self.load_sp(I64, field, 8 * k as i32),
            Source::Imm31(field) if k == 0 => self.imm(field),
            Source::Limb(value) if k == 0 => value,
            Source::Memory(base) => self.b.ins().load(I64, FLAGS, base, 8 * k as i32),
            Source::Imm31(_) | Source::Limb(_) | Source::Zero => self.iconst(0),
        }
    }

    /// Limbs `k` (low) and `k + 1` (high) of an operand.
    pub(crate) fn pair(&mut self, source: Source, k: usize) -> Value {
        let low = self.limb(source, k);
        let high = self.limb(source, k + 1);
        self.b.ins().iconcat(low, high)
    }

    /// Writes limb `k` of the destination.
    pub(crate) fn put(&mut self, k: usize, value: Value) {
        self.store_sp(value, Field::Dst, 8 * k as i32);
    }

    /// Writes limbs `k` (low) and `k + 1` (high) of the destination.
    pub(crate) fn put_pair(&mut self, k: usize, value: Value) {
        let (low, high) = self.b.ins().isplit(value);
        self.put(k, low);
        self.put(k + 1, high);
    }

    /// Writes a result that fits one limb. The zeros are written in two pieces of 16 bytes: loads of
    /// single limbs are forwarded from them.
    pub(crate) fn put_u64(&mut self, value: Value) {
        let zero = self.zero16();
        self.store_sp(zero, Field::Dst, 0);
        self.store_sp(zero, Field::Dst, 16);
        self.put(0, value);
    }

    /// Writes a result that fits one limb and takes many registers to compute: it is computed before
    /// anything is written, so that operands do not stay in registers.
    pub(crate) fn put_computed_u64(&mut self, value: Value) {
        let value = self.b.ins().scalar_to_vector(I64X2, value);
        self.store_sp(value, Field::Dst, 0);
        let zero = self.zero16();
        self.store_sp(zero, Field::Dst, 16);
    }

    /// 16 bytes of zeros.
    pub(crate) fn zero16(&mut self) -> Value {
        let zero = self.b.func.dfg.constants.insert(ConstantData::from(&[0u8; 16][..]));
        self.b.ins().vconst(F32X4, zero)
    }

    /// Loads from a slot.
    pub(crate) fn load_sp(&mut self, ty: Type, field: Field, add: i32) -> Value {
        let offset = self.magic.of(field) as i32 + add;
        self.b.ins().load(ty, FLAGS, self.sp, offset)
    }

    /// Stores to a slot.
    pub(crate) fn store_sp(&mut self, value: Value, field: Field, add: i32) {
        let offset = self.magic.of(field) as i32 + add;
        self.b.ins().store(FLAGS, value, self.sp, offset);
    }

    /// The address of a slot.
    pub(crate) fn slot_address(&mut self, field: Field) -> Value {
        self.b.ins().iadd_imm_s(self.sp, self.magic.of(field))
    }

    /// A field's value.
    pub(crate) fn imm(&mut self, field: Field) -> Value {
        self.iconst(self.magic.of(field))
    }

    /// A constant.
    pub(crate) fn iconst(&mut self, value: i64) -> Value {
        self.b.ins().iconst(I64, value)
    }

    /// A field of the context.
    pub(crate) fn context(&mut self, offset: i32) -> Value {
        self.b.ins().load(I64, FLAGS, self.cx, offset)
    }

    /// The address of the pool word of the first or second operand.
    pub(crate) fn pool(&mut self, field: Field) -> Value {
        self.symbol(if field == Field::A { Symbol::PoolA } else { Symbol::PoolB }, true)
    }

    /// The value of a symbol: rip-relative if it is near, else a 64-bit immediate.
    fn symbol(&mut self, symbol: Symbol, near: bool) -> Value {
        let name = self.name(symbol);
        let global = self.b.create_global_value(GlobalValueData::Symbol {
            name,
            offset: 0.into(),
            colocated: near,
            tls: false,
        });
        self.b.ins().symbol_value(I64, global)
    }

    fn name(&mut self, symbol: Symbol) -> ExternalName {
        let name = UserExternalName { namespace: 0, index: symbol.code() };
        ExternalName::user(self.b.func.declare_imported_user_function(name))
    }

    fn function(
        &mut self,
        symbol: Symbol,
        conv: CallConv,
        params: usize,
    ) -> cranelift_codegen::ir::FuncRef {
        let mut signature = Signature::new(conv);
        signature.params.resize(params, AbiParam::new(I64));
        let signature = self.b.import_signature(signature);
        let name = self.name(symbol);
        self.b.import_function(ExtFuncData { name, signature, colocated: true, patchable: false })
    }

    /// Ends the block with a jump out of the stencil, with the given parameters.
    pub(crate) fn tail(&mut self, symbol: Symbol) {
        let function = self.function(symbol, CallConv::Tail, self.params.len());
        let params = self.params.clone();
        self.b.ins().return_call(function, &params);
    }

    /// Calls a thunk: all registers but those of the stack pointer and the context are lost, which
    /// `verify` checks: nothing behind a call reads a register.
    pub(crate) fn call(&mut self, symbol: Symbol, arguments: &[Value]) {
        let function = self.function(symbol, CallConv::PreserveAll, arguments.len() + 2);
        let arguments: Vec<_> = [self.sp, self.cx].iter().chain(arguments).copied().collect();
        self.b.ins().call(function, &arguments);
    }

    /// Goes out of the stencil if `condition` is not zero.
    pub(crate) fn leave_if(&mut self, condition: Value, symbol: Symbol) {
        self.cold_if(condition, |l| l.tail(symbol));
    }

    /// Runs `cold`, which must end its block, if `condition` is not zero.
    pub(crate) fn cold_if(&mut self, condition: Value, cold: impl FnOnce(&mut Self)) {
        let out = self.b.create_block();
        let stay = self.b.create_block();
        self.b.set_cold_block(out);
        self.b.ins().brif(condition, out, &[], stay, &[]);
        self.b.switch_to_block(out);
        cold(self);
        self.b.switch_to_block(stay);
    }

    /// `a cc b`.
    pub(crate) fn icmp(&mut self, cc: IntCC, a: Value, b: Value) -> Value {
        self.b.ins().icmp(cc, a, b)
    }

    /// The or of the limbs of an operand from `from` upwards.
    pub(crate) fn or_limbs(&mut self, source: Source, from: usize) -> Value {
        let mut all = self.limb(source, from);
        for k in from + 1..4 {
            let limb = self.limb(source, k);
            all = self.b.ins().bor(all, limb);
        }
        all
    }
}
