//! What the context tells about the frame.
//!
//! **Owns** reads of addresses, values and sizes. **Callers guarantee** that the context's pointers
//! are valid. **Never** calls the host.

use super::{FLAGS, Lower, Source};
use crate::{key::Environment, operand::Field};
use cranelift_codegen::ir::{InstBuilder, types::*};
use kiln_abi::context_offset;

impl Lower<'_, '_> {
    /// `dst` = a word of the context.
    pub(crate) fn environment(&mut self, what: Environment) {
        match what {
            Environment::Address => self.address(context_offset!(address)),
            Environment::Caller => self.address(context_offset!(caller)),
            Environment::CallValue => {
                let value = Source::Memory(self.context(context_offset!(call_value)));
                for k in 0..4 {
                    let limb = self.limb(value, k);
                    self.put(k, limb);
                }
            }
            Environment::Calldatasize => self.scalar(context_offset!(calldata_len)),
            Environment::Returndatasize => self.scalar(context_offset!(returndata_len)),
            Environment::Msize => self.scalar(context_offset!(msize)),
            Environment::Gas => {
                let left = self.context(context_offset!(gas));
                let not_due = self.imm(Field::Imm);
                let gas = self.b.ins().iadd(left, not_due);
                self.put_u64(gas);
            }
        }
    }

    fn scalar(&mut self, offset: i32) {
        let value = self.context(offset);
        self.put_u64(value);
    }

    /// 20 bytes, big-endian.
    fn address(&mut self, offset: i32) {
        let bytes = self.context(offset);
        let high = self.b.ins().load(I32, FLAGS, bytes, 0);
        let high = self.b.ins().bswap(high);
        let high = self.b.ins().uextend(I64, high);
        self.put(2, high);
        for k in [1, 0] {
            let limb = self.b.ins().load(I64, FLAGS, bytes, 12 - 8 * k as i32);
            let limb = self.b.ins().bswap(limb);
            self.put(k, limb);
        }
        let zero = self.iconst(0);
        self.put(3, zero);
    }
}
