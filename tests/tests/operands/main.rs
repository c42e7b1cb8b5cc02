//! Every arithmetic, comparison, shift, memory and host opcode over all pairs of operand classes, each operand
//! known, unknown or known in part at compile time, on all engines.
//!
//! The opcodes come from revm's own table: an opcode that is in no class fails a test, so that a new one can not
//! be forgotten. The evaluator and tier 0 get all pairs in all nine ways to know them; slower engines get the pairs of
//! the words where carries, signs and limbs begin, in fewer ways, but for LLVM's frames every pair in one at least:
//! `combine.rs`. With `KILN_TEST_OPERANDS` set all engines get everything.

mod combine;
mod emit;
mod frames;
mod table;
mod words;
