//! What an engine makes sure of about itself while it runs.
//!
//! **Owns** the options, and what is told of a difference ([`Report`]): `twice` compares what compilers make, `shadow`
//! compares frame runs with the interpreter, `reload` runs what was encoded and decoded.
//!
//! **Callers guarantee** nothing. **Never** changes a result: what a check finds costs a code its program.

pub(crate) mod reload;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod shadow;
pub(crate) mod twice;

pub use report::Report;

use std::{fmt, num::NonZeroU32, str::FromStr};
use thiserror::Error;

/// A check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Check {
    /// Programs are encoded, decoded, compared, and the decoded ones run.
    Reload,
    /// Everything is compiled twice and compared.
    Twice,
    /// Frame runs are compared with the interpreter's.
    Shadow,
}

impl Check {
    /// As it is written in options, reports and events.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Twice => "twice",
            Self::Shadow => "shadow",
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Checks that an engine makes. None by default.
///
/// As text, for [`FromStr`] and [`fmt::Display`]: parts separated by commas, `reload,twice,shadow=1000`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checks {
    /// Each program is encoded as an artifact and decoded, both are compared, and the decoded one is published.
    pub reload: bool,
    /// Each program, and each set of optimised regions, is compiled twice, and text, entries and counts are compared.
    pub twice: bool,
    /// One of so many frames that begin, of codes that have a program, is run by the interpreter and by compiled code,
    /// up to its end or its first call or create. Compared are the action, the state, and the calls of the host with
    /// their arguments. The result is the interpreter's. Frames of an EVM that replaces instructions are not checked.
    pub shadow: Option<NonZeroU32>,
}

impl Checks {
    /// Nothing is checked.
    pub const NONE: Self = Self { reload: false, twice: false, shadow: None };
}

/// Not the text of [`Checks`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{part}` is none of reload, twice, shadow=N (N from 1 upwards), none")]
pub struct ParseChecksError {
    part: String,
}

impl FromStr for Checks {
    type Err = ParseChecksError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut checks = Self::NONE;
        if text == "none" {
            return Ok(checks);
        }
        for part in text.split(',') {
            let error = || ParseChecksError { part: part.to_owned() };
            match part.split_once('=') {
                None if part == "reload" => checks.reload = true,
                None if part == "twice" => checks.twice = true,
                Some(("shadow", every)) => {
                    checks.shadow = Some(every.parse().map_err(|_| error())?);
                }
                _ => return Err(error()),
            }
        }
        Ok(checks)
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.reload.then(|| "reload".to_owned()));
        parts.extend(self.twice.then(|| "twice".to_owned()));
        parts.extend(self.shadow.map(|every| format!("shadow={every}")));
        if parts.is_empty() { f.write_str("none") } else { f.write_str(&parts.join(",")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips() {
        for text in ["none", "reload", "twice", "shadow=1", "reload,twice,shadow=1000"] {
            let checks: Checks = text.parse().unwrap();
            assert_eq!(checks.to_string(), text);
        }
        let checks: Checks = "shadow=7,twice".parse().unwrap();
        assert_eq!(checks, Checks { twice: true, shadow: NonZeroU32::new(7), ..Checks::NONE });
        for text in [
            "",
            "shadow",
            "shadow=0",
            "shadow=-1",
            "shadow=x",
            "twice=2",
            "twice,",
            "none,none",
            "Twice",
        ] {
            let error = text.parse::<Checks>().unwrap_err().to_string();
            assert!(error.contains("shadow=N"), "{error}");
        }
    }
}
