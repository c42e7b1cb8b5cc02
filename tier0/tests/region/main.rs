//! Optimised regions: what Cranelift makes of them does what the functions say.

#[path = "../support/mod.rs"]
mod support;

mod build;
mod control;
mod effects;
mod plan;
mod random;
mod run;
mod words;
mod world;
