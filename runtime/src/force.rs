//! Modes for tests that make rare transitions frequent: leaving compiled code, exchanging the
//! program of a running frame, dropping it.
//!
//! **Owns** the options, and the counters that decide which transition is due: one set for each
//! [`crate::Tiered`], no clock and no seed, so that a run can be repeated exactly. **Never** changes
//! a result.

use std::{fmt, num::NonZeroU32, str::FromStr};
use thiserror::Error;

/// Transitions that are forced. None by default.
///
/// A *safepoint* is an entry into compiled code from the frame loop. As text, for [`FromStr`] and
/// [`fmt::Display`]: parts separated by commas, `exit=3,swap=1,evict=7,promote`, or `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Force {
    /// Compile whole codes at their first frame, whatever the other options say.
    pub promote: bool,
    /// At every n-th safepoint, interpret a block instead. And leave about one block of `n + 1` out
    /// of every program, other ones each time a code is compiled, so that compiled code is left in
    /// front of them.
    pub exit_every: Option<NonZeroU32>,
    /// At every n-th safepoint, compile the code again, publish the new program, and go on in it.
    pub swap_every: Option<NonZeroU32>,
    /// At every n-th safepoint, drop the program and go on in the interpreter: to the n-th JUMPDEST,
    /// if the frame gets that far, where the code is compiled again.
    pub evict_every: Option<NonZeroU32>,
}

impl Force {
    /// Nothing is forced.
    pub const NONE: Self =
        Self { promote: false, exit_every: None, swap_every: None, evict_every: None };
}

/// Not the text of a [`Force`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{part}` is none of exit=N, swap=N, evict=N (N from 1 upwards), promote, none")]
pub struct ParseForceError {
    part: String,
}

impl FromStr for Force {
    type Err = ParseForceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut force = Self::NONE;
        if text == "none" {
            return Ok(force);
        }
        for part in text.split(',') {
            let error = || ParseForceError { part: part.to_owned() };
            if part == "promote" {
                force.promote = true;
                continue;
            }
            let (name, count) = part.split_once('=').ok_or_else(error)?;
            let count = count.parse::<NonZeroU32>().map_err(|_| error())?;
            *match name {
                "exit" => &mut force.exit_every,
                "swap" => &mut force.swap_every,
                "evict" => &mut force.evict_every,
                _ => return Err(error()),
            } = Some(count);
        }
        Ok(force)
    }
}

impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counted =
            [("exit", self.exit_every), ("swap", self.swap_every), ("evict", self.evict_every)];
        let mut parts: Vec<String> = counted
            .into_iter()
            .filter_map(|(name, every)| every.map(|every| format!("{name}={every}")))
            .collect();
        if self.promote {
            parts.push("promote".to_owned());
        }
        if parts.is_empty() { f.write_str("none") } else { f.write_str(&parts.join(",")) }
    }
}
