//! LLVM as a compiler of regions.
//!
//! **Owns** the way from a region to what `kiln compile --tier tier1` shows. **Callers guarantee** nothing.
//! **Never** uses a worker process: what is shown is wanted for what it is.

use super::{
    CliError, Emit,
    backend::{Backend, Region},
    stages::Stage,
};
use kiln_abi::CodeObject;
use kiln_tier0::region::assembly;
use kiln_tier1::{Compiler, Target, Traced};

pub(super) struct Llvm(Compiler);

impl Llvm {
    /// For the CPU this runs on.
    pub(super) fn new() -> Result<Self, CliError> {
        let compiler = Compiler::new(Target::Host);
        Ok(Self(compiler.map_err(|error| CliError::Engine(error.to_string()))?))
    }
}

impl Backend for Llvm {
    fn compile(
        &mut self,
        region: Region<'_>,
        ended: &mut dyn FnMut(Stage),
    ) -> Result<CodeObject, String> {
        let mut ended = |stage: kiln_tier1::Stage| {
            ended(match stage {
                kiln_tier1::Stage::Lower => Stage::Lower,
                kiln_tier1::Stage::Passes => Stage::Passes,
                kiln_tier1::Stage::Codegen => Stage::Codegen,
                kiln_tier1::Stage::Load => Stage::Load,
            });
        };
        let object = self.0.compile_staged(region.function, region.limits, &mut ended);
        object.map_err(|error| error.to_string())
    }

    fn form(&mut self, region: Region<'_>, emit: Emit) -> Result<String, String> {
        let Region { function, limits, label } = region;
        let text = match emit {
            Emit::Llvm => self.0.labelled_llvm_ir(function, limits, label),
            _ => self
                .0
                .trace(function, limits)
                .map(|Traced { object, origins }| assembly(&object, &origins, label)),
        };
        text.map_err(|error| error.to_string())
    }

    fn object(&mut self, region: Region<'_>) -> Result<Vec<u8>, String> {
        let object = self.0.object_bytes(region.function, region.limits);
        object.map_err(|error| error.to_string())
    }
}
