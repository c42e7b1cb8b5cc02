//! Which case holds which trap: one row per rule of the list of things that EVM compilers got wrong.

/// What makes a broken rule fail.
pub(crate) enum HeldBy {
    /// Case files, by name.
    Cases(&'static [&'static str]),
    /// A test of its own, a file in this folder.
    Test(&'static str),
    /// Nothing yet, with the reason.
    Later(&'static str),
}

use HeldBy::{Cases, Later, Test};

const PERSISTENCE: &str = "nothing is persisted yet";

/// All rules.
pub(crate) const TRAPS: &[(&str, HeldBy)] = &[
    // Gas, and the order in which things fail.
    (
        "Every observer of gas sees the gas before later instructions' static cost",
        Cases(&[
            "gas_observer_gas",
            "gas_observer_sstore_sentry",
            "gas_observer_sstore_sentry_exact",
            "gas_observer_cold_load",
            "gas_observer_cold_account",
            "gas_observer_call",
            "gas_observer_create",
            "gas_observer_memory",
            "gas_memory_reason",
        ]),
    ),
    (
        "From Amsterdam on, what a frame touched before it halted counts; no check is hoisted",
        Cases(&[
            "gas_amsterdam_sstore_then_underflow",
            "gas_touched_then_halted",
            "gas_underflow_before_access",
        ]),
    ),
    (
        "A block that can not be paid ends exactly where the interpreter would",
        Cases(&[
            "gas_block_unpaid",
            "gas_block_unpaid_before_halt",
            "gas_halts_otherwise_first",
            "gas_invalid_opcode_first",
        ]),
    ),
    (
        "LOG: static part, order, and operands",
        Cases(&[
            "gas_log",
            "gas_log_operands",
            "gas_log_underflow_after_expansion",
            "gas_log_static_below",
        ]),
    ),
    (
        "SELFDESTRUCT: static gas before the static-call check",
        Cases(&[
            "gas_selfdestruct_static_below",
            "gas_selfdestruct_static_above",
            "gas_selfdestruct_sweep",
        ]),
    ),
    (
        "CALL order; base gas per fork",
        Cases(&[
            "gas_call_order_static_value",
            "gas_call_order",
            "gas_call_base_frontier",
            "gas_base_costs_per_fork",
        ]),
    ),
    (
        "The stipend stays on a depth failure; new-account cost is the called account's",
        Cases(&[
            "gas_stipend_on_depth_failure",
            "gas_stipend_on_funds_failure",
            "gas_new_account_of_delegated",
        ]),
    ),
    (
        "Undefined or not yet activated opcodes end a block and add nothing to it",
        Cases(&[
            "gas_undefined_opcode",
            "gas_not_activated",
            "gas_not_activated_push0",
            "gas_not_activated_all",
        ]),
    ),
    (
        "EXP's dynamic gas is charged even when folded; GASPRICE is the effective price",
        Cases(&["gas_exp_folded", "gas_exp_sweep", "gas_price_effective"]),
    ),
    (
        "EIP-8037 state gas: reservoir, refill, rollback, refund cap",
        Cases(&["gas_state_gas_amsterdam", "gas_state_gas_rollback", "gas_state_gas_reservoir"]),
    ),
    (
        "A gas comparison is still right after the counter would have gone below zero",
        Cases(&["gas_huge_limit", "gas_below_zero"]),
    ),
    (
        "RETURN and REVERT expand memory before any output is made",
        Cases(&["gas_return_expands", "gas_return_too_large", "gas_revert_expands"]),
    ),
    // Jumps and decoding.
    (
        "JUMPDEST validity is the raw legacy scan, whatever DUPN, SWAPN, EXCHANGE take",
        Cases(&[
            "jump_scan_ignores_immediates",
            "jump_exchange_immediate_is_target",
            "jump_exchange_bad_immediate",
        ]),
    ),
    (
        "A truncated PUSH is padded with zeros; a truncated DUPN-family immediate is 0",
        Cases(&[
            "jump_truncated_push",
            "jump_truncated_push32",
            "jump_truncated_dupn",
            "jump_truncated_swapn",
            "jump_truncated_exchange",
            "jump_truncated_dupn_enough",
        ]),
    ),
    (
        "JUMPDEST inside push data; at offset 0; empty code; code that runs off its end",
        Cases(&[
            "jump_into_push_data",
            "jump_into_push_data_dynamic",
            "jump_to_zero",
            "jump_empty_code",
            "jump_off_the_end",
            "jump_behind_the_end",
        ]),
    ),
    (
        "A destination is compared on all 256 bits; JUMPI false ignores it; same word for both",
        Cases(&[
            "jump_all_256_bits",
            "jump_all_256_bits_dynamic",
            "jump_all_256_bits_highest",
            "jump_32_bits",
            "jump_dynamic_good",
            "jumpi_false_ignores_destination",
            "jumpi_same_word",
            "jumpi_same_word_dynamic",
            "jumpi_all_256_bits_condition",
        ]),
    ),
    (
        "No jump is resolved while an unresolved jump can reach any JUMPDEST",
        Cases(&["jump_unresolved_reaches_any"]),
    ),
    (
        "A constant JUMPI condition; dead code removes no leader that is needed",
        Cases(&["jump_constant_condition"]),
    ),
    ("Equal blocks: successors, widths of immediates, PC", Cases(&["jump_equal_blocks_with_pc"])),
    // Stack.
    (
        "Underflow and overflow keep their reason and moment",
        Cases(&[
            "stack_underflow",
            "stack_overflow",
            "stack_full",
            "stack_full_temporary",
            "stack_overflow_dup",
            "stack_swap_underflow",
            "stack_dup_underflow",
            "stack_dupn_underflow",
            "stack_dupn_swapn_exchange",
        ]),
    ),
    ("Values live across CALL and CREATE are in the EVM stack", Cases(&["stack_live_across_call"])),
    (
        "The remaining stack at STOP, RETURN, SELFDESTRUCT where something observes it",
        Cases(&["stack_rest_at_end"]),
    ),
    (
        "A shared cold block never uses a value that does not dominate it",
        Cases(&["stack_shared_cold_block_9f89ff", "stack_shared_cold_block_4343ff"]),
    ),
    // Memory and data.
    (
        "Length 0 ignores the offset; EXTCODECOPY of length 0 still warms the account",
        Cases(&[
            "memory_length_zero",
            "memory_length_zero_cancun",
            "memory_extcodecopy_zero_warms",
        ]),
    ),
    (
        "MCOPY expands to max(src, dst) + len, overlaps; CALL expands once, to the larger range",
        Cases(&["memory_mcopy", "memory_mcopy_result", "memory_call_expands_once"]),
    ),
    (
        "MSIZE is word-rounded; the cached memory base goes stale",
        Cases(&[
            "memory_msize",
            "memory_base_stale_after_call",
            "memory_base_stale_after_expansion",
            "memory_dirty_after_child",
        ]),
    ),
    (
        "RETURNDATACOPY past the end fails even with length 0; what clears return data",
        Cases(&[
            "memory_returndatacopy_past_end",
            "memory_returndatacopy_reason",
            "memory_returndatacopy_overflow",
            "memory_returndata_cleared",
        ]),
    ),
    (
        "Words and memory are reached by unaligned accesses",
        Cases(&[
            "memory_unaligned",
            "memory_calldata_edges",
            "memory_huge_offsets",
            "memory_huge_offsets_64",
        ]),
    ),
    ("No heap address is embedded in persisted code (CODECOPY)", Cases(&["memory_own_code"])),
    // Arithmetic.
    (
        "Division by zero; SDIV of the minimum; SIGNEXTEND; shifts; BYTE; CLZ; 512 bits; EXP",
        Cases(&[
            "arith_division_by_zero",
            "arith_sdiv_minimum",
            "arith_signextend",
            "arith_shifts",
            "arith_byte",
            "arith_clz",
            "arith_512_bits",
            "arith_exp",
            "arith_carries",
        ]),
    ),
    ("The same, over all pairs of operand classes", Test("operands.rs")),
    // Calls, creates, delegation.
    (
        "After a CALL execution resumes behind it, whichever engine then runs the frame",
        Cases(&["call_resumes_behind", "call_transient", "call_precompiles", "call_environment"]),
    ),
    (
        "A fatal host error propagates as an error",
        Cases(&[
            "call_fatal_slot",
            "call_fatal_slot_store",
            "call_fatal_account",
            "call_fatal_account_call",
        ]),
    ),
    (
        "EIP-7702: who follows a delegation, what EXTCODE* see, what the delegate's access costs",
        Cases(&["call_delegation", "call_delegation_chain", "call_delegate_access_cost"]),
    ),
    (
        "Initcode is not compiled, nothing is keyed by its hash",
        Cases(&["call_initcode", "call_create_outcomes", "call_create2_salt_underflow"]),
    ),
    ("Code may be larger than 24 KiB", Test("hostile.rs")),
    (
        "Static violations fail in revm's order; SELFDESTRUCT ends the block",
        Cases(&[
            "call_static_violations",
            "call_static_sstore_underflow",
            "call_static_tstore_underflow",
            "call_static_log_underflow",
            "call_selfdestruct_ends_block",
        ]),
    ),
    // Keys, lifetimes, hosts.
    (
        "The key holds code and fork; a database may return any code hash",
        Cases(&["key_same_hash", "key_empty_hash", "key_fork"]),
    ),
    ("The key holds the gas table and what is replaced", Test("tables.rs")),
    ("The key holds target CPU features, compiler options, ABI version", Later(PERSISTENCE)),
    ("Code is never freed while a thread is inside; suspended frames", Test("lifetimes.rs")),
    ("Results of work begun before a clear are dropped", Test("faults/control.rs")),
    ("A failed compile is remembered", Test("hostile.rs")),
    (
        "A compiler's panic, endless loop or memory blow-up ends one job",
        Test("faults/compilers.rs"),
    ),
    ("Control calls never block on a full queue", Test("faults/queues.rs")),
    ("Compiled in but switched off can not deadlock", Test("lifetimes.rs")),
    ("An inspector with step hooks sees every step; the order of log", Test("tables.rs")),
];
