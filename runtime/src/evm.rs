//! kiln inside revm: an EVM whose frames run in compiled code.
//!
//! **Owns** [`Tiered`] and its place in revm's traits. The only module that names revm's handler
//! types.
//!
//! **Callers guarantee** that the wrapped EVM runs plain Ethereum frames, as its type says.
//!
//! **Never** changes a result. Overrides `frame_run` only: everything else is the wrapped EVM's.

mod forced;
mod hit;

use crate::{
    dump::Dump,
    engine::{BakedId, Engine},
    frame::{self, Cold, Held, Ordinary, Tables},
    heat::HotFrom,
    local::Local,
    watch::{Declared, Watch},
};
use forced::Modes;
use kiln_abi::EnterFn;
use revm::{
    Database, DatabaseCommit, ExecuteCommitEvm, ExecuteEvm, InspectCommitEvm, InspectEvm,
    InspectSystemCallEvm, Inspector, SystemCallCommitEvm, SystemCallEvm,
    context::{ContextSetters, ContextTr, Evm, FrameStack, JournalTr},
    context_interface::{
        Cfg,
        result::{EVMError, ExecutionResult, HaltReason, InvalidTransaction, ResultAndState},
    },
    handler::{
        EthFrame, EvmTr, FrameData, FrameInitOrResult, FrameResult, FrameTr, Handler,
        MainnetHandler,
        evm::{ContextDbError, FrameInitResult},
        instructions::{EthInstructions, InstructionProvider},
        system_call::SystemCallTx,
    },
    inspector::{InspectorEvmTr, InspectorHandler, JournalExt},
    interpreter::{
        InterpreterAction, interpreter::EthInterpreter, interpreter_action::FrameInit,
        interpreter_types::Jumps,
    },
    primitives::{Address, B256, Bytes},
    state::EvmState,
};

/// An EVM that runs plain Ethereum frames: what [`Tiered`] can wrap. Implemented for all that are.
pub trait EthEvm:
    EvmTr<
        Frame = EthFrame<EthInterpreter>,
        Instructions: InstructionProvider<
            Context = <Self as EvmTr>::Context,
            InterpreterTypes = EthInterpreter,
        >,
    >
{
}

impl<EVM> EthEvm for EVM where
    EVM: EvmTr<
            Frame = EthFrame<EthInterpreter>,
            Instructions: InstructionProvider<
                Context = <EVM as EvmTr>::Context,
                InterpreterTypes = EthInterpreter,
            >,
        >
{
}

/// Wraps an EVM: its frames run in compiled code where there is some, and in its interpreter
/// elsewhere. Takes the wrapped EVM's place, under revm's mainnet handler or another one.
#[derive(Debug)]
pub struct Tiered<EVM> {
    evm: EVM,
    /// Whether there is anything to do but to call the wrapped EVM.
    active: bool,
    trampoline: Option<EnterFn>,
    watch: Watch,
    member: Member,
    forced: Option<Box<Modes>>,
}

/// The engine, and what this EVM has of it for its own.
#[derive(Debug)]
struct Member {
    engine: Engine,
    /// None only while this is dropped.
    local: Option<Box<Local>>,
}

impl Member {
    fn new(engine: Engine) -> Self {
        Self { local: Some(engine.borrow_local()), engine }
    }

    #[inline]
    fn local(&mut self) -> (&Engine, &mut Local) {
        match &mut self.local {
            Some(local) => (&self.engine, local),
            None => unreachable!("only dropping takes it"),
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(local) = self.local.take() {
            self.engine.return_local(local);
        }
    }
}

/// What the next frame run does.
enum Plan {
    /// What the wrapped EVM does.
    Interpret,
    /// Interpret and mark the blocks of the code in this entry.
    Record(usize),
    /// Interpret and count the blocks of a code that nobody knows.
    Cold(B256, BakedId, HotFrom),
    /// Run the code in this entry, in its program or until it has one.
    Run(usize),
}

impl<EVM> Tiered<EVM> {
    /// Wraps any EVM. Interprets until it is [declared](Self::declare) what its instruction table
    /// is.
    pub fn new(evm: EVM, engine: Engine) -> Self {
        let trampoline = engine.trampoline();
        Self {
            evm,
            active: false,
            trampoline,
            watch: Watch::default(),
            forced: Modes::new(engine.config()),
            member: Member::new(engine),
        }
    }

    /// The wrapped EVM.
    pub fn inner(&self) -> &EVM {
        &self.evm
    }

    /// The wrapped EVM, without kiln.
    pub fn into_inner(self) -> EVM {
        self.evm
    }

    /// The engine.
    pub fn engine(&self) -> &Engine {
        &self.member.engine
    }
}

impl<EVM: EthEvm> Tiered<EVM> {
    /// The wrapped EVM. Instructions and gas that are replaced in it are noticed when the next
    /// transaction begins.
    pub fn inner_mut(&mut self) -> &mut EVM {
        self.expose();
        &mut self.evm
    }

    /// To be called before anybody gets the wrapped EVM or its instructions to write to.
    #[inline]
    fn expose(&mut self) {
        let (_, instructions, _, _) = self.evm.all();
        self.watch.expose(instructions.instruction_table());
    }

    /// Declares what the wrapped EVM's instruction table is at this moment. What differs from it
    /// later counts as replaced.
    ///
    /// A wrong declaration makes results wrong: compiled code has revm's own semantics for all
    /// opcodes that are not named as replaced.
    pub fn declare(mut self, declared: Declared) -> Self {
        let (context, instructions, _, _) = self.evm.all();
        let (table, gas) = (instructions.instruction_table(), instructions.gas_table());
        self.watch.declare(table, declared);
        self.active = self.member.engine.config().enabled;
        if self.active {
            // Not left to the first transaction.
            let spec = context.cfg().spec().into();
            let (engine, local) = self.member.local();
            self.watch.baked(engine, table, gas, spec, true);
            local.resident.prepare();
        }
        self
    }

    /// Decides about the frame on top of the stack.
    #[inline(never)]
    fn plan(&mut self) -> Plan {
        let (_, instructions, _, frames) = self.evm.all_mut();
        let frame = frames.get();
        let bytecode = &frame.interpreter.bytecode;
        // Initcode runs once.
        let hash = match (&frame.data, bytecode.hash()) {
            (FrameData::Call(_), Some(hash)) if !bytecode.is_empty() && bytecode.is_legacy() => {
                hash
            }
            _ => return Plan::Interpret,
        };
        let begins = bytecode.pc() == 0;
        let (table, gas) = (instructions.instruction_table(), instructions.gas_table());
        let spec = frame.interpreter.runtime_flag.spec_id;
        // Once a transaction is enough: nothing but a transaction's caller changes tables.
        let look = begins && frame.depth == 0;
        let (engine, local) = self.member.local();
        let Some(baked) = self.watch.baked(engine, table, gas, spec, look) else {
            return Plan::Interpret;
        };
        local.counters.lookups.add(1);
        if let Some(hot_from) = engine.hot_from().filter(|_| !engine.knows(&hash)) {
            return Plan::Cold(hash, baked, hot_from);
        }
        let index = local.resident.find(engine, bytecode, hash, baked);
        if engine.is_recording() { Plan::Record(index) } else { Plan::Run(index) }
    }

    /// Runs the frame on top of the stack as planned.
    #[inline(never)]
    fn run(
        &mut self,
        plan: Plan,
    ) -> Result<FrameInitOrResult<EthFrame<EthInterpreter>>, ContextDbError<EVM::Context>> {
        let action = self.act(plan);
        let (context, _, _, frames) = self.evm.all_mut();
        let frame = frames.get();
        frame.process_next_action(context, action).inspect(|next| {
            if next.is_result() {
                frame.set_finished(true);
            }
        })
    }

    /// Runs it up to what it wants done next.
    #[inline(always)]
    fn act(&mut self, plan: Plan) -> InterpreterAction {
        let (context, instructions, _, frames) = self.evm.all_mut();
        let tables = Tables {
            instructions: instructions.instruction_table(),
            gas: instructions.gas_table(),
        };
        let frame = frames.get();
        let (interpreter, depth) = (&mut frame.interpreter, frame.depth);
        let (engine, local) = self.member.local();
        let dump = Dump::new(engine, depth);
        let plan = match plan {
            Plan::Cold(hash, baked, hot_from) => {
                dump.interpret(interpreter);
                let memo = &mut local.memo;
                let (stats, replaced) = (&*local.counters, self.watch.replaced());
                let cold = Cold { engine, hash, baked, hot_from, replaced, memo, stats };
                if frame::run_cold(interpreter, context, tables, cold) {
                    return interpreter.take_next_action();
                }
                dump.stopped(interpreter);
                Plan::Run(local.resident.find(engine, &interpreter.bytecode, hash, baked))
            }
            plan => plan,
        };
        match plan {
            Plan::Interpret | Plan::Cold(..) => {
                return interpreter.run_plain(tables.instructions, tables.gas, context);
            }
            Plan::Record(index) => {
                dump.interpret(interpreter);
                let seen = local.resident.entry(index).slot().0.recorded();
                frame::record(interpreter, context, tables, seen, &local.counters);
            }
            Plan::Run(index) => {
                let (slot, tag) = local.resident.entry(index).slot();
                let mut held = Held {
                    engine,
                    slot,
                    tag,
                    trampoline: self.trampoline,
                    memo: &mut local.memo,
                    hot_from: engine.hot_from(),
                    stats: &local.counters,
                    dump,
                };
                let held = &mut held;
                if let Some(modes) = &mut self.forced
                    && modes.run(interpreter, context, tables, held)
                {
                    return interpreter.take_next_action();
                }
                frame::run(interpreter, context, tables, held, &mut Ordinary);
            }
        }
        interpreter.take_next_action()
    }
}

/// revm's own EVM with the parts of another one, and without an inspector.
type Plain<EVM> = Evm<
    <EVM as EvmTr>::Context,
    (),
    <EVM as EvmTr>::Instructions,
    <EVM as EvmTr>::Precompiles,
    <EVM as EvmTr>::Frame,
>;

impl<EVM> Tiered<EVM>
where
    EVM: EthEvm<Instructions = EthInstructions<EthInterpreter, <EVM as EvmTr>::Context>>,
{
    /// Wraps a mainnet EVM. Installs a fresh mainnet instruction table for the fork of its
    /// configuration, and takes what is replaced in it later for replaced.
    pub fn mainnet(mut evm: EVM, engine: Engine) -> Self {
        let (context, instructions) = evm.ctx_instructions();
        let spec = context.cfg().spec().into();
        *instructions = EthInstructions::new_mainnet_with_spec(spec);
        let mut tiered = Self::new(evm, engine);
        // revm's own EVM writes to its tables nowhere. Another one may, in any of its methods.
        if typeid::of::<EVM>() == typeid::of::<Plain<EVM>>() {
            tiered.watch.seal();
        }
        tiered.declare(Declared::Mainnet)
    }
}

impl<EVM: EthEvm> EvmTr for Tiered<EVM> {
    type Context = EVM::Context;
    type Instructions = EVM::Instructions;
    type Precompiles = EVM::Precompiles;
    type Frame = EVM::Frame;

    #[inline]
    fn all(
        &self,
    ) -> (&Self::Context, &Self::Instructions, &Self::Precompiles, &FrameStack<Self::Frame>) {
        self.evm.all()
    }

    #[inline]
    fn all_mut(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Self::Frame>,
    ) {
        self.expose();
        self.evm.all_mut()
    }

    // What revm's handlers use: none of it is an instruction table.
    #[inline]
    fn ctx(&mut self) -> &mut Self::Context {
        self.evm.ctx()
    }

    #[inline]
    fn ctx_mut(&mut self) -> &mut Self::Context {
        self.evm.ctx_mut()
    }

    #[inline]
    fn ctx_precompiles(&mut self) -> (&mut Self::Context, &mut Self::Precompiles) {
        self.evm.ctx_precompiles()
    }

    #[inline]
    fn frame_stack(&mut self) -> &mut FrameStack<Self::Frame> {
        self.evm.frame_stack()
    }

    #[inline]
    fn frame_init(
        &mut self,
        frame_input: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        self.evm.frame_init(frame_input)
    }

    // One place where the wrapped EVM's loop is inlined, as in the plain EVM; the rest is kept out
    // of the way of an EVM that is switched off.
    #[inline(always)]
    fn frame_run(
        &mut self,
    ) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        match if self.active { self.plan() } else { Plan::Interpret } {
            Plan::Interpret => self.evm.frame_run(),
            plan => self.run(plan),
        }
    }

    #[inline]
    fn frame_return_result(
        &mut self,
        result: <Self::Frame as FrameTr>::FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Self::Context>> {
        self.evm.frame_return_result(result)
    }
}

impl<EVM> ExecuteEvm for Tiered<EVM>
where
    EVM: EthEvm<Context: ContextTr<Journal: JournalTr<State = EvmState>> + ContextSetters>,
{
    type ExecutionResult = ExecutionResult<HaltReason>;
    type State = EvmState;
    type Error = EVMError<<<EVM::Context as ContextTr>::Db as Database>::Error, InvalidTransaction>;
    type Tx = <EVM::Context as ContextTr>::Tx;
    type Block = <EVM::Context as ContextTr>::Block;

    fn set_block(&mut self, block: Self::Block) {
        self.ctx_mut().set_block(block);
    }

    fn transact_one(&mut self, tx: Self::Tx) -> Result<Self::ExecutionResult, Self::Error> {
        self.ctx_mut().set_tx(tx);
        MainnetHandler::default().run(self)
    }

    fn finalize(&mut self) -> Self::State {
        self.ctx_mut().journal_mut().finalize()
    }

    fn replay(&mut self) -> Result<ResultAndState<HaltReason>, Self::Error> {
        let result = MainnetHandler::default().run(self);
        // Cleared on an error, too.
        let state = self.finalize();
        result.map(|result| ResultAndState::new(result, state))
    }
}

impl<EVM> ExecuteCommitEvm for Tiered<EVM>
where
    EVM: EthEvm<
        Context: ContextTr<Journal: JournalTr<State = EvmState>, Db: DatabaseCommit>
                     + ContextSetters,
    >,
{
    fn commit(&mut self, state: Self::State) {
        self.ctx_mut().db_mut().commit(state);
    }
}

impl<EVM> SystemCallEvm for Tiered<EVM>
where
    EVM: EthEvm<
        Context: ContextTr<Journal: JournalTr<State = EvmState>, Tx: SystemCallTx> + ContextSetters,
    >,
{
    fn system_call_one_with_caller(
        &mut self,
        caller: Address,
        system_contract_address: Address,
        data: Bytes,
    ) -> Result<Self::ExecutionResult, Self::Error> {
        self.ctx_mut().set_tx(SystemCallTx::new_system_tx_with_caller(
            caller,
            system_contract_address,
            data,
        ));
        MainnetHandler::default().run_system_call(self)
    }
}

impl<EVM> SystemCallCommitEvm for Tiered<EVM>
where
    EVM: EthEvm<
        Context: ContextTr<
            Journal: JournalTr<State = EvmState>,
            Db: DatabaseCommit,
            Tx: SystemCallTx,
        > + ContextSetters,
    >,
{
    fn system_call_with_caller_commit(
        &mut self,
        caller: Address,
        system_contract_address: Address,
        data: Bytes,
    ) -> Result<Self::ExecutionResult, Self::Error> {
        let output = self.system_call_with_caller(caller, system_contract_address, data)?;
        self.commit(output.state);
        Ok(output.result)
    }
}

/// With an inspector the wrapped EVM's interpreter runs, so that every step is seen.
impl<EVM: EthEvm + InspectorEvmTr> InspectorEvmTr for Tiered<EVM> {
    type Inspector = EVM::Inspector;

    fn all_inspector(
        &self,
    ) -> (
        &Self::Context,
        &Self::Instructions,
        &Self::Precompiles,
        &FrameStack<Self::Frame>,
        &Self::Inspector,
    ) {
        self.evm.all_inspector()
    }

    fn all_mut_inspector(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Self::Frame>,
        &mut Self::Inspector,
    ) {
        self.expose();
        self.evm.all_mut_inspector()
    }

    fn inspect_frame_init(
        &mut self,
        frame_init: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        self.evm.inspect_frame_init(frame_init)
    }

    fn inspect_frame_run(
        &mut self,
    ) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        self.evm.inspect_frame_run()
    }
}

impl<EVM> InspectEvm for Tiered<EVM>
where
    EVM: EthEvm<
            Context: ContextTr<Journal: JournalTr<State = EvmState> + JournalExt> + ContextSetters,
        > + InspectorEvmTr<Inspector: Inspector<<EVM as EvmTr>::Context, EthInterpreter>>,
{
    type Inspector = EVM::Inspector;

    fn set_inspector(&mut self, inspector: Self::Inspector) {
        *self.evm.inspector() = inspector;
    }

    fn inspect_one_tx(&mut self, tx: Self::Tx) -> Result<Self::ExecutionResult, Self::Error> {
        self.ctx_mut().set_tx(tx);
        MainnetHandler::default().inspect_run(self)
    }
}

impl<EVM> InspectCommitEvm for Tiered<EVM> where
    EVM: EthEvm<
            Context: ContextTr<
                Journal: JournalTr<State = EvmState> + JournalExt,
                Db: DatabaseCommit,
            > + ContextSetters,
        > + InspectorEvmTr<Inspector: Inspector<<EVM as EvmTr>::Context, EthInterpreter>>
{
}

impl<EVM> InspectSystemCallEvm for Tiered<EVM>
where
    EVM: EthEvm<
            Context: ContextTr<
                Journal: JournalTr<State = EvmState> + JournalExt,
                Tx: SystemCallTx,
            > + ContextSetters,
        > + InspectorEvmTr<Inspector: Inspector<<EVM as EvmTr>::Context, EthInterpreter>>,
{
    fn inspect_one_system_call_with_caller(
        &mut self,
        caller: Address,
        system_contract_address: Address,
        data: Bytes,
    ) -> Result<Self::ExecutionResult, Self::Error> {
        self.ctx_mut().set_tx(SystemCallTx::new_system_tx_with_caller(
            caller,
            system_contract_address,
            data,
        ));
        MainnetHandler::default().inspect_run_system_call(self)
    }
}
