//! Hand-written machine code: the trampoline, and the thunks through which helpers are called. The way out is
//! that of every code object ([`kiln_abi::envelope::leave`]).
//!
//! **Owns** the registers' meaning at calls: Cranelift's calling conventions have none in which the
//! callee keeps just two registers, so these few bytes are written by hand. **Callers guarantee** the
//! register contents that each function names. **Never** touches a register that C preserves, but
//! for rbp.
//!
//! Inside compiled code rdi is the stack pointer, rsi the context, rbp the frame of the trampoline;
//! the native stack pointer is aligned to 16. Arguments of thunks are in rdx, rcx, r8, r9.

use crate::stencil::Thunk;
use kiln_abi::{Helper, HelperShape, context_offset, envelope::CLEAR_UPPER};

/// `extern "C" fn(cx: rdi, sp: rsi, block: rdx) -> Leave`, which is [`kiln_abi::EnterFn`].
pub(crate) const TRAMPOLINE: [u8; 9] = [
    0x55, // push rbp
    0x48, 0x89, 0xe5, // mov rbp, rsp
    0x48, 0x87, 0xf7, // xchg rdi, rsi
    0xff, 0xe2, // jmp rdx
];

const NOT_EQUAL: u8 = 0x85;

fn jump_if(code: &mut Vec<u8>, condition: u8, to: usize) {
    code.extend([0x0f, condition]);
    let behind = code.len() as i64 + 4;
    code.extend(((to as i64 - behind) as i32).to_le_bytes());
}

const PUSH_SP: &[u8] = &[0x57];
const PUSH_CX: &[u8] = &[0x56];
const PUSH_RAX: &[u8] = &[0x50];
const PUSH_RCX: &[u8] = &[0x51];
const PUSH_R9: &[u8] = &[0x41, 0x51];
const POP_RAX: &[u8] = &[0x58];
const POP_RCX: &[u8] = &[0x59];
const POP_CX: &[u8] = &[0x5e];
const POP_SP: &[u8] = &[0x5f];
const RET: &[u8] = &[0xc3];
const MOV_RDI_RDX: &[u8] = &[0x48, 0x89, 0xd7];
const MOV_RSI_RCX: &[u8] = &[0x48, 0x89, 0xce];
/// `lea rsi, [rip + records]`
const LEA_RSI_RECORDS: &[u8] = &[0x48, 0x8d, 0x35, 0, 0, 0, 0];
/// `lea rsi, [rsi + 4 * rcx]`
const LEA_RSI_RCX: &[u8] = &[0x48, 0x8d, 0x34, 0x8e];
/// `lea rsi, [rsi + 4 * r9]`
const LEA_RSI_R9: &[u8] = &[0x4a, 0x8d, 0x34, 0x8e];
const MOV_RDX_R8: &[u8] = &[0x4c, 0x89, 0xc2];
const MOV_RCX_R9: &[u8] = &[0x4c, 0x89, 0xc9];
const MOV_RDI_RSI: &[u8] = &[0x48, 0x89, 0xf7];
const MOV_RDX_RDI: &[u8] = &[0x48, 0x89, 0xfa];
const MOV_RCX_RDX: &[u8] = &[0x48, 0x89, 0xd1];
const ZERO_RDX: &[u8] = &[0x31, 0xd2];
const ZERO_RCX: &[u8] = &[0x31, 0xc9];
const ZERO_R8: &[u8] = &[0x45, 0x31, 0xc0];
const ZERO_R9: &[u8] = &[0x45, 0x31, 0xc9];
const TEST_EAX: &[u8] = &[0x85, 0xc0];

/// Appends the thunk with the given number at the end of `code`; `leave` is the offset of
/// the way out's code in it, `wide` as there. Answers where the distance to the records is to be filled in, if it knows of them.
pub(crate) fn emit(code: &mut Vec<u8>, number: u8, leave: usize, wide: bool) -> Option<usize> {
    if wide {
        code.extend(CLEAR_UPPER);
    }
    match Helper::ALL.get(number as usize) {
        Some(&helper) => match helper.shape() {
            HelperShape::Pure1 | HelperShape::Pure2 | HelperShape::Pure3 => {
                pure(code, helper);
                None
            }
            HelperShape::Guarded3 => Some(guarded(code, helper, leave)),
            HelperShape::Instruction => {
                begin(code, &[PUSH_R9, MOV_RDX_RDI]);
                let records = begin_record(code);
                call(code, helper, &[LEA_RSI_R9]);
                end(code, leave);
                Some(records)
            }
            // Reached through the variants below only.
            HelperShape::Expand => Some(expand(code, leave, 32, false)),
        },
        None => {
            let size = match number {
                n if n == Thunk::ExpandSlot1 as u8 || n == Thunk::ExpandConst1 as u8 => 1,
                _ => 32,
            };
            let constant = number >= Thunk::ExpandConst32 as u8;
            Some(expand(code, leave, size, constant))
        }
    }
}

fn push(code: &mut Vec<u8>, parts: &[&[u8]]) {
    parts.iter().for_each(|part| code.extend_from_slice(part));
}

/// Keeps stack pointer, context and one more register, which aligns the native stack.
fn begin(code: &mut Vec<u8>, parts: &[&[u8]]) {
    push(code, &[PUSH_SP, PUSH_CX]);
    push(code, parts);
}

/// Loads the address of the helpers while rsi is still the context.
fn load_helpers(code: &mut Vec<u8>) {
    // mov rax, [rsi + helpers]
    code.extend([0x48, 0x8b, 0x46, context_offset!(helpers) as u8]);
}

/// The same, makes the context the first argument, and begins the second, a record's address. Answers
/// where the distance to the records is to be filled in.
fn begin_record(code: &mut Vec<u8>) -> usize {
    load_helpers(code);
    push(code, &[MOV_RDI_RSI, LEA_RSI_RECORDS]);
    code.len() - 4
}

/// Moves the arguments, and calls.
fn call(code: &mut Vec<u8>, helper: Helper, moves: &[&[u8]]) {
    push(code, moves);
    // call [rax + helper]
    code.extend([0xff, 0x90]);
    code.extend(helper.offset().to_le_bytes());
}

/// Goes on, or leaves through the exit kept by [`begin`].
fn end(code: &mut Vec<u8>, leave: usize) {
    push(code, &[TEST_EAX, POP_RAX, POP_CX, POP_SP]);
    // `leave` restores the native stack pointer, return address and all.
    jump_if(code, NOT_EQUAL, leave);
    push(code, &[RET]);
}

/// rdx: destination, rcx, r8, r9: operands.
fn pure(code: &mut Vec<u8>, helper: Helper) {
    begin(code, &[PUSH_RAX]);
    load_helpers(code);
    let moves: &[&[u8]] = match helper.shape() {
        HelperShape::Pure1 => &[MOV_RDI_RDX, MOV_RSI_RCX],
        HelperShape::Pure2 => &[MOV_RDI_RDX, MOV_RSI_RCX, MOV_RDX_R8],
        _ => &[MOV_RDI_RDX, MOV_RSI_RCX, MOV_RDX_R8, MOV_RCX_R9],
    };
    call(code, helper, moves);
    push(code, &[POP_RCX, POP_CX, POP_SP, RET]);
}

/// rdx, rcx, r8: pointers, r9: exit.
fn guarded(code: &mut Vec<u8>, helper: Helper, leave: usize) -> usize {
    if helper == Helper::Calldataload {
        // It never refuses, and its callers name no exit.
        push(code, &[ZERO_R9]);
    }
    begin(code, &[PUSH_R9]);
    let [p0, _, p2] = helper.pointers();
    if !p0 {
        push(code, &[ZERO_RDX]);
    }
    if !p2 {
        push(code, &[ZERO_R8]);
    }
    let records = begin_record(code);
    call(code, helper, &[LEA_RSI_R9]);
    end(code, leave);
    records
}

/// rdx: pointer to the offset, or the offset; rcx: exit.
fn expand(code: &mut Vec<u8>, leave: usize, size: u8, constant: bool) -> usize {
    begin(code, &[PUSH_RCX]);
    let records = begin_record(code);
    let offset: &[&[u8]] = if constant { &[MOV_RCX_RDX, ZERO_RDX] } else { &[ZERO_RCX] };
    // The exit moves from rcx before rcx is taken.
    let size = [0x41, 0xb8, size, 0, 0, 0];
    let moves: Vec<&[u8]> =
        [LEA_RSI_RCX, &size].into_iter().chain(offset.iter().copied()).collect();
    call(code, Helper::Expand, &moves);
    end(code, leave);
    records
}
