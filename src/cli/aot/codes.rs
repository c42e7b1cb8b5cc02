//! The codes that are to be compiled: of arguments, of fixtures, of state tests.

use super::super::{code, error::CliError};
use kiln::{
    fixture::{self, FixtureErrorKind, parse_spec},
    statetest,
};
use revm::{
    bytecode::Bytecode,
    primitives::{Bytes, hardfork::SpecId},
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// A code and the fork it is for.
#[derive(Clone, Debug)]
pub(super) struct Code {
    pub(super) bytecode: Bytecode,
    pub(super) spec: SpecId,
    /// Which argument it is from: the first of several.
    pub(super) argument: usize,
}

/// The codes of all arguments in their order, each once for each fork. Empty ones and delegations, which are nothing to
/// compile, are not among them.
pub(super) fn read(arguments: &[String], spec: SpecId) -> Result<Vec<Code>, CliError> {
    let mut codes = Codes::default();
    for (index, argument) in arguments.iter().enumerate() {
        codes.argument = index;
        let path = Path::new(argument);
        if argument.starts_with("0x") || !(path.is_dir() || is_json(path)) {
            codes.add(&code::read(argument)?, spec);
            continue;
        }
        for path in fixture::load_all(&[path.to_path_buf()])? {
            codes.add_file(&path)?;
        }
    }
    Ok(codes.codes)
}

/// Whether a file is a fixture or a state test by its name.
fn is_json(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".json") || name.ends_with(".json.gz")
}

#[derive(Default)]
struct Codes {
    /// The one that is being read.
    argument: usize,
    codes: Vec<Code>,
    known: HashSet<(Bytes, SpecId)>,
}

impl Codes {
    fn add(&mut self, code: &Bytes, spec: SpecId) {
        // Bytes that look like a delegation but are none are code like any other.
        let bytecode = Bytecode::new_raw_checked(code.clone())
            .unwrap_or_else(|_| Bytecode::new_legacy(code.clone()));
        let compiles = bytecode.is_legacy() && !bytecode.is_empty();
        if compiles && self.known.insert((code.clone(), spec)) {
            self.codes.push(Code { bytecode, spec, argument: self.argument });
        }
    }

    /// A fixture under its fork, or a state test's codes under each of its forks.
    fn add_file(&mut self, path: &PathBuf) -> Result<(), CliError> {
        let loaded = match fixture::load(path) {
            Ok(loaded) => loaded.fixture,
            Err(error) if matches!(error.kind, FixtureErrorKind::Json(_)) => {
                // Neither: then it was more likely meant as a fixture.
                let codes = statetest::codes(path).map_err(|_| error)?;
                codes.iter().for_each(|(spec, code)| self.add(code, *spec));
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let spec = parse_spec(&loaded.fork)
            .ok_or_else(|| FixtureErrorKind::Fork(loaded.fork.clone()).at(path))?;
        loaded.codes.values().for_each(|code| self.add(code, spec));
        Ok(())
    }
}
