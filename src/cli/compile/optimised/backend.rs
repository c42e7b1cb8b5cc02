//! The compilers of regions, behind one interface.
//!
//! **Owns** which of them this build has. **Callers guarantee** nothing. **Never** chooses regions.

use super::{super::Compiler, CliError, Emit, stages::Stage};
use kiln_abi::{CodeObject, Pc};
use kiln_ir::{Limits, ssa::Function};

/// A region to be compiled.
#[derive(Clone, Copy)]
pub(super) struct Region<'a> {
    pub(super) function: &'a Function,
    pub(super) limits: &'a Limits,
    /// Names the instruction of the bytecode at a pc.
    pub(super) label: &'a dyn Fn(Pc) -> String,
}

/// A compiler of regions. What it refuses, it says why.
pub(super) trait Backend {
    /// Compiles; `ended` is told where a stage ends.
    fn compile(
        &mut self,
        region: Region<'_>,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<CodeObject, String>;

    /// A text that only this compiler has, or the assembly.
    fn form(&mut self, region: Region<'_>, emit: Emit) -> Result<String, String>;

    /// The object file that the compiler makes, before it is loaded.
    fn object(&mut self, region: Region<'_>) -> Result<Vec<u8>, String>;
}

/// The compiler of this name.
pub(super) fn backend(compiler: Compiler) -> Result<Box<dyn Backend>, CliError> {
    match compiler {
        Compiler::Tier0 | Compiler::Optimised => Ok(Box::new(Cranelift::new()?)),
        Compiler::Tier1 => tier1(),
    }
}

#[cfg(feature = "llvm")]
fn tier1() -> Result<Box<dyn Backend>, CliError> {
    Ok(Box::new(super::llvm::Llvm::new()?))
}

#[cfg(not(feature = "llvm"))]
fn tier1() -> Result<Box<dyn Backend>, CliError> {
    let what = "tier1 is LLVM, which this kiln was built without: build it with the feature `llvm`";
    Err(CliError::Engine(what.to_owned()))
}

struct Cranelift(kiln_tier0::region::Compiler);

impl Cranelift {
    fn new() -> Result<Self, CliError> {
        let compiler = kiln_tier0::region::Compiler::new();
        Ok(Self(compiler.map_err(|error| CliError::Engine(error.to_string()))?))
    }
}

impl Backend for Cranelift {
    fn compile(
        &mut self,
        region: Region<'_>,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<CodeObject, String> {
        let mut ended = |stage: kiln_tier0::region::Stage| ended(stage.into());
        let object = self.0.compile_staged(region.function, region.limits, &mut ended);
        object.map_err(|error| error.to_string())
    }

    fn form(&mut self, region: Region<'_>, emit: Emit) -> Result<String, String> {
        let Region { function, limits, label } = region;
        let text = match emit {
            Emit::Clif => self.0.clif(function, label),
            _ => self.0.disassemble(function, limits, label),
        };
        text.map_err(|error| error.to_string())
    }

    fn object(&mut self, _: Region<'_>) -> Result<Vec<u8>, String> {
        Err("Cranelift's code is in no object file".to_owned())
    }
}
