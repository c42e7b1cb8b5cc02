//! Tests of optimised regions, for every compiler of them.
//!
//! **Owns** the tests that compare compiled code with reference arithmetic and with the evaluator of
//! `kiln_ir::ssa`, and the machine and host that compiled code runs on. **Callers guarantee** that a process
//! tests one compiler: [`region_tests!`] makes it the one all of these ask for. **Never** knows how a compiler
//! works.
#![allow(
    missing_docs,
    clippy::missing_panics_doc,
    reason = "the names of tests say what they test"
)]

pub mod build;
pub mod control;
pub mod effects;
pub mod hostile;
pub mod plan;
pub mod random;
pub mod run;
pub mod stencil;
pub mod support;
pub mod words;
pub mod world;

use kiln_abi::CodeObject;
use kiln_ir::{Bounds, ssa::Function};
use std::sync::OnceLock;

/// Why a compiler refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A rule was broken.
    Malformed(&'static str),
    /// More work than a compilation may be.
    TooLarge,
    /// More text than the limits allow.
    Text { is: usize, max: usize },
    /// It was called off.
    Cancelled,
    /// Anything else.
    Other(String),
}

/// A compiler of regions.
pub trait Compile: Send + Sync {
    /// An object for a region.
    ///
    /// # Errors
    /// As the compiler's.
    fn compile(&self, function: &Function, bounds: Bounds<'_>) -> Result<CodeObject, Refused>;

    /// How many instructions of the compiler's own a region that compiles becomes.
    fn lowered(&self, function: &Function) -> usize;
}

static BACKEND: OnceLock<&'static dyn Compile> = OnceLock::new();

/// Makes a compiler the one that is tested in this process.
pub fn test(compiler: &'static dyn Compile) {
    BACKEND.get_or_init(|| compiler);
}

/// The compiler that is tested.
pub fn backend() -> &'static dyn Compile {
    *BACKEND.get().expect("region_tests! names a compiler")
}

/// All tests, for this compiler.
#[macro_export]
macro_rules! region_tests {
    ($compiler:expr) => {
        $crate::tests_of! {
            $compiler;
            words: { sums, differences, narrow_differences, products, masks, quotients_and_remainders, signed_quotients_and_remainders, signed_operands_of_one_limb_need_no_helper, comparisons, complements, shifts_by_constants, bytes_and_sign_extensions, operations_of_helpers, known_operands_are_folded },
            control: { loops_of_one_block_leave_where_they_must, loops_carry_words, back_edges_poll, blocks_charge_gas_or_are_left, the_head_checks_the_stack, branches_of_all_kinds, parameters_are_exchanged, compilations_are_bounded, malformed_functions_are_refused },
            effects: { covered_memory_is_accessed, words_of_few_limbs_and_constants_are_stored, memory_behind_the_limit_is_expanded, refused_expansion_leaves_in_front_of_the_instruction, calldata_is_loaded, the_environment_is_read, guarded_helpers_act_or_leave, helpers_see_and_take_gas, instructions_run_on_the_canonical_stack },
            plan: { an_instruction_may_overwrite_what_was_written, a_word_may_be_written_on_one_path_only, a_loop_may_overwrite_what_was_written_in_front_of_it, slots_with_words_of_their_own_are_left_alone },
            hostile: { regions_are_bounded, compiled_code_is_bounded },
            random: { regions_of_random_programs_do_what_they_say }
        }
    };
}

/// The tests of these modules, for this compiler.
#[doc(hidden)]
#[macro_export]
macro_rules! tests_of {
    ($compiler:expr; $($module:ident: { $($name:ident),* }),*) => {
        $(mod $module {
            $(#[test]
            fn $name() {
                $crate::test($compiler);
                $crate::$module::$name();
            })*
        })*
    };
}
