//! What fuzz targets do with bytes: one function a target.
//!
//! **Owns** how bytes become a question for a harness of the other test crates. **Callers guarantee** nothing: any
//! bytes are valid input. A panic is a failure that was found. **Never** generates bytes, and never compares anything
//! itself that a harness can compare.
//!
//! The targets of `fuzz` call these, and so do tests, with the committed seeds and with bytes from a seeded generator.
#![forbid(unsafe_code)]

mod bytes;
mod config;
mod ir;

pub use bytes::{bytes, bytes_of};
pub use config::config;
pub use ir::ir;
pub use kiln_region_tests::stencil::sequence as stencils;
pub use kiln_store::testing::decode as artifact;
pub use kiln_tier1::worker::testing::decode as wire;

/// What a target does with its bytes.
pub type Target = fn(&[u8]);

/// The targets by name. Those for generated cases are `kiln_harness`' own.
pub const TARGETS: &[(&str, Target)] = &[
    ("artifact", artifact),
    ("bytes", bytes),
    ("config", config),
    ("ir", ir),
    ("stencils", stencils),
    ("wire", wire),
];
