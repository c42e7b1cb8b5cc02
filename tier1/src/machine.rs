//! What LLVM is told of the machine and of itself.
//!
//! **Owns** the target machine of one thread, the passes, and what becomes of LLVM's complaints. **Callers
//! guarantee** nothing. **Never** builds a function.
//!
//! LLVM reports errors in what it is given through the diagnostics of a context, which are collected here and
//! fail the compilation. What it takes for broken in itself (`report_fatal_error`, failed allocations) ends the
//! process, and no handler may return: that is what worker processes are for.

use crate::worker::Target;
use inkwell::{
    OptimizationLevel,
    context::Context,
    llvm_sys::{
        LLVMDiagnosticSeverity,
        core::{
            LLVMContextSetDiagnosticHandler, LLVMDisposeMessage, LLVMGetDiagInfoDescription,
            LLVMGetDiagInfoSeverity,
        },
        prelude::LLVMDiagnosticInfoRef,
        support::LLVMParseCommandLineOptions,
    },
    memory_buffer::MemoryBuffer,
    module::{FlagBehavior, Module},
    passes::PassBuilderOptions,
    targets::{
        CodeModel, FileType, InitializationConfig, RelocMode, Target as LlvmTarget, TargetMachine,
        TargetTriple,
    },
};
use kiln_abi::envelope::STACK_ALIGN;
use std::{cell::RefCell, ffi::CStr, ffi::c_void, sync::Once};
use thiserror::Error;

/// Why there is no compiler.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CompilerError {
    /// Tier 1 does not run here.
    #[error("tier 1 supports x86-64 Linux only")]
    Unsupported,
    /// LLVM does not know the target.
    #[error("LLVM: {0}")]
    Llvm(String),
}

/// The passes between the functions as they are built and code generation. Functions come optimised: what is left
/// is to read fields of the context once. Longer pipelines, up to `default<O2>`, made code that was no faster,
/// and `instcombine` undoes what keeps words out of the native stack in loops.
const PASSES: &str = "function(early-cse<memssa>,simplifycfg)";
/// The next level takes a tenth more time for code of the same size and speed; the one below takes half, for code
/// twice as large.
const LEVEL: OptimizationLevel = OptimizationLevel::Less;
/// Options of LLVM's that are the process's. Loop strength reduction would carry gas and polls through loops next
/// to the rounds that stand for both.
const OPTIONS: [&CStr; 2] = [c"kiln", c"-disable-lsr"];

fn set_options() {
    let options = OPTIONS.map(CStr::as_ptr);
    // SAFETY: pointers to that many strings, which LLVM reads during the call; `Machine::new` calls this once in a
    // process, before it makes a machine, and nothing else of kiln sets options.
    unsafe {
        LLVMParseCommandLineOptions(options.len() as i32, options.as_ptr(), std::ptr::null());
    }
}

/// LLVM's code generator for one target.
#[derive(Debug)]
pub(crate) struct Machine {
    machine: TargetMachine,
    triple: TargetTriple,
    /// Whether the CPU has vectors of 256 bits.
    pub(crate) has_avx: bool,
}

impl Machine {
    pub(crate) fn new(target: Target) -> Result<Self, CompilerError> {
        if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
            return Err(CompilerError::Unsupported);
        }
        static INITIALIZE: Once = Once::new();
        INITIALIZE.call_once(|| {
            LlvmTarget::initialize_x86(&InitializationConfig {
                asm_parser: false,
                disassembler: false,
                ..InitializationConfig::default()
            });
            set_options();
        });
        let triple = TargetTriple::create("x86_64-unknown-linux-gnu");
        let llvm = LlvmTarget::from_triple(&triple)
            .map_err(|error| CompilerError::Llvm(error.to_string()))?;
        let (cpu, features) = match target {
            Target::Host => (
                TargetMachine::get_host_cpu_name().to_string(),
                TargetMachine::get_host_cpu_features().to_string(),
            ),
            Target::Baseline => ("x86-64-v3".to_owned(), String::new()),
        };
        let machine = llvm.create_target_machine(
            &triple,
            &cpu,
            &features,
            LEVEL,
            RelocMode::PIC,
            CodeModel::Small,
        );
        let machine =
            machine.ok_or_else(|| CompilerError::Llvm(format!("no target machine for {cpu}")))?;
        let has_avx = match target {
            Target::Host => features.split(',').any(|feature| feature == "+avx"),
            Target::Baseline => true,
        };
        Ok(Self { machine, triple, has_avx })
    }

    /// Makes a module one for this target.
    pub(crate) fn prepare(&self, module: &Module<'_>) {
        module.set_triple(&self.triple);
        module.set_data_layout(&self.machine.get_target_data().get_data_layout());
        let align = module.get_context().i32_type().const_int(STACK_ALIGN.into(), false);
        module.add_basic_value_flag("override-stack-alignment", FlagBehavior::Error, align);
    }

    /// Optimises the functions of a module.
    pub(crate) fn optimise(&self, module: &Module<'_>) -> Result<(), String> {
        let options = PassBuilderOptions::create();
        options.set_verify_each(cfg!(debug_assertions));
        module.run_passes(PASSES, &self.machine, options).map_err(|error| error.to_string())
    }

    /// An object of a module that was optimised.
    pub(crate) fn object(&self, module: &Module<'_>) -> Result<MemoryBuffer<'static>, String> {
        self.machine
            .write_to_memory_buffer(module, FileType::Object)
            .map_err(|error| error.to_string())
    }
}

/// What LLVM complains of in one context.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    errors: RefCell<Vec<String>>,
}

impl Complaints {
    /// Collects those of a context; without this LLVM prints them and ends the process.
    ///
    /// # Safety
    /// The complaints outlive the context, and both stay on this thread.
    pub(crate) unsafe fn listen(&self, context: &Context) {
        let to = std::ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: the handler reads `to` as what it is; the caller keeps it alive as long as the context.
        unsafe { LLVMContextSetDiagnosticHandler(context.raw(), Some(complain), to) };
    }

    /// The first error, if there was one.
    pub(crate) fn first(&self) -> Option<String> {
        self.errors.borrow_mut().drain(..).next()
    }
}

extern "C" fn complain(info: LLVMDiagnosticInfoRef, to: *mut c_void) {
    // SAFETY: LLVM passes a diagnostic that lives during the call, and `to` as `listen` gave it; the
    // description is LLVM's to free.
    unsafe {
        if LLVMGetDiagInfoSeverity(info) != LLVMDiagnosticSeverity::LLVMDSError {
            return;
        }
        let description = LLVMGetDiagInfoDescription(info);
        let text = CStr::from_ptr(description).to_string_lossy().into_owned();
        LLVMDisposeMessage(description);
        let complaints = &*to.cast::<Complaints>();
        complaints.errors.borrow_mut().push(text);
    }
}
