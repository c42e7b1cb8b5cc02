//! What may go wrong with files.
//!
//! **Owns** the errors: each names the path and the reason. **Never** decides what becomes of them.

use crate::{DecodeError, FORMAT};
use rustix::io::Errno;
use std::{fmt, io, path::PathBuf};
use thiserror::Error;

/// A file or folder that this process does not trust, or is none.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("it is {is}; it should be {should}")]
pub struct Refused {
    /// What it is.
    pub is: String,
    /// What it should be.
    pub should: String,
}

/// Why a store can not be used, or something could not be done.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system does not let it.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// Which file or folder.
        path: PathBuf,
        /// What was to be done.
        doing: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// Not the user's own, for others to write, or something else than a file or folder.
    #[error("{}: {refused}", path.display())]
    Refused {
        /// Which file or folder.
        path: PathBuf,
        /// What it is and should be.
        refused: Refused,
    },
    /// Something else than a store.
    #[error("{}: it is not a store: {reason}", path.display())]
    NotAStore {
        /// The folder, or the file that says so.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Made by a newer build.
    #[error("{}: the store is of format {found}, and this build knows {FORMAT}", path.display())]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// The version it says.
        found: u32,
    },
    /// The store was opened read-only.
    #[error("{}: {doing}: the store was opened read-only", path.display())]
    ReadOnly {
        /// The store.
        path: PathBuf,
        /// What was to be done.
        doing: &'static str,
    },
    /// An archive can not be read or written, or is none.
    #[error("the archive: {doing}: {source}")]
    Archive {
        /// What was to be done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Another process has held the lock all the time.
    #[error("{}: another process holds the lock", path.display())]
    Busy {
        /// The lock's file.
        path: PathBuf,
    },
}

impl StoreError {
    /// Whether the next attempt will most likely fail as well: the disk is full, the folder is not there any more, is
    /// not ours to write, or fails itself.
    pub fn is_lasting(&self) -> bool {
        let Self::Io { source, .. } = self else { return !matches!(self, Self::Busy { .. }) };
        let lasting = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::ROFS,
            Errno::ACCESS,
            Errno::PERM,
            Errno::IO,
            Errno::NOENT,
            Errno::NOTDIR,
            Errno::STALE,
            Errno::NOTSUP,
            Errno::NOSYS,
            Errno::NOLCK,
        ];
        Errno::from_io_error(source).is_some_and(|errno| lasting.contains(&errno))
    }
}

/// Why a file is not used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BadReason {
    /// It is not trusted, or no file.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// What is in it is not what should be.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// An archive has it, and it is not for a store.
    #[error("it is no file of a store")]
    Unknown,
}

/// A file that is there and not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Where it was.
    pub path: PathBuf,
    /// Why.
    pub reason: BadReason,
    /// Whether it was moved out of the way. It is not where the store is read-only, and where others might use it.
    pub set_aside: bool,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, reason, set_aside } = self;
        let then = if *set_aside { " (set aside)" } else { "" };
        write!(f, "{}: {reason}{then}", path.display())
    }
}
