//! What an inspector is told: calls, creates, logs and self-destructions, in their order.
//!
//! Owns the record, and its comparison between plain revm and kiln. With an inspector kiln interprets, so that
//! every step is seen; what is compared here is that nothing is missing, doubled or changed on the way. What
//! compiled code does between frames is compared on every engine: see [`crate::handler`]. Never changes what
//! is executed, except that it can make the first frame static.

use crate::case::Case;
use crate::db::CaseDb;
use crate::environment::{context, tx};
use crate::handler::CaseContext;
use kiln_runtime::{Engine, Tiered};
use revm::handler::FrameResult;
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::{
    CallInputs, CallOutcome, CreateInputs, CreateOutcome, FrameInput, Interpreter,
};
use revm::primitives::{Address, Log, U256};
use revm::{InspectEvm, Inspector, MainBuilder};

/// One hook that was called.
#[derive(Clone, Debug, PartialEq)]
enum Hook {
    Initialize,
    Call(Box<CallInputs>),
    CallEnd(Box<CallOutcome>),
    Create(Box<CreateInputs>),
    CreateEnd(Box<CreateOutcome>),
    Log(Log),
    SelfDestruct(Address, Address, U256),
}

/// The hooks, and how many steps there were.
#[derive(Clone, Debug, Default, PartialEq)]
struct Record {
    hooks: Vec<Hook>,
    steps: u64,
    is_static: bool,
    depth: usize,
}

impl Inspector<CaseContext, EthInterpreter> for Record {
    fn initialize_interp(&mut self, _: &mut Interpreter, _: &mut CaseContext) {
        self.hooks.push(Hook::Initialize);
    }

    fn step(&mut self, _: &mut Interpreter, _: &mut CaseContext) {
        self.steps += 1;
    }

    fn frame_start(&mut self, _: &mut CaseContext, input: &mut FrameInput) -> Option<FrameResult> {
        if let (FrameInput::Call(inputs), 0) = (input, self.depth) {
            inputs.is_static |= self.is_static;
        }
        self.depth += 1;
        None
    }

    fn frame_end(&mut self, _: &mut CaseContext, _: &FrameInput, _: &mut FrameResult) {
        self.depth -= 1;
    }

    fn log(&mut self, _: &mut CaseContext, log: Log) {
        self.hooks.push(Hook::Log(log));
    }

    fn call(&mut self, _: &mut CaseContext, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.hooks.push(Hook::Call(Box::new(inputs.clone())));
        None
    }

    fn call_end(&mut self, _: &mut CaseContext, _: &CallInputs, outcome: &mut CallOutcome) {
        self.hooks.push(Hook::CallEnd(Box::new(outcome.clone())));
    }

    fn create(&mut self, _: &mut CaseContext, inputs: &mut CreateInputs) -> Option<CreateOutcome> {
        self.hooks.push(Hook::Create(Box::new(inputs.clone())));
        None
    }

    fn create_end(&mut self, _: &mut CaseContext, _: &CreateInputs, outcome: &mut CreateOutcome) {
        self.hooks.push(Hook::CreateEnd(Box::new(outcome.clone())));
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.hooks.push(Hook::SelfDestruct(contract, target, value));
    }
}

/// In what the hooks of an inspector differ between plain revm and kiln with this engine, in the first
/// transaction of a case; empty if they do not.
pub fn differences(case: &Case, db: &CaseDb, engine: &Engine) -> Vec<String> {
    let (mut expected, mut actual) = (record(case), record(case));
    let mut plain = context(case, db).build_mainnet_with_inspector(&mut expected);
    let plain_result = plain.inspect_one_tx(tx(case, 0));
    drop(plain);
    let wrapped = context(case, db).build_mainnet_with_inspector(&mut actual);
    let mut tiered = Tiered::mainnet(wrapped, engine.clone());
    let tiered_result = tiered.inspect_one_tx(tx(case, 0));
    drop(tiered);
    let mut details = Vec::new();
    if plain_result != tiered_result {
        details.push(format!("inspected: expected {plain_result:x?}, got {tiered_result:x?}"));
    }
    if expected.steps != actual.steps {
        details.push(format!("inspected: expected {} steps, got {}", expected.steps, actual.steps));
    }
    if expected.hooks != actual.hooks {
        let pairs = expected.hooks.iter().zip(&actual.hooks);
        let at = pairs.take_while(|(a, b)| a == b).count();
        let (a, b) = (expected.hooks.get(at), actual.hooks.get(at));
        details.push(format!("hook {at}: expected {a:x?}, got {b:x?}"));
    }
    details
}

fn record(case: &Case) -> Record {
    Record { is_static: case.is_static, ..Record::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::assemble;
    use kiln_runtime::Config;
    use revm::primitives::hardfork::SpecId;

    /// A call of itself once, a create, a log, a self-destruction; frames in their order.
    #[test]
    fn every_hook_is_recorded() {
        let code = "CALLDATASIZE PUSH @inner JUMPI \
            PUSH 0 PUSH 0 PUSH 1 PUSH 0 PUSH 0 ADDRESS GAS CALL POP \
            PUSH 0 PUSH 0 PUSH 0 CREATE POP PUSH 0 PUSH 0 LOG0 PUSH 9 SELFDESTRUCT \
            inner: JUMPDEST STOP";
        let case = Case::of_code(SpecId::CANCUN, assemble(code).unwrap());
        let db = CaseDb::new(&case);
        let mut record = record(&case);
        let mut evm = context(&case, &db).build_mainnet_with_inspector(&mut record);
        evm.inspect_one_tx(tx(&case, 0)).unwrap();
        let names: Vec<String> = record
            .hooks
            .iter()
            .map(|hook| format!("{hook:?}").split(['(', ' ']).next().unwrap_or_default().to_owned())
            .collect();
        let expected = [
            "Call",
            "Initialize",
            "Call",
            "Initialize",
            "CallEnd",
            "Create",
            "Initialize",
            "CreateEnd",
            "Log",
            "SelfDestruct",
            "CallEnd",
        ];
        assert_eq!(names, expected);
        let engine = Engine::new(Config::eager()).unwrap();
        assert_eq!(differences(&case, &db, &engine), Vec::<String>::new());
    }
}
