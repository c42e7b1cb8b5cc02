//! What kiln costs and what it brings, measured in one process.
//!
//! **Owns** the measurements ([`Startup`], [`Compilation`], [`Ready`], [`WorkerStart`],
//! [`Transactions`], [`Stream`], [`Hit`], [`slots`], [`restart`]) and the words they are reported in.
//!
//! **Callers guarantee** a release build and a machine that does little else.
//!
//! **Never** decides whether a figure is good: it prints, people judge.

mod compilation;
mod error;
pub mod frames;
mod goals;
mod hit;
mod report;
pub mod restart;
pub mod slots;
mod startup;
pub mod stream;
mod subject;
mod tier;
mod transactions;
mod worker;

pub use compilation::Compilation;
pub use error::BenchError;
pub use hit::Hit;
pub use report::{Report, Row};
pub use startup::Startup;
pub use stream::Stream;
pub use subject::{Subject, folder, subjects};
pub use tier::{Cost, Ready, Tier};
pub use transactions::{Budget, TierTime, Times, Transactions};
pub use worker::WorkerStart;

/// The median; 0 of nothing.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
