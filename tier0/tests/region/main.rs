//! Optimised regions: what Cranelift makes of them does what the functions say.

#[path = "../support/mod.rs"]
mod support;

mod build;
mod control;
mod effects;
mod run;
mod words;
