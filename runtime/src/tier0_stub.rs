#![allow(missing_docs, dead_code)]
use thiserror::Error;
#[derive(Debug)]
pub struct Library;
#[derive(Debug, Error)]
#[error("no")]
pub struct LibraryError;
#[derive(Debug, Error)]
#[error("no")]
pub struct CompileError;
impl Library {
    pub fn new() -> Result<Self, LibraryError> {
        Err(LibraryError)
    }
    pub fn trampoline(&self) -> &[u8] {
        &[]
    }
}
pub fn compile(_: &Library, _: &kiln_ir::Module) -> Result<kiln_abi::CodeObject, CompileError> {
    Err(CompileError)
}
