//! What may go wrong between a process and its workers.

use super::JobError;
use std::{io, process::ExitStatus, time::Instant};
use thiserror::Error;

/// Why a worker did not answer a job. But for [`WorkerError::Refused`], [`WorkerError::Unavailable`] and
/// a request that is too long, the worker that had it is gone, or was never there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// No process could be started.
    #[error("no worker process can be started")]
    Spawn(#[source] io::Error),
    /// The executable does not answer as a worker does.
    #[error("no worker: {why}")]
    Handshake {
        /// What it did instead.
        why: String,
    },
    /// The executable is a worker of another build, or sees another CPU.
    #[error("the worker is {theirs}, and this is {ours}")]
    Version {
        /// This process.
        ours: String,
        /// The worker.
        theirs: String,
    },
    /// The worker ended in the middle of the job.
    #[error("the worker ended: {}{stderr}", ended(.status))]
    Crashed {
        /// How, where it is known.
        status: Option<ExitStatus>,
        /// What it wrote to its standard error: the first KiB, and the last three.
        stderr: String,
    },
    /// The job's time was over.
    #[error("the job passed its deadline")]
    Deadline,
    /// The caller called it off.
    #[error("the job was called off")]
    Cancelled,
    /// What the worker sent is no answer to this job.
    #[error("no answer: {why}")]
    Garbage {
        /// What is wrong with it.
        why: String,
    },
    /// The request, or what the worker announced, is over the limit for one message.
    #[error("a {what} of {bytes} bytes, of {max} at most")]
    TooLong {
        /// Which of them.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The compiler refused the job; the worker goes on. Never [`JobError::Cancelled`].
    #[error(transparent)]
    Refused(JobError),
    /// Too many failures in a row: no worker is started for a while.
    #[error("too many workers failed in a row")]
    Unavailable {
        /// When it is tried again.
        until: Instant,
    },
}

/// What to say of how a process ended, in front of what it wrote.
pub(super) fn ended(status: &Option<ExitStatus>) -> String {
    status.map_or("its status is not known; ".into(), |status| format!("{status}; "))
}

impl WorkerError {
    /// What it says about the workers as such: whether something is wrong with them.
    pub(super) fn is_failure(&self) -> bool {
        match self {
            Self::Spawn(_)
            | Self::Handshake { .. }
            | Self::Version { .. }
            | Self::Crashed { .. }
            | Self::Garbage { .. }
            | Self::TooLong { .. } => true,
            Self::Deadline | Self::Cancelled | Self::Refused(_) | Self::Unavailable { .. } => false,
        }
    }
}
