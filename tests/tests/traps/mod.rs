//! Which cases and tests hold which trap: one row per rule of the list of things that EVM compilers got wrong.
//!
//! **Owns** the mapping, and the table of it in TESTING.md. **Never** runs anything: case files are run by
//! `cases.rs`, tests by themselves.

mod table;

pub(crate) use table::with_table;

/// Rules of one kind.
pub(crate) struct Section {
    /// What they are about.
    pub(crate) title: &'static str,
    /// They themselves.
    pub(crate) traps: &'static [Trap],
}

/// A rule, and what fails when it is broken.
pub(crate) struct Trap {
    /// In one sentence.
    pub(crate) rule: &'static str,
    /// Case files, by name.
    pub(crate) cases: &'static [&'static str],
    /// Tests: a file of this repository, and behind `::` a function of it where there is one for the rule.
    pub(crate) tests: &'static [&'static str],
}

const fn held(
    rule: &'static str,
    cases: &'static [&'static str],
    tests: &'static [&'static str],
) -> Trap {
    Trap { rule, cases, tests }
}

/// All rules.
pub(crate) const TRAPS: &[Section] = &[
    Section {
        title: "Gas, and the order in which things fail",
        traps: &[
            held(
                "Every observer of gas sees the gas before later instructions' static cost: GAS, the SSTORE sentry, cold loads, calls and creates, memory expansion",
                &[
                    "gas_observer_gas",
                    "gas_observer_sstore_sentry",
                    "gas_observer_sstore_sentry_exact",
                    "gas_observer_cold_load",
                    "gas_observer_cold_account",
                    "gas_observer_call",
                    "gas_observer_create",
                    "gas_observer_memory",
                    "gas_memory_reason",
                ],
                &[],
            ),
            held(
                "From Amsterdam on, what a frame touched before it halted counts; no check moves over a state access, no state access over a check",
                &[
                    "gas_amsterdam_sstore_then_underflow",
                    "gas_touched_then_halted",
                    "gas_underflow_before_access",
                ],
                &[],
            ),
            held(
                "A block that can not be paid ends exactly where the interpreter would, for the same reason",
                &[
                    "gas_block_unpaid",
                    "gas_block_unpaid_before_halt",
                    "gas_halts_otherwise_first",
                    "gas_invalid_opcode_first",
                ],
                &["tests/tests/gas_sweep.rs"],
            ),
            held(
                "LOG: the static part, the order of checks, and where offset and length lie",
                &[
                    "gas_log",
                    "gas_log_operands",
                    "gas_log_underflow_after_expansion",
                    "gas_log_static_below",
                ],
                &[],
            ),
            held(
                "SELFDESTRUCT: static gas before the check of static calls",
                &[
                    "gas_selfdestruct_static_below",
                    "gas_selfdestruct_static_above",
                    "gas_selfdestruct_sweep",
                ],
                &[],
            ),
            held(
                "CALL: the order of its checks and costs; the base gas of each fork",
                &[
                    "gas_call_order_static_value",
                    "gas_call_order",
                    "gas_call_base_frontier",
                    "gas_base_costs_per_fork",
                ],
                &[],
            ),
            held(
                "The stipend stays when a call is too deep; the cost of a new account is the called account's",
                &[
                    "gas_stipend_on_depth_failure",
                    "gas_stipend_on_funds_failure",
                    "gas_new_account_of_delegated",
                ],
                &[],
            ),
            held(
                "Undefined or not yet activated opcodes end a block, and add nothing to it",
                &[
                    "gas_undefined_opcode",
                    "gas_not_activated",
                    "gas_not_activated_push0",
                    "gas_not_activated_all",
                ],
                &[],
            ),
            held(
                "EXP pays for its exponent also when it is folded; GASPRICE is the effective price",
                &["gas_exp_folded", "gas_exp_sweep", "gas_price_effective"],
                &[],
            ),
            held(
                "State gas (EIP-8037): reservoir, refill, rollback, cap of refunds",
                &["gas_state_gas_amsterdam", "gas_state_gas_rollback", "gas_state_gas_reservoir"],
                &[],
            ),
            held(
                "A comparison of gas is right after the counter would have gone below zero",
                &["gas_huge_limit", "gas_below_zero"],
                &[],
            ),
            held(
                "RETURN and REVERT expand memory, and pay, before there is output",
                &["gas_return_expands", "gas_return_too_large", "gas_revert_expands"],
                &["tests/tests/operands/frames.rs::compiled_opcodes"],
            ),
        ],
    },
    Section {
        title: "Jumps and decoding",
        traps: &[
            held(
                "What is a JUMPDEST is decided by the legacy scan, whatever DUPN, SWAPN and EXCHANGE take",
                &[
                    "jump_scan_ignores_immediates",
                    "jump_exchange_immediate_is_target",
                    "jump_exchange_bad_immediate",
                ],
                &[],
            ),
            held(
                "A PUSH cut off is padded with zeros on the right; a DUPN, SWAPN or EXCHANGE cut off has the immediate 0",
                &[
                    "jump_truncated_push",
                    "jump_truncated_push32",
                    "jump_truncated_dupn",
                    "jump_truncated_swapn",
                    "jump_truncated_exchange",
                    "jump_truncated_dupn_enough",
                ],
                &[],
            ),
            held(
                "JUMPDEST in push data and at offset 0; empty code; code that runs off its end",
                &[
                    "jump_into_push_data",
                    "jump_into_push_data_dynamic",
                    "jump_to_zero",
                    "jump_empty_code",
                    "jump_off_the_end",
                    "jump_behind_the_end",
                ],
                &[],
            ),
            held(
                "A destination is compared on all 256 bits; JUMPI that does not jump ignores it; one word for condition and destination",
                &[
                    "jump_all_256_bits",
                    "jump_all_256_bits_dynamic",
                    "jump_all_256_bits_highest",
                    "jump_32_bits",
                    "jump_dynamic_good",
                    "jumpi_false_ignores_destination",
                    "jumpi_same_word",
                    "jumpi_same_word_dynamic",
                    "jumpi_all_256_bits_condition",
                ],
                &["tests/tests/operands/frames.rs::compiled_opcodes"],
            ),
            held(
                "No jump is resolved before the analysis has come to an end, nor while an unresolved one can reach any JUMPDEST",
                &[
                    "jump_unresolved_reaches_any",
                    "jump_target_changes_in_loop",
                    "jump_target_from_two_callers",
                ],
                &["tier1/tests/bounds.rs::jumps_that_are_not_resolved"],
            ),
            held(
                "A constant condition changes the graph; dead code behind it takes no leader away that is needed",
                &["jump_constant_condition"],
                &[],
            ),
            held(
                "Equal blocks with other successors, other widths of immediates, PC or unresolved jumps stay apart",
                &["jump_equal_blocks_with_pc"],
                &[],
            ),
        ],
    },
    Section {
        title: "Stack",
        traps: &[
            held(
                "Underflow and overflow keep their reason, and their moment",
                &[
                    "stack_underflow",
                    "stack_overflow",
                    "stack_full",
                    "stack_full_temporary",
                    "stack_overflow_dup",
                    "stack_swap_underflow",
                    "stack_dup_underflow",
                    "stack_dupn_underflow",
                    "stack_dupn_swapn_exchange",
                ],
                &[],
            ),
            held(
                "Words that live across CALL and CREATE lie in the EVM stack there",
                &["stack_live_across_call"],
                &[],
            ),
            held(
                "What remains on the stack at STOP, RETURN and SELFDESTRUCT is what the interpreter leaves, where something sees it",
                &["stack_rest_at_end"],
                &[],
            ),
            held(
                "A shared cold block uses no value that does not dominate it",
                &["stack_shared_cold_block_9f89ff", "stack_shared_cold_block_4343ff"],
                &[],
            ),
        ],
    },
    Section {
        title: "Memory and data",
        traps: &[
            held(
                "Length 0 ignores the offset, however large; EXTCODECOPY of length 0 still warms the account",
                &[
                    "memory_length_zero",
                    "memory_length_zero_cancun",
                    "memory_extcodecopy_zero_warms",
                ],
                &[
                    "tests/tests/operands/frames.rs::compiled_opcodes",
                    "tests/tests/operands/frames.rs::interpreted_opcodes",
                ],
            ),
            held(
                "MCOPY expands to the higher end and overlaps as it should; CALL expands once, to the larger range",
                &["memory_mcopy", "memory_mcopy_result", "memory_call_expands_once"],
                &[],
            ),
            held(
                "MSIZE counts whole words; a cached memory base goes stale at CALL, at CREATE and at any expansion",
                &[
                    "memory_msize",
                    "memory_base_stale_after_call",
                    "memory_base_stale_after_expansion",
                    "memory_dirty_after_child",
                    "memory_base_stale_after_create",
                ],
                &[],
            ),
            held(
                "RETURNDATACOPY past the end fails also with length 0; return data are cleared by CALL and CREATE only",
                &[
                    "memory_returndatacopy_past_end",
                    "memory_returndatacopy_reason",
                    "memory_returndatacopy_overflow",
                    "memory_returndata_cleared",
                ],
                &["tests/tests/operands/frames.rs::compiled_opcodes"],
            ),
            held(
                "Words and memory are reached by unaligned accesses",
                &[
                    "memory_unaligned",
                    "memory_calldata_edges",
                    "memory_huge_offsets",
                    "memory_huge_offsets_64",
                ],
                &[],
            ),
            held(
                "No address of the heap is in code that is persisted (CODECOPY of own code)",
                &["memory_own_code"],
                &[
                    "tests/tests/checks.rs::nothing_is_found_where_nothing_is_wrong",
                    "tests/cli/aot.rs::what_one_process_wrote_another_one_runs",
                ],
            ),
        ],
    },
    Section {
        title: "Arithmetic",
        traps: &[held(
            "Division by zero; SDIV of the minimum by -1; SIGNEXTEND, BYTE and shifts at their bounds; CLZ; 512-bit intermediates; EXP",
            &[
                "arith_division_by_zero",
                "arith_sdiv_minimum",
                "arith_signextend",
                "arith_shifts",
                "arith_byte",
                "arith_clz",
                "arith_512_bits",
                "arith_exp",
                "arith_carries",
            ],
            &["tests/tests/operands/words.rs", "tier0/tests/arithmetic.rs"],
        )],
    },
    Section {
        title: "Calls, creates, delegation",
        traps: &[
            held(
                "After a CALL the frame goes on behind it, whichever engine then runs it; any engine goes on with what any other began",
                &["call_resumes_behind", "call_transient", "call_precompiles", "call_environment"],
                &[
                    "tests/tests/forced.rs::cases_under_force",
                    "tests/tests/forced.rs::threads_swap_each_others_programs",
                    "runtime/tests/promotion.rs::a_long_loop_is_promoted_while_it_runs",
                ],
            ),
            held(
                "A fatal error of the host stays an error; it never becomes a failed CALL",
                &[
                    "call_fatal_slot",
                    "call_fatal_slot_store",
                    "call_fatal_account",
                    "call_fatal_account_call",
                ],
                &["runtime/tests/integration.rs::a_host_error_is_an_error"],
            ),
            held(
                "EIP-7702: only calls follow a delegation; EXTCODE* see the designator; the delegate's access is paid for by itself",
                &["call_delegation", "call_delegation_chain", "call_delegate_access_cost"],
                &["runtime/tests/integration.rs::a_delegated_account_runs_its_delegates_program"],
            ),
            held(
                "Initcode is not compiled, and nothing is keyed by its hash; code may be larger than 24 KiB",
                &["call_initcode", "call_create_outcomes", "call_create2_salt_underflow"],
                &[
                    "tests/tests/hostile.rs::ends_as_the_interpreter_ends_it",
                    "tests/tests/hostile.rs::regions_end_as_the_interpreter_ends_them",
                ],
            ),
            held(
                "Static violations fail in revm's order; SELFDESTRUCT ends the block",
                &[
                    "call_static_violations",
                    "call_static_sstore_underflow",
                    "call_static_tstore_underflow",
                    "call_static_log_underflow",
                    "call_selfdestruct_ends_block",
                ],
                &[],
            ),
        ],
    },
    Section {
        title: "Keys, lifetimes, hosts",
        traps: &[
            held(
                "The key of compiled code holds everything that was baked in: code, fork, gas table, gas parameters, replaced instructions, options, CPU, ABI",
                &["key_same_hash", "key_empty_hash", "key_fork"],
                &[
                    "tests/tests/gas_params.rs::other_gas_parameters_on_one_engine",
                    "tests/tests/tables.rs::one_engine_for_several_tables",
                    "tests/tests/tables.rs::gas_table_of_another_fork",
                    "tests/tests/tables.rs::replaced_between_transactions",
                    "tests/tests/tables.rs::fork_between_transactions",
                    "tier1/tests/worker/handshake.rs::another_build",
                    "runtime/store/src/key.rs::whatever_is_baked_in_changes_the_digest",
                    "runtime/src/persist/build.rs::options_that_code_has_in_it_make_another_build",
                    "runtime/tests/store/programs.rs::what_another_build_made_is_not_looked_at",
                ],
            ),
            held(
                "Code is not freed while a thread is inside of it; a suspended frame holds no native address",
                &[],
                &[
                    "tests/tests/lifetimes.rs::clear_while_frames_run",
                    "tests/tests/forced.rs::swapped_programs_are_freed",
                    "tests/tests/stress/main.rs::stress",
                ],
            ),
            held(
                "What was begun before a clear is dropped; a failed compile is remembered, with ever longer waits",
                &[],
                &[
                    "tests/tests/faults/control.rs::a_clear_in_every_phase",
                    "runtime/src/backend/tests/commands.rs::a_clear_makes_void_what_runs",
                    "tests/tests/hostile.rs::a_failed_compile_is_remembered",
                    "runtime/src/backend/tests/faults.rs::failures_are_tried_again_ever_later_and_then_never",
                ],
            ),
            held(
                "A compiler's panic, stack overflow, endless loop or growth without end costs one job, never the process or a neighbour",
                &[],
                &[
                    "tests/tests/faults/compilers.rs::a_compiler_that_panics",
                    "tests/tests/faults/compilers.rs::a_compiler_without_end",
                    "tests/tests/faults/compilers.rs::a_compiler_that_allocates_without_end",
                    "tests/tests/faults/compilers.rs::a_compiler_that_never_returns",
                    "tier1/tests/worker/jobs.rs::a_child_that_overflows_its_stack",
                    "tier1/tests/worker/jobs.rs::neighbours_finish",
                ],
            ),
            held(
                "Control calls never wait for a full queue; what is compiled in but switched off costs nothing and can not deadlock",
                &[],
                &[
                    "tests/tests/faults/queues.rs::a_full_job_queue",
                    "tests/tests/faults/queues.rs::a_flood_of_events",
                    "tests/tests/faults/control.rs::a_pause_in_every_phase",
                    "tests/tests/faults/control.rs::shutdown_in_every_phase",
                    "tests/tests/lifetimes.rs::off",
                    "runtime/tests/integration.rs::switched_off_nothing_is_compiled",
                ],
            ),
            held(
                "An inspector with step hooks sees every step, and logs in revm's order: then the interpreter runs",
                &[],
                &[
                    "tests/tests/tables.rs::an_inspector_sees_every_step",
                    "tests/tests/tables.rs::inspected_in_between",
                ],
            ),
        ],
    },
];
