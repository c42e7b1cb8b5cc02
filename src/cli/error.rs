//! What ends the command early.

use kiln::{fixture::FixtureError, statetest::StateTestError};
use kiln_store::StoreError;
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use thiserror::Error;

/// What ends the command early: bad input, or output that nobody reads.
#[derive(Debug, Error)]
pub(crate) enum CliError {
    /// A fixture that can not be used.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// A state test that can not be used.
    #[error(transparent)]
    StateTest(#[from] StateTestError),
    /// A file that can not be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// An argument that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// The engine does not start here.
    #[error("{0}")]
    Engine(String),
    /// A store that can not be used.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// Standard output can not be written.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Says what is wrong on standard error, and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        if let Self::Output(error) = self
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Whoever reads the output has seen enough.
            return ExitCode::SUCCESS;
        }
        // Nothing is left to tell if standard error is closed as well.
        let _ = writeln!(io::stderr(), "error: {self}");
        ExitCode::from(2)
    }
}
