//! SSA regions: the form that optimising compilers take.
//!
//! **Owns** everything from basic blocks to optimised regions: jump resolution, the choice of
//! regions, the SSA [`Function`], its construction and optimisation, what is known of values, the
//! verifier, the text form and the evaluator; and what all back ends ask of a function before they lower it.
//!
//! **Callers guarantee** nothing: any bytes are valid input. Work is linear in the size of the code
//! and bounded by constants for each region.
//!
//! **Never** knows revm's interpreter, machine code, or unsafe code. Nothing here decides whether a
//! region is worth its compilation.

mod analysis;
mod bounds;
mod build;
mod choose;
mod cleanup;
mod compile;
pub mod demand;
mod display;
mod dominators;
pub mod eval;
mod facts;
mod finish;
pub mod function;
mod graph;
mod jumps;
mod optimise;
mod origin;
mod params;
mod place;
pub mod plan;
mod reach;
mod region;
mod simplify;
mod sink;
mod stage;
mod summary;
pub mod tails;
mod verify;

pub use analysis::Analysis;
pub use choose::{Choice, choose};
pub use compile::{build, build_staged};
pub use display::Labelled;
pub use dominators::Dominators;
pub use function::{
    Block, BlockId, Def, Function, Inst, Op, Store, Target, Terminator, Value, ValueData,
};
pub use jumps::Jumps;
pub use origin::{Origin, Origins, origins};
pub use region::{INSTRUCTIONS_MAX, NODES_MAX, Node, Region, SPAN_MAX};
pub use stage::Stage;
pub use verify::{Place, VerifyError, verify};

#[cfg(test)]
mod tests;
