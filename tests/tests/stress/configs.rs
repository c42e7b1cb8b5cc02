//! The engines that take turns.

use crate::programs::Programs;
use kiln_runtime::{Backend, Compile, Config, Tier};

/// An engine, in words and options.
pub(crate) struct Named {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
}

/// Every way to compile, each with room for a tenth of what all programs come to.
pub(crate) fn configs(programs: &Programs) -> Vec<Named> {
    let backend = match cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        true => Backend::Native,
        false => Backend::Evaluator,
    };
    let seen = Config {
        backend,
        compile: Compile::Seen,
        hot_executions: 2,
        inline_compile_ns: 0,
        cooldown_ms: 0,
        sweep_interval_ms: 10,
        ..Config::default()
    };
    let all = Config { compile: Compile::All, warm_frames: 0, ..seen.clone() };
    // The evaluator has no machine code: then it is only not the bound.
    let tenth = |config: &Config| (programs.code_bytes(config.clone()) / 10).max(16 << 10);
    let seen = Config { code_bytes_max: tenth(&seen), ..seen };
    let all = Config { code_bytes_max: tenth(&all), ..all };
    let promoted = Config {
        optimise_frames: 16,
        profile_blocks: 8,
        top_tier: Tier::Optimised,
        code_bytes_max: 1 << 20,
        ..seen.clone()
    };
    let force = |text: &str| text.parse().expect("a mode");
    let named = |name, config| Named { name, config };
    vec![
        named("blocks, one thread", seen.clone()),
        named("blocks, two threads", Config { compile_threads: 2, ..seen.clone() }),
        named("blocks, both ways", Config { inline_compile_ns: 3000, ..seen.clone() }),
        named("blocks, calling thread", Config { compile_threads: 0, ..seen.clone() }),
        named(
            "blocks, soon idle",
            Config { idle_ms_max: 20, slots_max: 100, compile_threads: 2, ..seen.clone() },
        ),
        named(
            "blocks, short queues",
            Config { event_queue_len: 2, job_queue_len: 1, drain_max: 1, ..seen.clone() },
        ),
        named("promotions", Config { compile_threads: 2, ..promoted.clone() }),
        named("promotions, calling thread", Config { compile_threads: 0, ..promoted }),
        named("whole codes, two threads", Config { compile_threads: 2, ..all.clone() }),
        named("whole codes, swaps", Config { force: force("swap=3"), ..all.clone() }),
        named("blocks, evictions", Config { force: force("exit=5,swap=7,evict=3"), ..seen }),
        named("whole codes, calling thread", Config { compile_threads: 0, ..all }),
    ]
}
