//! What is wrong with options.

use super::variables::VARIABLES;
use thiserror::Error;

/// What is wrong with options. The texts name the culprit and say what would be right.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A `KILN_*` variable that means nothing.
    #[error("{name:?} is no variable of kiln; there are {}", names())]
    Unknown {
        /// Its name; what is not Unicode is replaced.
        name: String,
    },
    /// A variable with a value that can not be read, or is out of range.
    #[error("{name}={value:?}: expected {expected}")]
    Value {
        /// Its name.
        name: &'static str,
        /// Its value; what is not Unicode is replaced.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A field of [`crate::Config`] that is out of range.
    #[error("{field} is {value}: expected {expected}")]
    Field {
        /// Its path.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
}

fn names() -> String {
    let names: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    names.join(", ")
}
