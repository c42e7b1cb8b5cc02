//! EVMs whose instruction tables are built in another crate than the one that wraps them.
//!
//! Owns the replaced instructions of the tests. In a release build every instruction has another
//! address here than in the crate that uses it, which is why addresses say nothing. Knows nothing
//! of kiln.

use revm::MainBuilder;
use revm::bytecode::opcode as op;
use revm::context::{BlockEnv, CfgEnv, Context, TxEnv};
use revm::database_interface::Database;
use revm::handler::MainnetEvm;
use revm::handler::instructions::EthInstructions;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_types::StackTr;
use revm::interpreter::{
    Host, Instruction, InstructionContext, InstructionExecResult, InstructionResult,
};
use revm::primitives::U256;
use revm::{Journal, JournalEntry};

/// The context of the EVMs of this crate.
pub type Ctx<DB> = Context<BlockEnv, TxEnv, CfgEnv, DB, Journal<DB, JournalEntry>, ()>;

/// Gas of each replaced instruction.
pub const GAS: u16 = 11;

/// An EVM with revm's own instructions, from a table built here.
pub fn mainnet<DB: Database>(context: Ctx<DB>) -> MainnetEvm<Ctx<DB>> {
    let spec = context.cfg.spec;
    let mut evm = context.build_mainnet();
    evm.instruction = EthInstructions::new_mainnet_with_spec(spec);
    evm
}

/// An EVM in which MUL adds 1 to the product, NUMBER pushes 42, CHAINID takes a word and pushes two,
/// and 0x0c, undefined otherwise, pushes 0xc0c.
pub fn replaced<DB: Database>(context: Ctx<DB>) -> MainnetEvm<Ctx<DB>> {
    let mut evm = mainnet(context);
    for (opcode, instruction) in replacements() {
        evm.instruction.insert_instruction(opcode, instruction, GAS);
    }
    evm
}

/// The opcodes that [`replaced`] replaces.
pub const REPLACED: [u8; 4] = [op::MUL, op::NUMBER, op::CHAINID, 0x0c];

/// The instructions that [`replaced`] puts in.
pub fn replacements<H: Host>() -> [(u8, Instruction<EthInterpreter, H>); 4] {
    [
        (REPLACED[0], Instruction::new(multiply)),
        (REPLACED[1], Instruction::new(number)),
        (REPLACED[2], Instruction::new(one_to_two)),
        (REPLACED[3], Instruction::new(custom)),
    ]
}

type Ictx<'a, H> = InstructionContext<'a, H, EthInterpreter>;

fn multiply<H: ?Sized>(context: Ictx<'_, H>) -> InstructionExecResult {
    let stack = &mut context.interpreter.stack;
    let [a, b] = stack.popn().ok_or(InstructionResult::StackUnderflow)?;
    push(stack, a.wrapping_mul(b).wrapping_add(U256::from(1)))
}

fn number<H: ?Sized>(context: Ictx<'_, H>) -> InstructionExecResult {
    push(&mut context.interpreter.stack, U256::from(42))
}

fn one_to_two<H: ?Sized>(context: Ictx<'_, H>) -> InstructionExecResult {
    let stack = &mut context.interpreter.stack;
    let [a] = stack.popn().ok_or(InstructionResult::StackUnderflow)?;
    push(stack, a)?;
    push(stack, a)
}

fn custom<H: ?Sized>(context: Ictx<'_, H>) -> InstructionExecResult {
    push(&mut context.interpreter.stack, U256::from(0xc0c))
}

fn push(stack: &mut impl StackTr, value: U256) -> InstructionExecResult {
    if stack.push(value) { Ok(()) } else { Err(InstructionResult::StackOverflow) }
}
