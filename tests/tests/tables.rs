//! EVMs that are not plain mainnet: replaced instructions and gas, tables built in another crate,
//! custom handlers, inspectors. Run it in release too, where addresses of equal functions differ.

use kiln_ir::OpcodeSet;
use kiln_runtime::{Backend, Config, Declared, Engine, Tiered};
use kiln_tests::asm::assemble;
use kiln_tests::case::{Contract, TARGET};
use kiln_tests::compare::differences;
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Outcome, context, transact, tx};
use kiln_tests::generate::{contract_address, seeded};
use kiln_tests::handler::CaseContext;
use kiln_tests::{Case, engine};
use kiln_tests_middle as middle;
use revm::bytecode::opcode as op;
use revm::context::{ContextTr, FrameStack};
use revm::handler::evm::{ContextDbError, FrameInitResult};
use revm::handler::instructions::EthInstructions;
use revm::handler::{EthFrame, EvmTr, FrameInitOrResult, FrameResult, MainnetEvm};
use revm::inspector::{InspectEvm, Inspector};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::interpreter_types::Jumps;
use revm::interpreter::{CallInputs, CallOutcome, Interpreter};
use revm::primitives::{Address, Log, U256, hardfork::SpecId};
use revm::{ExecuteCommitEvm, ExecuteEvm, InspectCommitEvm, MainBuilder, SystemCallEvm};

type Evm = MainnetEvm<CaseContext>;

fn engines() -> Vec<Engine> {
    let mut engines = vec![
        Engine::new(Config { backend: Backend::Evaluator, ..Config::eager() })
            .expect("the evaluator is everywhere"),
    ];
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        engines.push(Engine::new(Config::eager()).expect("the engine starts"));
    }
    engines
}

/// All four replaced opcodes among others, in a loop, with a call.
fn case() -> Case {
    let text = "
        PUSH 5 loop: JUMPDEST
        PUSH 6 PUSH 7 MUL NUMBER ADD CHAINID XOR 0x0c ADD
        PUSH 0 MLOAD ADD PUSH 0 MSTORE
        PUSH 32 PUSH 32 PUSH 0 PUSH 0 PUSH 0 PUSH 0xc0de1 PUSH 5000 CALL POP
        PUSH 3 PUSH 0 CALLDATALOAD MUL PUSH 64 MSTORE
        PUSH 1 SWAP1 SUB DUP1 PUSH @loop JUMPI
        PUSH 96 PUSH 0 RETURN";
    let mut case = Case::of_code(SpecId::CANCUN, assemble(text).expect("assembles"));
    case.calldata = U256::from(11).to_be_bytes::<32>().to_vec();
    case.repeat = 2;
    let callee = assemble("PUSH 2 PUSH 3 MUL PUSH 0 MSTORE PUSH 32 PUSH 0 RETURN");
    let callee = Contract { code: callee.expect("assembles"), ..Contract::default() };
    case.contracts.insert(contract_address(1), callee);
    case
}

fn assert_same(expected: &Outcome, actual: &Outcome, what: &str) {
    let details = differences(expected, actual);
    assert!(details.is_empty(), "{what}: {}", details.join("\n"));
}

fn replaced_set() -> OpcodeSet {
    middle::REPLACED.into_iter().collect()
}

/// Runs a case on an EVM from `make`, plain and as `wrap` wraps it; answers the engine's entries
/// into compiled code.
fn compare(
    case: &Case,
    engine: &Engine,
    make: fn(CaseContext) -> Evm,
    wrap: fn(Evm, Engine) -> Tiered<Evm>,
) -> u64 {
    let db = CaseDb::new(case);
    let before = engine.stats().native_entries;
    let expected = transact(case, make(context(case, &db)));
    let actual = transact(case, wrap(make(context(case, &db)), engine.clone()));
    assert_same(&expected, &actual, "the wrapped EVM");
    engine.stats().native_entries - before
}

#[test]
fn undeclared_tables_are_interpreted() {
    for engine in engines() {
        assert_eq!(compare(&case(), &engine, middle::replaced, Tiered::new), 0);
        assert_eq!(compare(&case(), &engine, middle::mainnet, Tiered::new), 0);
    }
}

#[test]
fn declared_replaced() {
    for engine in engines() {
        let declared =
            |evm, engine| Tiered::new(evm, engine).declare(Declared::Replaced(replaced_set()));
        assert!(compare(&case(), &engine, middle::replaced, declared) > 0);
    }
}

#[test]
fn declared_mainnet() {
    for engine in engines() {
        let declared = |evm, engine| Tiered::new(evm, engine).declare(Declared::Mainnet);
        assert!(compare(&case(), &engine, middle::mainnet, declared) > 0);
        for seed in 0..100 {
            compare(&seeded(seed), &engine, middle::mainnet, declared);
        }
    }
}

#[test]
fn generated_with_replaced_opcodes() {
    for engine in engines() {
        let declared =
            |evm, engine| Tiered::new(evm, engine).declare(Declared::Replaced(replaced_set()));
        for seed in 0..300 {
            compare(&seeded(seed), &engine, middle::replaced, declared);
        }
    }
}

/// One engine, several kinds of EVM in turn: what is baked into programs is part of their key.
#[test]
fn one_engine_for_several_tables() {
    for engine in engines() {
        let replaced =
            |evm, engine| Tiered::new(evm, engine).declare(Declared::Replaced(replaced_set()));
        let mainnet = |evm, engine| Tiered::new(evm, engine).declare(Declared::Mainnet);
        for _ in 0..2 {
            compare(&case(), &engine, middle::mainnet, mainnet);
            compare(&case(), &engine, middle::replaced, replaced);
            compare(&case(), &engine, CaseContext::build_mainnet, Tiered::mainnet);
            compare(&case(), &engine, middle::mainnet, Tiered::mainnet);
        }
    }
}

fn with_dear_add(context: CaseContext) -> Evm {
    let mut evm = context.build_mainnet();
    evm.instruction.insert_gas(op::ADD, 1000);
    evm.instruction.insert_gas(op::JUMPDEST, 0);
    evm
}

#[test]
fn changed_static_gas() {
    for engine in engines() {
        let declared = |evm, engine| Tiered::new(evm, engine).declare(Declared::Mainnet);
        for gas in (21_000..60_000).step_by(500) {
            let case = Case { gas, ..case() };
            compare(&case, &engine, with_dear_add, declared);
            compare(&case, &engine, CaseContext::build_mainnet, declared);
        }
    }
}

/// The static gas of one fork with the rules of another: both count.
#[test]
fn gas_table_of_another_fork() {
    fn older(context: CaseContext) -> Evm {
        let mut evm = context.build_mainnet();
        let table = revm::interpreter::instructions::gas_table_spec(SpecId::ISTANBUL);
        *evm.instruction.gas_table_mut() = table;
        evm
    }
    for engine in engines() {
        let declared = |evm, engine| Tiered::new(evm, engine).declare(Declared::Mainnet);
        for seed in 0..100 {
            compare(&seeded(seed), &engine, older, declared);
        }
    }
}

/// Instructions and gas replaced in the wrapped EVM between transactions are noticed.
#[test]
fn replaced_between_transactions() {
    for engine in engines() {
        let case = Case { repeat: 1, ..case() };
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet();
        let mut tiered = Tiered::mainnet(context(&case, &db).build_mainnet(), engine.clone());
        for step in 0..6 {
            match step {
                2 => {
                    for (opcode, instruction) in middle::replacements() {
                        plain.instruction.insert_instruction(opcode, instruction, middle::GAS);
                        let instructions = &mut tiered.inner_mut().instruction;
                        instructions.insert_instruction(opcode, instruction, middle::GAS);
                    }
                }
                4 => {
                    plain.instruction.insert_gas(op::XOR, 500);
                    tiered.inner_mut().instruction.insert_gas(op::XOR, 500);
                }
                _ => {}
            }
            let expected = plain.transact_commit(tx(&case, step)).expect("runs");
            let actual = tiered.transact_commit(tx(&case, step)).expect("runs");
            assert_eq!(expected, actual, "step {step}");
        }
        assert!(engine.stats().native_entries > 0);
    }
}

type Instructions = EthInstructions<EthInterpreter, CaseContext>;

/// The same, however a user gets at the tables.
#[test]
fn replaced_through_every_way_to_the_tables() {
    let ways: [fn(&mut Tiered<Evm>) -> &mut Instructions; 3] = [
        |evm| &mut evm.inner_mut().instruction,
        |evm| evm.ctx_instructions().1,
        |evm| evm.all_mut().1,
    ];
    for (engine, way) in
        engines().into_iter().flat_map(|engine| ways.map(|way| (engine.clone(), way)))
    {
        let case = Case { repeat: 1, ..case() };
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet();
        let mut tiered = Tiered::mainnet(context(&case, &db).build_mainnet(), engine);
        for step in 0..6 {
            for instructions in [&mut plain.instruction, way(&mut tiered)] {
                match step {
                    1 => instructions.insert_gas(op::XOR, 500),
                    3 => {
                        for (opcode, instruction) in middle::replacements() {
                            instructions.insert_instruction(opcode, instruction, middle::GAS);
                        }
                    }
                    4 => *instructions = Instructions::new_mainnet_with_spec(case.spec),
                    _ => {}
                }
            }
            let expected = plain.transact_commit(tx(&case, step)).expect("runs");
            let actual = tiered.transact_commit(tx(&case, step)).expect("runs");
            assert_eq!(expected, actual, "step {step}");
        }
    }
}

/// An EVM that makes XOR dearer itself with every transaction.
struct Restless {
    evm: Evm,
    transactions: u16,
}

impl EvmTr for Restless {
    type Context = CaseContext;
    type Instructions = Instructions;
    type Precompiles = <Evm as EvmTr>::Precompiles;
    type Frame = EthFrame<EthInterpreter>;

    fn all(&self) -> (&CaseContext, &Instructions, &Self::Precompiles, &FrameStack<Self::Frame>) {
        self.evm.all()
    }

    fn all_mut(
        &mut self,
    ) -> (&mut CaseContext, &mut Instructions, &mut Self::Precompiles, &mut FrameStack<Self::Frame>)
    {
        self.evm.all_mut()
    }

    fn frame_init(
        &mut self,
        init: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<CaseContext>> {
        if self.evm.frame_stack.index().is_none() {
            self.transactions += 1;
            self.evm.instruction.insert_gas(op::XOR, 100 * self.transactions);
        }
        self.evm.frame_init(init)
    }

    fn frame_run(&mut self) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<CaseContext>> {
        self.evm.frame_run()
    }

    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<CaseContext>> {
        self.evm.frame_return_result(result)
    }
}

/// Nobody but revm's own EVM is trusted to leave its tables alone.
#[test]
fn an_evm_that_replaces_its_own() {
    for engine in engines() {
        let case = Case { repeat: 1, ..case() };
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet();
        let evm = Restless { evm: context(&case, &db).build_mainnet(), transactions: 0 };
        let mut tiered = Tiered::mainnet(evm, engine.clone());
        for nonce in 0..4 {
            plain.instruction.insert_gas(op::XOR, 100 * (nonce as u16 + 1));
            let expected = plain.transact_commit(tx(&case, nonce)).expect("runs");
            let actual = tiered.transact_commit(tx(&case, nonce)).expect("runs");
            assert_eq!(expected, actual, "transaction {nonce}");
        }
        assert!(engine.stats().native_entries > 0);
    }
}

/// The fork changes between transactions; the user has the tables follow, or not.
#[test]
fn fork_between_transactions() {
    for engine in engines() {
        let case = Case { repeat: 1, ..case() };
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet();
        let mut tiered = Tiered::mainnet(context(&case, &db).build_mainnet(), engine.clone());
        for (nonce, spec) in [SpecId::CANCUN, SpecId::OSAKA, SpecId::CANCUN].into_iter().enumerate()
        {
            plain.ctx.cfg.set_spec_and_mainnet_gas_params(spec);
            tiered.inner_mut().ctx.cfg.set_spec_and_mainnet_gas_params(spec);
            let expected = plain.transact_commit(tx(&case, nonce as u64)).expect("runs");
            let actual = tiered.transact_commit(tx(&case, nonce as u64)).expect("runs");
            assert_eq!(expected, actual, "{spec:?}");
        }
    }
}

/// Everything an inspector can see, as text.
#[derive(Default)]
struct Record(Vec<String>);

impl<CTX: ContextTr> Inspector<CTX, EthInterpreter> for Record {
    fn step(&mut self, interpreter: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        let (pc, gas) = (interpreter.bytecode.pc(), interpreter.gas.remaining());
        self.0.push(format!("step {pc} {gas} {:x?}", interpreter.stack.data().last()));
    }

    fn step_end(&mut self, interpreter: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        self.0.push(format!("end {} {}", interpreter.stack.len(), interpreter.gas.remaining()));
    }

    fn log(&mut self, _: &mut CTX, log: Log) {
        self.0.push(format!("{log:?}"));
    }

    fn call(&mut self, _: &mut CTX, inputs: &mut CallInputs) -> Option<CallOutcome> {
        self.0.push(format!("call {:?} {}", inputs.target_address, inputs.gas_limit));
        None
    }

    fn call_end(&mut self, _: &mut CTX, _: &CallInputs, outcome: &mut CallOutcome) {
        self.0.push(format!("call end {:?} {}", outcome.result.result, outcome.gas().remaining()));
    }

    fn selfdestruct(&mut self, contract: Address, target: Address, value: U256) {
        self.0.push(format!("selfdestruct {contract} {target} {value}"));
    }
}

#[test]
fn an_inspector_sees_every_step() {
    for engine in engines() {
        for seed in 0..200 {
            let case = Case { gas: 200_000, ..seeded(seed) };
            let db = CaseDb::new(&case);
            let mut plain = context(&case, &db).build_mainnet_with_inspector(Record::default());
            let evm = context(&case, &db).build_mainnet_with_inspector(Record::default());
            let mut tiered = Tiered::mainnet(evm, engine.clone());
            let expected = plain.inspect_tx(tx(&case, 0)).map_err(|error| error.to_string());
            let actual = tiered.inspect_tx(tx(&case, 0)).map_err(|error| error.to_string());
            assert_eq!(expected, actual, "seed {seed}");
            assert!(!plain.inspector.0.is_empty() || expected.is_err());
            assert_eq!(plain.inspector.0, tiered.inner().inspector.0, "seed {seed}");
        }
        assert_eq!(engine.stats().native_entries, 0, "with an inspector the interpreter runs");
    }
}

/// Inspected and not inspected transactions in turn on one EVM.
#[test]
fn inspected_in_between() {
    for engine in engines() {
        let case = Case { repeat: 1, ..case() };
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet_with_inspector(Record::default());
        let evm = context(&case, &db).build_mainnet_with_inspector(Record::default());
        let mut tiered = Tiered::mainnet(evm, engine.clone());
        for nonce in 0..4 {
            let (expected, actual) = if nonce % 2 == 0 {
                (plain.transact_commit(tx(&case, nonce)), tiered.transact_commit(tx(&case, nonce)))
            } else {
                (
                    plain.inspect_tx_commit(tx(&case, nonce)),
                    tiered.inspect_tx_commit(tx(&case, nonce)),
                )
            };
            assert_eq!(expected.expect("runs"), actual.expect("runs"), "{nonce}");
        }
        assert_eq!(plain.inspector.0, tiered.inner().inspector.0);
    }
}

#[test]
fn system_calls() {
    for engine in engines() {
        let case = case();
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet();
        let mut tiered = Tiered::mainnet(context(&case, &db).build_mainnet(), engine.clone());
        let data = vec![7; 40];
        let expected = plain.system_call(TARGET, data.clone().into()).expect("runs");
        let actual = tiered.system_call(TARGET, data.into()).expect("runs");
        assert_eq!(expected, actual);
        assert!(engine.stats().native_entries > 0);
    }
}

/// `Tiered` inside of `Tiered`'s traits: the outer one through `&mut`.
#[test]
fn by_mutable_reference() {
    for engine in engines() {
        let case = case();
        let db = CaseDb::new(&case);
        let expected = engine::oracle(&case, &db);
        let mut tiered = Tiered::mainnet(context(&case, &db).build_mainnet(), engine);
        assert_eq!(tiered.ctx_ref().cfg.spec, case.spec);
        assert_same(&expected, &transact(&case, &mut tiered), "by reference");
    }
}

/// Transactions without a commit in between leave the journal's state to be finalized later.
#[test]
fn many_without_commit() {
    for engine in engines() {
        let case = case();
        let db = CaseDb::new(&case);
        let mut plain = context(&case, &db).build_mainnet();
        let mut tiered = Tiered::mainnet(context(&case, &db).build_mainnet(), engine);
        let txs = || (0..3).map(|nonce| tx(&case, nonce));
        let expected = plain.transact_many_finalize(txs()).expect("run");
        assert_eq!(expected, tiered.transact_many_finalize(txs()).expect("run"));
    }
}

/// The harness itself: an engine that is told a lie gives other results, and that is seen. So the
/// results compared elsewhere do come from compiled code.
#[test]
fn a_wrong_engine_is_seen() {
    for engine in engines() {
        let case = case();
        let db = CaseDb::new(&case);
        let expected = transact(&case, middle::replaced(context(&case, &db)));
        let evm = middle::replaced(context(&case, &db));
        let lied_to = Tiered::new(evm, engine).declare(Declared::Mainnet);
        assert!(!differences(&expected, &transact(&case, lied_to)).is_empty());
    }
}
