//! kiln's place in revm: tables, databases that lie, panics, inspectors, switches.

mod common;

use common::{
    CALLER, Ctx, MAIN, OTHER, assert_same, call, code, compare, context, fresh_engines, transact,
};
use kiln_runtime::{Backend, Compile, Config, Declared, Engine, Tiered};
use revm::{
    Context, ExecuteCommitEvm, ExecuteEvm, InspectEvm, Inspector, MainBuilder, MainContext,
    SystemCallEvm,
    bytecode::{Bytecode, opcode},
    context::{TxEnv, result::ExecutionResult},
    database_interface::{DBErrorMarker, Database},
    handler::{EvmTr, Handler, MainnetHandler},
    interpreter::{
        Instruction, InstructionContext, InstructionExecResult, InstructionResult, Interpreter,
        interpreter::EthInterpreter, interpreter_types::Jumps,
    },
    primitives::{Address, B256, Bytes, StorageKey, StorageValue, U256, hardfork::SpecId},
    state::AccountInfo,
};
use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
};

/// Counts down from 255, stores the gas left, returns what is in memory.
const BUSY: &str = "60ff 5b 6001 9003 80 6002 57 5a 5f 55 5f 35 5f 52 6020 5f f3";

fn engines() -> Vec<Engine> {
    fresh_engines(&Config::eager())
}

/// NUMBER, but always 42.
fn forty_two(context: InstructionContext<'_, Ctx, EthInterpreter>) -> InstructionExecResult {
    match context.interpreter.stack.push(U256::from(42)) {
        true => Ok(()),
        false => Err(InstructionResult::StackOverflow),
    }
}

/// PUSH0, but jumps to 0x0b first.
fn push_and_jump(context: InstructionContext<'_, Ctx, EthInterpreter>) -> InstructionExecResult {
    context.interpreter.bytecode.absolute_jump(0x0b);
    forty_two(context)
}

#[test]
fn replaced_instructions_run() {
    // return number + 1
    let main = "43 6001 01 5f 52 6020 5f f3";
    for engine in engines() {
        let mut evm = Tiered::mainnet(context(SpecId::CANCUN, main, "").build_mainnet(), engine);
        let output = |evm: &mut Tiered<_>| {
            let (result, _) = transact(evm, call(100_000, &[]));
            U256::from_be_slice(result.output().unwrap())
        };
        let before = output(&mut evm);
        assert_ne!(before, U256::from(43));
        let replace = |evm: &mut Tiered<common::Evm>, with, gas| {
            evm.inner_mut().instruction.insert_instruction(opcode::NUMBER, with, gas);
        };
        let own = evm.inner().instruction.instruction_table()[opcode::NUMBER as usize];
        replace(&mut evm, Instruction::new(forty_two), 2);
        assert_eq!(output(&mut evm), U256::from(43));
        replace(&mut evm, own, 2);
        assert_eq!(output(&mut evm), before);
        assert_eq!(evm.engine().stats().programs, 2, "one for each table");
    }
}

#[test]
fn a_replaced_instruction_may_do_anything() {
    // PUSH0 jumps over the revert.
    let main = "6001 6001 5f 6000 6000 fd 5b 5b 5b 5b 6000 52 6020 6000 f3";
    let build = || {
        let mut evm = context(SpecId::CANCUN, main, "").build_mainnet();
        evm.instruction.insert_instruction(opcode::PUSH0, Instruction::new(push_and_jump), 7);
        evm
    };
    let expected = transact(&mut build(), call(100_000, &[]));
    assert!(expected.0.is_success(), "{expected:?}");
    for engine in engines() {
        let replaced = [opcode::PUSH0].into_iter().collect();
        let mut evm = Tiered::new(build(), engine).declare(Declared::Replaced(replaced));
        assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "declared");
        assert!(evm.engine().stats().native_entries > 0);
    }
}

#[test]
fn static_gas_is_the_tables() {
    for gas in [21_003, 21_020, 21_106, 100_000] {
        let build = || {
            let mut evm = context(SpecId::CANCUN, "6001 6002 01 00", "").build_mainnet();
            evm.instruction.insert_gas(opcode::ADD, 100);
            evm
        };
        let expected = transact(&mut build(), call(gas, &[]));
        for engine in engines() {
            let mut evm = Tiered::new(build(), engine).declare(Declared::Mainnet);
            assert_same(&transact(&mut evm, call(gas, &[])), &expected, "gas of ADD");
        }
    }
}

#[test]
fn an_undeclared_table_is_interpreted() {
    for engine in engines() {
        let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
        let mut evm = Tiered::new(evm, engine);
        let expected =
            transact(&mut context(SpecId::CANCUN, BUSY, "").build_mainnet(), call(100_000, &[]));
        assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "undeclared");
        assert_eq!(evm.engine().stats(), Default::default());
    }
}

#[test]
fn a_change_of_the_fork_is_followed() {
    // PUSH0 is not activated before Shanghai.
    let main = "5f 5f 01 5f 52 6020 5f f3";
    for engine in engines() {
        let plain = context(SpecId::CANCUN, main, "").build_mainnet();
        let mut evm =
            Tiered::mainnet(context(SpecId::CANCUN, main, "").build_mainnet(), engine.clone());
        let mut plain = plain;
        for spec in [SpecId::CANCUN, SpecId::LONDON, SpecId::CANCUN, SpecId::PRAGUE] {
            plain.ctx.cfg.set_spec_and_mainnet_gas_params(spec);
            evm.inner_mut().ctx.cfg.set_spec_and_mainnet_gas_params(spec);
            let expected = transact(&mut plain, call(100_000, &[]));
            assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "fork");
        }
        assert_eq!(engine.stats().programs, 3);
    }
}

/// A database in which every contract has the same code hash, and some reads fail or panic.
#[derive(Debug)]
struct Liar {
    codes: Vec<(Address, Bytecode)>,
    poison: U256,
}

#[derive(Debug, thiserror::Error)]
#[error("the disk is gone")]
struct Gone;

impl DBErrorMarker for Gone {}

impl Database for Liar {
    type Error = Gone;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Gone> {
        if address == CALLER {
            return Ok(Some(AccountInfo { balance: U256::from(1) << 100, ..Default::default() }));
        }
        let code = self.codes.iter().find(|(at, _)| *at == address).map(|(_, code)| code.clone());
        Ok(code.map(|code| AccountInfo {
            code_hash: B256::repeat_byte(7),
            code: Some(code),
            ..Default::default()
        }))
    }

    fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Gone> {
        Err(Gone)
    }

    fn storage(&mut self, _: Address, key: StorageKey) -> Result<StorageValue, Gone> {
        match key {
            key if key == self.poison => panic!("poisoned"),
            key if key == U256::from(0xdead) => Err(Gone),
            key => Ok(key + U256::from(1)),
        }
    }

    fn block_hash(&mut self, _: u64) -> Result<B256, Gone> {
        Err(Gone)
    }
}

type LiarEvm = revm::handler::MainnetEvm<revm::handler::MainnetContext<Liar>>;

fn liar(main: &str, other: &str, poison: u64) -> LiarEvm {
    let codes = vec![(MAIN, code(main)), (OTHER, code(other))];
    let db = Liar { codes, poison: U256::from(poison) };
    Context::mainnet()
        .with_db(db)
        .modify_cfg_chained(|cfg| cfg.set_spec_and_mainnet_gas_params(SpecId::CANCUN))
        .build_mainnet()
}

#[test]
fn codes_with_the_same_hash_are_told_apart() {
    // Same length, same hash: calls the other and adds 1.
    let main = "6020 5f 5f 5f 5f 60bb 5a f1 5f 51 6001 01 5f 52 6020 5f f3";
    let other = "6003 54 5f 52 6020 5f f3 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00";
    let other = &other[..other.len() - 3];
    let tx = || call(200_000, &[]);
    let expected = liar(main, other, 1 << 20).transact(tx()).unwrap();
    assert_eq!(U256::from_be_slice(expected.result.output().unwrap()), U256::from(5));
    for engine in engines() {
        for _ in 0..3 {
            let mut evm = Tiered::mainnet(liar(main, other, 1 << 20), engine.clone());
            for _ in 0..2 {
                let actual = evm.transact(tx()).unwrap();
                assert_eq!(
                    (actual.result, actual.state),
                    (expected.result.clone(), expected.state.clone())
                );
            }
        }
        assert_eq!(engine.stats().programs, 2);
    }
}

#[test]
fn a_host_error_is_an_error() {
    let main = "61dead 54 5f 52 6020 5f f3";
    let expected = liar(main, "", 1 << 20).transact(call(200_000, &[])).unwrap_err();
    for engine in engines() {
        let mut evm = Tiered::mainnet(liar(main, "", 1 << 20), engine);
        for _ in 0..2 {
            let error = evm.transact(call(200_000, &[])).unwrap_err();
            assert_eq!(error.to_string(), expected.to_string());
        }
    }
}

#[test]
fn a_panic_in_the_host_goes_through() {
    for main in ["6042 54 00", "6001 6042 55 00", "5f 6042 5f 5f a1 6042 54 00"] {
        for engine in engines() {
            let mut evm = Tiered::mainnet(liar(main, "", 0x42), engine);
            let payload = catch_unwind(AssertUnwindSafe(|| evm.transact(call(200_000, &[]))))
                .expect_err("the database panics");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"poisoned"));
            assert_eq!(evm.engine().stats().native_entries, 1);
        }
    }
}

#[test]
fn a_panicking_instruction_goes_through() {
    // DIFFICULTY without a prevrandao.
    for engine in engines() {
        let context = context(SpecId::CANCUN, "44 00", "")
            .modify_block_chained(|block| block.prevrandao = None);
        let mut evm = Tiered::mainnet(context.build_mainnet(), engine);
        let run = catch_unwind(AssertUnwindSafe(|| evm.system_call_one(MAIN, Bytes::new())));
        assert!(run.is_err());
    }
}

#[derive(Debug, Default)]
struct Steps(Vec<usize>);

impl<CTX> Inspector<CTX, EthInterpreter> for Steps {
    fn step(&mut self, interpreter: &mut Interpreter<EthInterpreter>, _: &mut CTX) {
        self.0.push(interpreter.bytecode.pc());
    }
}

#[test]
fn an_inspector_sees_every_step() {
    let tx = || call(100_000, &[1]);
    let mut plain =
        context(SpecId::CANCUN, BUSY, "").build_mainnet_with_inspector(Steps::default());
    let expected = plain.inspect_one_tx(tx()).unwrap();
    for engine in engines() {
        let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet_with_inspector(Steps::default());
        let mut evm = Tiered::mainnet(evm, engine);
        // Compiled by now.
        assert_eq!(evm.transact(tx()).unwrap().result, expected);
        assert!(evm.inner().inspector.0.is_empty());
        assert_eq!(evm.inspect_one_tx(tx()).unwrap(), expected);
        assert_eq!(evm.inner().inspector.0, plain.inspector.0);
        evm.set_inspector(Steps::default());
        assert!(evm.inner().inspector.0.is_empty());
    }
}

#[test]
fn switched_off_nothing_is_compiled() {
    let config = Config { enabled: false, ..Config::eager() };
    let engine = Engine::new(config).unwrap();
    let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
    let mut evm = Tiered::mainnet(evm, engine.clone());
    let expected =
        transact(&mut context(SpecId::CANCUN, BUSY, "").build_mainnet(), call(100_000, &[]));
    assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "off");
    assert_eq!(engine.stats(), Default::default());
    let config = kiln_ir::Config {
        spec: SpecId::CANCUN,
        gas: [3; 256],
        replaced: kiln_ir::OpcodeSet::EMPTY,
    };
    assert!(engine.compile(&code(BUSY), B256::ZERO, &config).is_err());
}

#[test]
fn code_over_a_limit_stays_interpreted() {
    let limits = kiln_ir::Limits { code_bytes_max: 8, ..Default::default() };
    for engine in fresh_engines(&Config { limits, ..Config::eager() }) {
        let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine.clone());
        for _ in 0..3 {
            let expected = transact(
                &mut context(SpecId::CANCUN, BUSY, "").build_mainnet(),
                call(100_000, &[]),
            );
            assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "over a limit");
        }
        let stats = engine.stats();
        assert_eq!((stats.compile_errors, stats.programs, stats.hits), (1, 0, 0));
    }
}

#[test]
fn cold_code_is_interpreted() {
    for engine in fresh_engines(&Config { warm_frames: 2, ..Config::eager() }) {
        let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine.clone());
        let mut programs = Vec::new();
        for _ in 0..4 {
            transact(&mut evm, call(100_000, &[]));
            programs.push(engine.stats().programs);
        }
        assert_eq!(programs, [0, 0, 1, 1]);
    }
}

#[test]
fn only_hot_blocks_are_compiled() {
    // Two paths, by whether there is calldata.
    let main = "36 600b 57 6001 5f 55 00 00 00 5b 6002 5f 55 00";
    let config = Config { compile: Compile::Seen, hot_executions: 2, ..Config::eager() };
    for engine in fresh_engines(&config) {
        let evm = context(SpecId::CANCUN, main, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine.clone());
        let mut check = |data: &[u8]| {
            let mut plain = context(SpecId::CANCUN, main, "").build_mainnet();
            let expected = transact(&mut plain, call(100_000, data));
            let before = engine.stats();
            assert_same(&transact(&mut evm, call(100_000, data)), &expected, "seen");
            engine.stats() - before
        };
        assert_eq!(check(&[]).interpreted_instructions, 7, "cold");
        for _ in 0..10 {
            check(&[]);
        }
        assert_eq!(check(&[]).interpreted_instructions, 0, "hot");
        // The common block is compiled, the other path is not.
        assert_eq!(check(&[1]).interpreted_instructions, 5);
        engine.set_recording(true);
        let recorded = check(&[1]);
        assert_eq!((recorded.native_entries, recorded.recorded_instructions), (0, 8));
        engine.set_recording(false);
        assert_eq!(engine.compile_recorded(), 1);
        assert_eq!(engine.compile_recorded(), 0, "nothing new");
        assert_eq!(check(&[1]).interpreted_instructions, 0);
    }
}

#[test]
fn code_that_only_accesses_storage_is_left_alone() {
    // JUMPDEST; PUSH0; twenty SLOADs; POP; PUSH0; JUMP: until gas runs out.
    let main = &format!("5b 5f {} 50 5f 56", "54 ".repeat(20));
    let config = Config { compile: Compile::Seen, hot_executions: 2, ..Config::eager() };
    for engine in fresh_engines(&config) {
        let mut plain = context(SpecId::CANCUN, main, "").build_mainnet();
        let expected = transact(&mut plain, call(100_000, &[]));
        let evm = context(SpecId::CANCUN, main, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine.clone());
        assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "storage");
        let stats = engine.stats();
        assert_eq!((stats.programs, stats.native_entries), (0, 0), "{stats:?}");
        assert!(stats.compile_errors > 0, "{stats:?}");
    }
}

/// A loop of 1,000 rounds: JUMPDEST; PUSH1 1; SWAP1; SUB; DUP1; PUSH1 3; JUMPI; STOP.
const LOOP: &str = "6103e8 5b 6001 90 03 80 6003 57 00";

#[test]
fn a_running_frame_is_taken_over() {
    let config = Config { compile: Compile::Seen, hot_executions: 20, ..Config::eager() };
    for engine in fresh_engines(&config) {
        let mut plain = context(SpecId::CANCUN, LOOP, "").build_mainnet();
        let expected = transact(&mut plain, call(100_000, &[]));
        let evm = context(SpecId::CANCUN, LOOP, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine.clone());
        assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "loop");
        let stats = engine.stats();
        assert!(stats.native_entries >= 1, "{stats:?}");
        assert!(stats.interpreted_instructions < 8 * 100, "{stats:?}");
    }
}

#[test]
fn cleared_programs_are_compiled_again() {
    for engine in engines() {
        let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine.clone());
        transact(&mut evm, call(100_000, &[]));
        let used = engine.code_bytes_used();
        transact(&mut evm, call(100_000, &[]));
        assert_eq!(engine.stats().programs, 1);
        engine.clear();
        transact(&mut evm, call(100_000, &[]));
        assert_eq!(engine.stats().programs, 2);
        assert_eq!(engine.code_bytes_used(), used, "the old program is gone");
    }
}

#[test]
fn programs_are_shared_by_threads() {
    for engine in engines() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
                    let mut evm = Tiered::mainnet(evm, engine.clone());
                    for i in 0..20 {
                        let (result, _) = transact(&mut evm, call(100_000, &[i]));
                        assert_eq!(result.output().unwrap()[0], i);
                        if i == 10 {
                            engine.clear();
                        }
                    }
                });
            }
        });
        assert!(engine.stats().programs >= 1);
    }
}

#[test]
fn another_handler_runs_it() {
    for engine in engines() {
        let evm = context(SpecId::CANCUN, BUSY, "").build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine);
        evm.inner_mut().ctx.tx = call(100_000, &[]);
        let mut handler: MainnetHandler<
            _,
            revm::context::result::EVMError<std::convert::Infallible>,
            _,
        > = MainnetHandler::default();
        let result: ExecutionResult = handler.run(&mut evm).unwrap();
        assert!(result.is_success());
        evm.finalize();
        assert_eq!(evm.engine().stats().native_entries, 1);
        let inner = evm.into_inner();
        assert_eq!(inner.ctx_ref().tx.gas_limit, 100_000);
    }
}

#[test]
fn transactions_commit() {
    for engine in engines() {
        let build = || context(SpecId::CANCUN, "5f 54 6001 01 5f 55 5f 54 5f 52 6020 5f f3", "");
        let mut plain = build().build_mainnet();
        let mut evm = Tiered::mainnet(build().build_mainnet(), engine);
        for nonce in 0..4u64 {
            let tx = TxEnv { nonce, ..call(100_000, &[]) };
            let expected = plain.transact_commit(tx.clone()).unwrap();
            assert_eq!(evm.transact_commit(tx).unwrap(), expected);
            assert_eq!(U256::from_be_slice(expected.output().unwrap()), U256::from(nonce + 1));
        }
    }
}

#[test]
fn a_delegated_account_runs_its_delegates_program() {
    // MAIN is a designator of OTHER.
    let build = || {
        let mut context = context(SpecId::PRAGUE, "00", BUSY);
        let info = AccountInfo::default().with_code(Bytecode::new_eip7702(OTHER));
        context.journaled_state.database.insert_account_info(MAIN, info);
        context.build_mainnet()
    };
    let expected = transact(&mut build(), call(100_000, &[9; 32]));
    for engine in engines() {
        let mut evm = Tiered::mainnet(build(), engine.clone());
        assert_same(&transact(&mut evm, call(100_000, &[9; 32])), &expected, "delegated");
        assert_eq!(engine.stats().native_entries, 1);
    }
}

#[test]
fn a_database_may_run_another_evm() {
    thread_local! {
        static DEPTH: Cell<usize> = const { Cell::new(0) };
    }
    #[derive(Debug)]
    struct Nested(Engine);
    impl Database for Nested {
        type Error = Gone;
        fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, Gone> {
            liar("6001 54 5f 52 6020 5f f3", "", 99).ctx.journaled_state.database.basic(address)
        }
        fn code_by_hash(&mut self, _: B256) -> Result<Bytecode, Gone> {
            Err(Gone)
        }
        fn storage(&mut self, _: Address, _: StorageKey) -> Result<StorageValue, Gone> {
            let depth = DEPTH.replace(DEPTH.get() + 1);
            if depth == 3 {
                return Ok(U256::from(100));
            }
            let evm = Context::mainnet().with_db(Nested(self.0.clone())).build_mainnet();
            let mut evm = Tiered::mainnet(evm, self.0.clone());
            let result = evm.transact(call(200_000, &[])).map_err(|_| Gone)?.result;
            Ok(U256::from_be_slice(result.output().ok_or(Gone)?) + U256::from(1))
        }
        fn block_hash(&mut self, _: u64) -> Result<B256, Gone> {
            Err(Gone)
        }
    }
    for engine in engines() {
        DEPTH.set(0);
        let evm = Context::mainnet().with_db(Nested(engine.clone())).build_mainnet();
        let mut evm = Tiered::mainnet(evm, engine);
        let result = evm.transact(call(200_000, &[])).unwrap().result;
        assert_eq!(U256::from_be_slice(result.output().unwrap()), U256::from(103));
    }
}

#[test]
fn an_engine_without_room_interprets() {
    if common::native() {
        let config = Config { backend: Backend::Native, ..Config::eager() };
        let room = Engine::new(config.clone()).unwrap().code_bytes_used();
        let engine = Engine::new(Config { code_bytes_max: room, ..config }).unwrap();
        let mut evm =
            Tiered::mainnet(context(SpecId::CANCUN, BUSY, "").build_mainnet(), engine.clone());
        let expected =
            transact(&mut context(SpecId::CANCUN, BUSY, "").build_mainnet(), call(100_000, &[]));
        assert_same(&transact(&mut evm, call(100_000, &[])), &expected, "no room");
        assert_eq!((engine.stats().compile_errors, engine.stats().programs), (1, 0));
    }
    compare(SpecId::CANCUN, BUSY, "", &call(100_000, &[]));
}
