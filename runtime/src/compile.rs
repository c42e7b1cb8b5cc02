//! From bytecode to a program: the phases in order, each timed.
//!
//! **Owns** the order of the phases and their errors. **Callers guarantee** nothing: any bytecode
//! is valid input. **Never** publishes: the engine does.

use crate::{
    backend::{Failure, Refusal, thread_cpu_ns},
    checks::{Check, reload, twice},
    config::{self, Backend},
    hooks::{Fault, Phase, PhaseStart, Tier},
    memory::{CodeBlock, CodeMemory, MemoryError},
    observe::{Observer, Subject},
    persist::LoadError,
    policy,
    program::{Counts, Program},
    regions::{Optimiser, Regions},
    slot::Seen,
    stats::Stats,
    tier1::Tier1,
};
use kiln_abi::{CodeObject, Pc};
use kiln_ir::{Blocks, Bounds, BuildError, Cancelled, JumpDests, Module, ssa::Choice};
use kiln_store::Artifact;
use kiln_tier0::Library;
use std::{cell::Cell, sync::Arc};
use thiserror::Error;

/// Why code has no program. It is interpreted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CompileError {
    /// No code, or not code that is executed as such (an EIP-7702 designator).
    #[error("there is no legacy code to compile")]
    NotCode,
    /// The engine is switched off.
    #[error("compilation is switched off")]
    Disabled,
    /// Another thread compiles this code at the moment.
    #[error("the code is being compiled by another thread")]
    Busy,
    /// It was not even tried, or the result was not used.
    #[error(transparent)]
    Refused(Refusal),
    /// Nothing is to be compiled, and the store has no program of it.
    #[error("the store has no program of it")]
    NotStored,
    /// What was hot does nearly nothing but access storage.
    #[error("nearly all of its time is accesses to storage")]
    StorageBound,
    /// Tier 1 can not compile it, or the worker that had the job failed.
    #[error("tier 1: {0}")]
    Tier1(String),
    /// Tier 1 can not be had at the moment.
    #[error("tier 1: {0}")]
    NoWorker(String),
    /// There is no compiler for it here.
    #[error("no compiler: {0}")]
    Compiler(String),
    /// The compiler panicked: a defect of kiln.
    #[error("the compiler panicked")]
    Panicked,
    /// A check found that what was made is not what it should be: a defect of kiln.
    #[error("check {check} found a difference: {}", differences.first().map_or("", String::as_str))]
    Differs {
        /// The check.
        check: Check,
        /// In what, one line each.
        differences: Vec<String>,
    },
    /// A fault test wants it to fail.
    #[doc(hidden)]
    #[error("{0}")]
    Injected(String),
    /// Over a limit.
    #[error(transparent)]
    Build(BuildError),
    /// The compilation was called off.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// Tier 0 can not express it.
    #[error(transparent)]
    Codegen(kiln_tier0::CompileError),
    /// No room for the code.
    #[error(transparent)]
    Memory(#[from] MemoryError),
}

impl CompileError {
    /// What it means for the back end.
    pub(crate) fn failure(&self) -> Failure {
        let text = || self.to_string().into();
        match self {
            Self::Cancelled(_) => Failure::Cancelled,
            Self::Panicked => Failure::Panicked(text()),
            // It may be worth it later: what it runs changes.
            Self::StorageBound
            | Self::NotStored
            | Self::NoWorker(_)
            | Self::Memory(MemoryError::Full { .. }) => Failure::Unused(text()),
            // More of the same code is no smaller.
            Self::NotCode | Self::Disabled | Self::Build(_) => Failure::Hopeless(text()),
            Self::Differs { .. } => Failure::Wrong(text()),
            _ => Failure::Failed(text()),
        }
    }
}

impl From<Refusal> for CompileError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotCode => Self::NotCode,
            Refusal::Off => Self::Disabled,
            Refusal::Busy => Self::Busy,
            refusal => Self::Refused(refusal),
        }
    }
}

impl From<BuildError> for CompileError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Build(error),
        }
    }
}

impl From<kiln_tier0::CompileError> for CompileError {
    fn from(error: kiln_tier0::CompileError) -> Self {
        match error {
            kiln_tier0::CompileError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            error => Self::Codegen(error),
        }
    }
}

/// A block gets an optimised region if at least one in so many of the runs of its code's blocks was its own:
/// compiling it costs more than what runs more seldom can gain.
const REGION_SHARE: u64 = 256;

/// What compiling needs.
pub(crate) struct Compiler<'a> {
    pub(crate) config: &'a config::Config,
    pub(crate) library: Option<&'a Library>,
    pub(crate) memory: &'a CodeMemory,
    pub(crate) tier1: Option<&'a Tier1>,
    pub(crate) observer: &'a Observer,
    /// Evicts other code for so many bytes; whether it did.
    pub(crate) make_room: &'a dyn Fn(usize) -> bool,
}

/// What is to be compiled.
#[derive(Clone)]
pub(crate) struct Task<'a> {
    pub(crate) subject: Subject<'a>,
    /// Only the blocks that were seen; then the work is proportional to them. Else all.
    pub(crate) seen: Option<&'a Seen>,
    /// Whether it is heat that asks for them: then only for what gains by it.
    pub(crate) counted: bool,
    /// Of these, those it chooses.
    pub(crate) select: &'a dyn Fn(Pc) -> bool,
    /// Counts of blocks, for optimised regions; without them all blocks are as good.
    pub(crate) profile: Option<&'a Seen>,
    /// Optimised regions that there are already.
    pub(crate) optimised: Option<Arc<Regions>>,
    /// Whether there may be more of them by now.
    pub(crate) renew: bool,
    /// Whether to give up: the result is of no use any more. Asked once a block.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// What compilers make of a task, before it is a program.
struct Made {
    module: Module,
    regions: Option<Arc<Regions>>,
    /// None for the evaluator.
    object: Option<CodeObject>,
}

impl Made {
    /// In what another one of the same task differs; `errors` are the regions that either has not.
    fn differences(&self, other: &Self, errors: (u64, u64)) -> Vec<String> {
        let mut lines = twice::modules(&self.module, &other.module);
        match (&self.regions, &other.regions) {
            (Some(first), Some(second)) => lines.extend(twice::regions((first, second), errors)),
            (first, second) if first.is_some() != second.is_some() => {
                lines.push("optimised regions: only one time".to_owned());
            }
            _ => {}
        }
        if let (Some(first), Some(second)) = (&self.object, &other.object) {
            lines.extend(twice::objects(first, second));
        }
        lines
    }
}

/// The compilers' buffers, kept by each thread that compiles: a few hundred KiB at most, so that
/// compiling touches no fresh page for what does not stay.
#[derive(Default)]
struct Scratch {
    ir: kiln_ir::Scratch,
    tier0: kiln_tier0::Scratch,
}

thread_local! {
    /// Taken while the thread compiles, so that a panic drops it with all that is in it.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Compiler<'_> {
    /// Compiles. `stats` are added to, also as far as it came when it fails.
    pub(crate) fn compile(
        &self,
        task: &Task<'_>,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        let mut scratch = SCRATCH.take().unwrap_or_default();
        let clock = Clock::start();
        let result = self.phases(task, &clock, &mut scratch, stats);
        stats.compile_cpu_ns += clock.elapsed() + stats.worker_cpu_ns;
        SCRATCH.set(Some(scratch));
        let program = result?;
        stats.programs += 1;
        stats.regions += program.regions() as u64;
        stats.instructions += program.instructions() as u64;
        stats.bytecode_bytes += program.bytecode().len() as u64;
        stats.code_bytes += program.code_bytes() as u64;
        Ok(program)
    }

    fn phases(
        &self,
        task: &Task<'_>,
        clock: &Clock,
        scratch: &mut Scratch,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        let bytecode = task.subject.bytecode;
        if !bytecode.is_legacy() || bytecode.is_empty() {
            return Err(CompileError::NotCode);
        }
        if !self.config.checks.twice {
            let made = self.make(task, None, clock, scratch, stats)?;
            return self.finish(task, made, clock, scratch, stats);
        }
        // Frames go on marking blocks, and both times are to see the same.
        let (seen, profile) = (task.seen.map(Seen::snapshot), task.profile.map(Seen::snapshot));
        let (seen, profile) = (seen.as_ref(), profile.as_ref());
        let task = &Task { seen, profile, ..task.clone() };
        let made = self.make(task, None, clock, scratch, stats)?;
        self.again(task, &made, clock, stats)?;
        self.finish(task, made, clock, scratch, stats)
    }

    /// Everything up to machine code. With `around`, that is made around these regions.
    fn make(
        &self,
        task: &Task<'_>,
        around: Option<&Option<Arc<Regions>>>,
        clock: &Clock,
        scratch: &mut Scratch,
        stats: &mut Stats,
    ) -> Result<Made, CompileError> {
        let bounds = Bounds { limits: &self.config.limits, cancelled: task.cancelled };
        let module = self.module(task, (clock, bounds), &mut scratch.ir, stats)?;
        // Only what heat asks for: who recorded, or wants whole codes, is to have them.
        if task.counted && !policy::gains(module.instructions(), module.storage_accesses()) {
            scratch.ir.recycle(module);
            return Err(CompileError::StorageBound);
        }
        let regions = self.regions(task, (clock, bounds), stats)?;
        let object = match (self.config.backend, self.library) {
            (Backend::Native, Some(library)) => {
                let code = (&module, around.unwrap_or(&regions).as_ref());
                let tier0 = &mut scratch.tier0;
                Some(self.codegen(task, library, code, (clock, bounds), tier0, stats)?)
            }
            (Backend::Native, None) => return Err(CompileError::Disabled),
            (Backend::Evaluator, _) => None,
        };
        Ok(Made { module, regions, object })
    }

    /// Makes the same once more, with buffers that nobody used, and compares.
    #[cold]
    fn again(
        &self,
        task: &Task<'_>,
        first: &Made,
        clock: &Clock,
        stats: &mut Stats,
    ) -> Result<(), CompileError> {
        let mut more = Stats::default();
        let (around, scratch) = (Some(&first.regions), &mut Scratch::default());
        let second = self.make(task, around, clock, scratch, &mut more);
        stats.analyse_ns += more.analyse_ns;
        stats.lower_ns += more.lower_ns;
        stats.optimise_ns += more.optimise_ns;
        stats.codegen_ns += more.codegen_ns;
        stats.worker_cpu_ns += more.worker_cpu_ns;
        let differences = match &second {
            Ok(second) => first.differences(second, (stats.region_errors, more.region_errors)),
            Err(CompileError::Cancelled(cancelled)) => return Err((*cancelled).into()),
            Err(error @ CompileError::NoWorker(_)) => {
                return Err(CompileError::NoWorker(error.to_string()));
            }
            Err(error) => vec![format!("only the first time: {error}")],
        };
        stats.twice_checked += 1;
        if differences.is_empty() {
            return Ok(());
        }
        stats.twice_differences += 1;
        Err(CompileError::Differs { check: Check::Twice, differences })
    }

    /// Makes a program of it.
    fn finish(
        &self,
        task: &Task<'_>,
        Made { module, regions, object }: Made,
        clock: &Clock,
        scratch: &mut Scratch,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        let Subject { bytecode, baked, .. } = task.subject;
        let Some(object) = object else {
            return Ok(Program::evaluated(bytecode.clone(), module, regions));
        };
        let program = if self.config.checks.reload {
            let code = (&module, regions.as_deref());
            let compiled = reload::artifact(self.config, (bytecode, baked), code, &object);
            self.reload(task, &compiled, clock, stats)
        } else {
            self.place(task, (&module, regions), &object, clock, stats)
        };
        scratch.ir.recycle(module);
        scratch.tier0.recycle(object.text);
        program
    }

    /// Encodes and decodes what was compiled, compares, and makes a program of what was decoded.
    #[cold]
    fn reload(
        &self,
        task: &Task<'_>,
        compiled: &Artifact,
        clock: &Clock,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        let result = clock.time(&mut stats.publish_ns, || self.reloaded(task, compiled));
        stats.reload_checked += 1;
        stats.reload_differences += u64::from(matches!(result, Err(CompileError::Differs { .. })));
        result
    }

    fn reloaded(&self, task: &Task<'_>, compiled: &Artifact) -> Result<Program, CompileError> {
        let fault = self.begin(Phase::Reload, task)?;
        self.begin(Phase::Publish, task)?;
        let differs = |differences| CompileError::Differs { check: Check::Reload, differences };
        let mut bytes = compiled.encode();
        if let (Fault::Flip, Some(byte)) = (&fault, bytes.last_mut()) {
            *byte ^= 1;
        }
        let mut artifact = Artifact::decode(&bytes, &compiled.key, &reload::LIMITS)
            .map_err(|error| differs(vec![format!("it can not be decoded: {error}")]))?;
        if fault == Fault::LoseEntry {
            artifact.entries = reload::lose_entry(&artifact.entries, artifact.bytecode.len());
        }
        let differences = reload::differences(compiled, &artifact);
        if !differences.is_empty() {
            return Err(differs(differences));
        }
        let Subject { bytecode, baked, .. } = task.subject;
        let place = place_in(self.memory, self.make_room);
        let register = |code: &_| self.observer.register(&task.subject, code);
        let program = match Program::from_artifact(artifact, bytecode.clone(), register, &place) {
            Ok(program) => program,
            Err(LoadError::Memory(error)) => return Err(error.into()),
            Err(error) => return Err(differs(vec![format!("it becomes no program: {error}")])),
        };
        // No store has it.
        program.set_unsaved();
        let differences = match program.to_artifact(compiled.key, baked) {
            Some(again) => reload::differences(compiled, &again),
            None => vec!["there is no artifact of it".to_owned()],
        };
        if differences.is_empty() { Ok(program) } else { Err(differs(differences)) }
    }

    /// The block IR of what is to be compiled.
    fn module(
        &self,
        task: &Task<'_>,
        (clock, bounds): (&Clock, Bounds<'_>),
        scratch: &mut kiln_ir::Scratch,
        stats: &mut Stats,
    ) -> Result<Module, CompileError> {
        let Subject { bytecode, baked, .. } = task.subject;
        let code = bytecode.original_byte_slice();
        let blocks = clock.time(&mut stats.analyse_ns, || {
            self.begin(Phase::Analyse, task)?;
            Ok(match (task.seen, bytecode.legacy_jump_table()) {
                (Some(seen), Some(table)) => {
                    let dests = JumpDests::from_bits(table.as_slice());
                    Blocks::at_leaders(code, dests, seen.leaders(), baked, bounds)?
                }
                _ => Blocks::scan(code, baked, bounds)?,
            })
        })?;
        clock.time(&mut stats.lower_ns, || {
            let fault = self.begin(Phase::Lower, task)?;
            let mut module = scratch.build(code, &blocks, baked, bounds, task.select)?;
            if fault == Fault::Overcharge {
                module.regions.iter_mut().for_each(|region| region.gas += 1);
            }
            Ok(module)
        })
    }

    /// The optimised regions that the program gets: those that it has, or new ones, if that is what is
    /// asked for.
    fn regions(
        &self,
        task: &Task<'_>,
        (clock, bounds): (&Clock, Bounds<'_>),
        stats: &mut Stats,
    ) -> Result<Option<Arc<Regions>>, CompileError> {
        let Subject { bytecode, baked, tier, .. } = task.subject;
        let there = task.optimised.as_ref();
        if tier == Tier::Baseline || there.is_some_and(|regions| regions.serve(tier, task.renew)) {
            return Ok(there.cloned());
        }
        let mut spent = 0;
        let mut fault = Fault::None;
        let regions = clock.time(&mut spent, || {
            fault = self.begin(Phase::Optimise, task)?;
            let least = self.config.region_executions.into();
            let share = task.profile.map_or(0, |seen| seen.runs_of_all() / REGION_SHARE);
            let optimiser = Optimiser {
                code: bytecode.original_byte_slice(),
                baked,
                bounds,
                count: &|pc| task.profile.map_or(1, |seen| seen.runs(pc)),
                choice: Choice { hot: share.max(least), regions_max: self.config.regions_max },
            };
            match (self.config.backend, tier) {
                (Backend::Evaluator, _) => optimiser.evaluated(stats),
                (Backend::Native, Tier::Tier1) => {
                    let tier1 = self.tier1.ok_or_else(|| {
                        CompileError::NoWorker("no worker, and no LLVM in this build".to_owned())
                    })?;
                    optimiser.tier1(tier1, self.config.optimise_deadline_ms, stats)
                }
                (Backend::Native, _) => optimiser.cranelift(stats),
            }
        });
        stats.optimise_ns += spent + stats.worker_cpu_ns;
        let mut regions = regions?;
        if let Fault::Output(bytes_min) = fault {
            regions.pad(bytes_min);
        }
        stats.optimised_regions += regions.len() as u64;
        stats.optimised_instructions += regions.instructions() as u64;
        stats.optimised_bytes += regions.text_bytes() as u64;
        Ok(Some(Arc::new(regions)))
    }

    /// Machine code, around the regions.
    fn codegen(
        &self,
        task: &Task<'_>,
        library: &Library,
        (module, regions): (&Module, Option<&Arc<Regions>>),
        (clock, bounds): (&Clock, Bounds<'_>),
        scratch: &mut kiln_tier0::Scratch,
        stats: &mut Stats,
    ) -> Result<CodeObject, CompileError> {
        clock.time(&mut stats.codegen_ns, || {
            let fault = self.begin(Phase::Codegen, task)?;
            let links = Regions::links(regions);
            let mut object = scratch.compile(library, module, &links, bounds)?;
            if let Fault::Output(bytes_min) = fault
                && object.text.len() < bytes_min
            {
                object.text.resize(bytes_min, 0);
            }
            // Whatever the compiler did to keep below it.
            let instructions = regions.map_or(0, |regions| regions.instructions());
            let instructions = module.instructions() + instructions;
            let (is, max) = (object.text.len(), bounds.limits.text_bytes_max(instructions));
            if is > max {
                return Err(kiln_tier0::CompileError::Text { is, max }.into());
            }
            Ok(object)
        })
    }

    /// Puts machine code where it can run.
    fn place(
        &self,
        task: &Task<'_>,
        (module, regions): (&Module, Option<Arc<Regions>>),
        object: &CodeObject,
        clock: &Clock,
        stats: &mut Stats,
    ) -> Result<Program, CompileError> {
        clock.time(&mut stats.publish_ns, || {
            self.begin(Phase::Publish, task)?;
            let place = place_in(self.memory, self.make_room);
            let code = place(&object.text)?;
            let registration = self.observer.register(&task.subject, &code);
            let (bytecode, placed) = (task.subject.bytecode.clone(), (code, registration));
            let code = (Counts::of(module), regions);
            let object = (object.code_len as u32, &object.entries);
            Ok(Program::native(bytecode, code, placed, object, &place)?)
        })
    }

    /// A phase begins; fault tests may have it fail here. Answers what else is to go wrong in it.
    fn begin(&self, phase: Phase, task: &Task<'_>) -> Result<Fault, CompileError> {
        let code = task.subject.bytecode.original_byte_slice();
        let fault = self.observer.hooks.phase(&PhaseStart { phase, code, stop: task.cancelled });
        if (task.cancelled)() {
            return Err(Cancelled.into());
        }
        match fault {
            Fault::Error(text) => Err(CompileError::Injected(text)),
            fault => Ok(fault),
        }
    }
}

/// Places code, and makes room for it if there is none.
pub(crate) fn place_in<'a>(
    memory: &'a CodeMemory,
    make_room: &'a dyn Fn(usize) -> bool,
) -> impl Fn(&[u8]) -> Result<CodeBlock, MemoryError> + 'a {
    move |bytes| match memory.place(bytes) {
        Err(MemoryError::Full { .. }) if make_room(bytes.len()) => memory.place(bytes),
        placed => placed,
    }
}

/// CPU time of this thread. Reading it is a system call, so it is read once a phase: a phase begins
/// where the last one ended.
struct Clock {
    start: u64,
    last: Cell<u64>,
}

impl Clock {
    fn start() -> Self {
        let start = thread_cpu_ns();
        Self { start, last: Cell::new(start) }
    }

    /// Adds to `spent` what `act` takes, and what went before it since the last phase.
    fn time<R>(
        &self,
        spent: &mut u64,
        act: impl FnOnce() -> Result<R, CompileError>,
    ) -> Result<R, CompileError> {
        let result = act();
        let now = thread_cpu_ns();
        *spent += now.saturating_sub(self.last.replace(now));
        result
    }

    /// Up to the end of the last phase.
    fn elapsed(&self) -> u64 {
        self.last.get().saturating_sub(self.start)
    }
}
