//! Frame runs in the interpreter and in compiled code, compared.
//!
//! **Owns** the two runs and what is compared. The interpreter runs the frame itself, over the host: the result is
//! its. Compiled code runs a copy that gets the recorded answers. So nothing has to be undone, and a checked frame
//! leaves what an unchecked one would, on every fork.
//!
//! **Callers guarantee** that the instruction table is revm's own throughout, and what [`crate::frame::run`] asks for.
//!
//! **Never** compares what nobody can see any more: of a frame that ended, stack and memory.

use super::{
    Check,
    replay::{Answer, Call, Recorder, Replay},
    report::Seen,
};
use crate::{frame::Held, helpers::Interp, hooks::Tier};
use revm::{
    interpreter::{
        GasTable, Host, InstructionTable, InterpreterAction, instruction_table,
        interpreter::{EthInterpreter, ExtBytecode},
        interpreter_types::{Jumps, LoopControl},
    },
    primitives::hex,
};
use std::{
    any::Any,
    marker::PhantomData,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// revm's instructions for any host.
pub(crate) struct Own<H>(PhantomData<fn(&mut H)>);

impl<H: Host> Own<H> {
    const TABLE: InstructionTable<EthInterpreter, H> = instruction_table();

    pub(crate) fn table<'a>() -> &'a InstructionTable<EthInterpreter, H>
    where
        H: 'a,
    {
        &Self::TABLE
    }
}

/// Runs a frame as frames are run, over recorded answers.
pub(crate) type Compiled<'a> = dyn FnMut(&mut Interp, &mut Replay<'_>, &mut Held<'_>) + 'a;

/// Whether a frame run is to be checked: one that begins and has a program, or gets one.
pub(crate) fn is_due(interpreter: &Interp, held: &Held<'_>, every: NonZeroU32) -> bool {
    let slot = held.slot;
    interpreter.bytecode.pc() == 0
        && interpreter.stack.is_empty()
        && interpreter.memory.is_empty()
        && slot.baked.config.replaced.is_empty()
        && slot.ticket.quarantined().is_none()
        && (held.hot_from.is_none() || slot.pin().is_some())
        && held.engine.shadows_next(every)
}

/// Runs a frame from its beginning, twice, and leaves what the interpreter came to.
pub(crate) fn run(
    interpreter: &mut Interp,
    host: &mut dyn Host,
    gas: &GasTable,
    held: &mut Held<'_>,
    compiled: &mut Compiled<'_>,
) {
    let mut copy = copy(interpreter);
    let gas_at_first = interpreter.gas;
    let mut recorder = Recorder { host, calls: Vec::new() };
    let action = interpreter.run_plain(Own::table(), gas, &mut recorder);
    let Recorder { host, calls } = recorder;
    // Both have the same memory, so that calldata in it is where it is, and its limit the same.
    let memory = interpreter.memory.context_memory().to_vec();
    interpreter.memory.resize(0);
    let entries = held.stats.native_entries.get();
    let mut replay = Replay::new(host, &calls);
    let answer = catch_unwind(AssertUnwindSafe(|| compiled(&mut copy, &mut replay, held)));
    let differences = match answer {
        Ok(()) => {
            let expected = Expected { action: &action, frame: interpreter, memory: &memory };
            let mut differences = calls_differ(&replay, &calls);
            differences.extend(expected.differences(&mut copy));
            differences
        }
        Err(payload) => vec![format!("compiled code: {}", said(&*payload))],
    };
    interpreter.memory.resize(0);
    interpreter.memory.resize(memory.len());
    interpreter.memory.set(0, &memory);
    interpreter.bytecode.set_action(action);
    if held.stats.native_entries.get() == entries {
        // It had no program after all.
        return;
    }
    held.stats.shadow_checked.add(1);
    if differences.is_empty() {
        return;
    }
    held.stats.shadow_differences.add(1);
    let tier = held.slot.pin().as_ref().map_or(Tier::Baseline, |program| program.tier());
    let mut seen = seen(interpreter, host, &calls);
    seen.gas = gas_at_first.limit();
    seen.reservoir = gas_at_first.reservoir();
    held.engine.distrust(held.slot, tier, (Check::Shadow, differences), Some(&seen));
}

/// The same frame at its beginning, over the same memory.
fn copy(interpreter: &Interp) -> Interp {
    let bytecode = &interpreter.bytecode;
    Interp {
        bytecode: ExtBytecode::new_with_optional_hash((**bytecode).clone(), bytecode.hash()),
        gas: interpreter.gas,
        stack: interpreter.stack.clone(),
        return_data: interpreter.return_data.clone(),
        memory: interpreter.memory.clone(),
        input: interpreter.input.clone(),
        runtime_flag: interpreter.runtime_flag,
        extend: (),
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("for no stated reason"))
}

fn calls_differ(replay: &Replay<'_>, calls: &[(Call, Answer)]) -> Vec<String> {
    let at = replay.replayed;
    let expected = calls.get(at).map(|(call, _)| format!("{call:x?}"));
    let expected = expected.unwrap_or_else(|| "none".to_owned());
    let got = match &replay.other {
        Some(other) => format!("{other:x?}"),
        None if at < calls.len() => "none".to_owned(),
        None => return Vec::new(),
    };
    vec![format!("call {at} of the host: expected {expected}, got {got}")]
}

/// What the interpreter came to.
struct Expected<'a> {
    action: &'a InterpreterAction,
    frame: &'a Interp,
    memory: &'a [u8],
}

impl Expected<'_> {
    /// In what another run differs, one line each.
    fn differences(&self, other: &mut Interp) -> Vec<String> {
        let mut lines = Vec::new();
        match (self.action, &other.bytecode.action) {
            (_, None) => lines.push("the frame neither ended nor asked for another".to_owned()),
            (InterpreterAction::Return(expected), Some(InterpreterAction::Return(got))) => {
                field(&mut lines, "result", &expected.result, &got.result);
                let hex = |bytes: &[u8]| hex::encode(bytes);
                field(&mut lines, "output", &hex(&expected.output), &hex(&got.output));
                field(&mut lines, "gas", &expected.gas, &got.gas);
            }
            (expected, Some(got)) => {
                field(&mut lines, "action", expected, got);
                self.state(&mut lines, other);
            }
        }
        lines
    }

    /// Of frames that go on.
    fn state(&self, lines: &mut Vec<String>, other: &Interp) {
        let frame = self.frame;
        field(lines, "pc", &frame.bytecode.pc(), &other.bytecode.pc());
        field(lines, "gas", &frame.gas, &other.gas);
        let (expected, got) = (frame.stack.data(), other.stack.data());
        field(lines, "stack height", &expected.len(), &got.len());
        if let Some(at) = expected.iter().zip(got).position(|(a, b)| a != b) {
            field(lines, &format!("stack slot {at}"), &expected[at], &got[at]);
        }
        let got = other.memory.context_memory();
        field(lines, "memory size", &self.memory.len(), &got.len());
        if let Some(at) = self.memory.iter().zip(got.iter()).position(|(a, b)| a != b) {
            let word = at / 32 * 32;
            let hex = |bytes: &[u8]| hex::encode(&bytes[word..bytes.len().min(word + 32)]);
            field(lines, &format!("memory at {word}"), &hex(self.memory), &hex(&got));
        }
        let hex = |frame: &Interp| hex::encode(&frame.return_data.0);
        field(lines, "return data", &hex(frame), &hex(other));
    }
}

fn field<T: PartialEq + std::fmt::Debug>(
    lines: &mut Vec<String>,
    name: &str,
    expected: &T,
    got: &T,
) {
    if expected != got {
        lines.push(format!("{name}: expected {expected:?}, got {got:?}"));
    }
}

/// What a case needs to say so that it comes to the same.
fn seen(interpreter: &Interp, host: &dyn Host, calls: &[(Call, Answer)]) -> Seen {
    let input = &interpreter.input;
    let calldata = match input.input.is_empty() {
        // Its range may lie anywhere.
        true => Vec::new(),
        false => input.input.as_bytes_memory(&interpreter.memory).to_vec(),
    };
    let mut seen = Seen {
        target: input.target_address,
        caller: input.caller_address,
        depth: input.depth,
        value: input.call_value,
        calldata,
        is_static: interpreter.runtime_flag.is_static,
        block: host.block_number(),
        timestamp: host.timestamp(),
        chain: host.chain_id(),
        ..Seen::default()
    };
    for (call, answer) in calls {
        match (call, answer) {
            (Call::Sload { address, key, .. }, Answer::Sload(Ok(load))) => {
                seen.warm += usize::from(!load.is_cold);
                let account = seen.accounts.entry(*address).or_default();
                account.storage.entry(*key).or_insert(load.data);
            }
            (Call::Sstore { address, key, .. }, Answer::Sstore(Ok(load))) => {
                seen.warm += usize::from(!load.is_cold);
                let account = seen.accounts.entry(*address).or_default();
                account.storage.entry(*key).or_insert(load.data.present_value);
            }
            (Call::Account { address, .. }, Answer::Account(Ok(load))) => {
                seen.warm += usize::from(!load.is_cold);
                let account = seen.accounts.entry(*address).or_default();
                let info = account.info.get_or_insert_with(|| load.account.clone().into_owned());
                if info.code.is_none() {
                    info.code.clone_from(&load.account.code);
                }
            }
            (Call::Tload { address, key }, Answer::Tload(value)) if !value.is_zero() => {
                seen.transient.entry((*address, *key)).or_insert(*value);
            }
            _ => {}
        }
    }
    seen
}
