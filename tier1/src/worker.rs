//! The worker process: a child in which LLVM runs, so that what goes wrong there costs one job.
//!
//! **Owns** the protocol between a process and its workers, the limits a worker sets itself, the client
//! ([`Pool`]) and the server ([`serve_if_worker`]). Builds without LLVM: what compiles is an argument of
//! the server, and a client needs none.
//!
//! **Callers guarantee** that an application which serves calls [`serve_if_worker`] first thing in `main`,
//! and that the process of a [`Pool`] neither ignores SIGCHLD nor reaps children that are not its own.
//! Nothing of the jobs, and nothing of the executable: one that is no worker, or one of another build, is
//! refused.
//!
//! **Never** starts a thread in the client, lets a child outlive its pool or its parent, or trusts an answer
//! further than that its code may be run: lengths, offsets and pcs are checked first.
//!
//! ```text
//! parent                                child
//!   hello, limits      ->                 checks the hello, sets its limits
//!                      <-  hello
//!   job                ->                 compiles
//!   cancel (perhaps)   ->                 looks for it when the compiler asks
//!                      <-  answer
//!   end of stream      ->                 exits; in the middle of a job it kills itself
//! ```
//!
//! Both ends are one socket, the child's standard input. So what a library prints can not end up in the
//! protocol, and a write to a dead worker is an error and no SIGPIPE. A worker learns of its parent's end from
//! the socket, not from a parent-death signal: that one comes when the *thread* that started it ends.

mod assembler;
mod backoff;
mod channel;
mod child;
mod error;
mod executable;
mod job;
mod limits;
#[cfg(feature = "llvm")]
mod llvm;
mod objects;
mod pool;
mod regions;
mod server;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use error::WorkerError;
pub use executable::Executable;
pub use job::{Answer, JobError, JobRequest, Phases, Target};
#[cfg(feature = "llvm")]
pub use llvm::compile_with_llvm;
pub use pool::{Pool, PoolConfig, PoolStats};
pub use regions::compile_regions;
pub use server::serve_if_worker;

use kiln_ir::identity::Identity;
use std::sync::LazyLock;

/// The argument that makes an executable a worker: the first one.
pub const ARGUMENT: &str = "__kiln-tier1-worker";

/// What a worker and its parent must agree on: this crate makes the code, too.
fn identity() -> &'static Identity {
    static OURS: LazyLock<Identity> = LazyLock::new(|| Identity::ours().with(crate::SOURCE));
    &OURS
}
