//! What is measured: fixtures of contracts.

use crate::BenchError;
use kiln::fixture::{self, Loaded, Prepared, load_all};
use std::path::{Path, PathBuf};

/// A fixture, ready to be run.
#[derive(Debug)]
pub struct Subject {
    /// The file and its contents.
    pub loaded: Loaded,
    /// In revm's types.
    pub prepared: Prepared,
}

/// Where the fixtures are: the folder that is named, or its `contracts`; else the workloads of this
/// repository.
pub fn folder(named: Option<PathBuf>) -> PathBuf {
    let Some(named) = named else {
        return Path::new(env!("CARGO_MANIFEST_DIR")).join("../workloads");
    };
    let contracts = named.join("contracts");
    if contracts.is_dir() { contracts } else { named }
}

/// Reads all fixtures of a folder.
///
/// # Errors
/// The first that can not be used.
pub fn subjects(folder: PathBuf) -> Result<Vec<Subject>, BenchError> {
    let subject = |path: &PathBuf| {
        let loaded = fixture::load(path)?;
        let prepared = Prepared::new(&loaded.fixture).map_err(|kind| kind.at(path))?;
        Ok(Subject { loaded, prepared })
    };
    load_all(&[folder])?.iter().map(subject).collect()
}
