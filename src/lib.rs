//! kiln
#[cfg(feature = "cli")]
pub mod fixture;
#[cfg(feature = "cli")]
pub mod statetest;
