//! The stages of the work, for those who measure them.
//!
//! **Owns** their names. **Callers guarantee** nothing. **Never** knows a clock: whoever measures is told
//! where a stage ends, and looks at their own.

/// A stage of the way from basic blocks to optimised functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// [`super::Analysis`]: what each block does to the stack.
    Summaries,
    /// [`super::Analysis`]: where jumps go.
    Jumps,
    /// [`super::build`]: the words of the EVM stack become values.
    Build,
    /// [`super::build`]: simplification, bounds of values, dead code.
    Optimise,
    /// [`super::build`]: what ways out write, and numbering.
    Place,
}
