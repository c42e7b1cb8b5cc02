//! What can be wrong with a state test, or with its result.

use revm::primitives::{B256, Bytes};
use std::{io, path::PathBuf};
use thiserror::Error;

/// A file that can not be used.
#[derive(Debug, Error)]
pub enum StateTestError {
    /// The file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: io::Error,
    },
    /// The file is not what it should be.
    #[error("{}: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: serde_json::Error,
    },
    /// A line of golden results is not what it should be.
    #[error("{}: line {line}: {error}", path.display())]
    Golden {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The reason.
        error: serde_json::Error,
    },
    /// A file that names transaction parts which are not there, or values out of range.
    #[error("{}: test {test}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The test.
        test: String,
        /// What is wrong.
        what: &'static str,
    },
}

/// How a variant differs from what is expected of it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum VariantError {
    /// An exception without reason, or none where one was due.
    #[error("exception is {}, expected {}", or_none(actual), or_none(expected))]
    Exception {
        /// What the test expects.
        expected: Option<String>,
        /// What there was.
        actual: Option<String>,
    },
    /// Other output.
    #[error("output is {actual}, expected {expected}")]
    Output {
        /// What the test expects.
        expected: Bytes,
        /// What there was.
        actual: Bytes,
    },
    /// Other logs.
    #[error("logs root is {actual}, expected {expected}")]
    LogsRoot {
        /// What the test expects.
        expected: B256,
        /// What there was.
        actual: B256,
    },
    /// Another state.
    #[error("state root is {actual}, expected {expected}")]
    StateRoot {
        /// What the test expects.
        expected: B256,
        /// What there was.
        actual: B256,
    },
    /// Not what the golden file has.
    #[error("{what} is {actual}, golden is {golden}")]
    Golden {
        /// Which field.
        what: &'static str,
        /// The golden value.
        golden: String,
        /// What there was.
        actual: String,
    },
    /// Two engines do not do the same.
    #[error("not what the interpreter does: {}", details.join("; "))]
    Engines {
        /// In what, one line each.
        details: Vec<String>,
    },
    /// The golden file has the test's file, but not this variant.
    #[error("no golden result for this variant")]
    NoGolden,
}

fn or_none(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or("none")
}
