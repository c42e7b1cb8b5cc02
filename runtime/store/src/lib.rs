//! Compiled code in files, so that a process begins with what others made.
//!
//! **Owns** the formats and the files: what an artifact is named by ([`Key`]), what is in it ([`Artifact`]), what is
//! remembered of codes ([`Profile`]), and the folder in which both lie ([`Store`]). Whatever is read is checked as a
//! whole before anything of it is used: hashes first, then every number. A folder is shared by any number of processes
//! and may lose any of them at any moment.
//!
//! **Callers guarantee** that [`Key::build`] tells apart whatever makes code differ. The hashes find damage and mix-ups,
//! not forgery: who may write to the folder decides what this process runs. So the folder and its files must be the
//! user's own, and nobody else's to write; what is not is refused.
//!
//! **Never** compiles, runs or places code, and knows no engine.
#![forbid(unsafe_code)]

mod archive;
mod artifact;
mod collect;
mod decode;
mod envelope;
mod error;
mod folder;
mod key;
mod profile;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod wire;

pub use archive::Moved;
pub use artifact::{Artifact, ArtifactRegions};
pub use collect::{CollectPlan, Collected, Stored, Verified};
pub use decode::{DecodeError, DecodeLimits};
pub use error::{Bad, BadReason, Refused, StoreError};
pub use key::{Digest, Key, ParseKeyError, Rank};
pub use profile::{
    CodeId, CodeProfile, PENDING_MAX, PROFILE_BYTES_MAX, PROFILE_CODES_MAX, PROFILE_CONFIGS_MAX,
    Pending, Profile, QUARANTINED_MAX, Quarantined, REASON_BYTES_MAX,
};
pub use store::{Access, Loaded, Store};

/// The version of the store: of its folder and of all formats in it.
pub const FORMAT: u32 = 1;
