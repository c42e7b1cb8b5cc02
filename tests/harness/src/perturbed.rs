//! Engines that are perturbed: every backend of this target, with slow paths and ways out forced.
//!
//! Owns the list of perturbations that tests go through, and the options of their engines. Results are those of any
//! other engine.

use kiln_ir::Limits;
use kiln_runtime::{Backend, Compile, Config, Engine, EngineError, Perturb, Tier, Worker};

/// Whether there is machine code for this target.
const IS_NATIVE: bool = cfg!(all(target_arch = "x86_64", target_os = "linux"));

/// Each option alone, and all together.
pub fn perturbations() -> Vec<Perturb> {
    let alone = (0..4).filter_map(|bit| Perturb::from_bits(1 << bit));
    alone.chain([Perturb::ALL]).collect()
}

/// The options of the engines that are perturbed, by name: whole contracts with each backend, and as tier 0 decides by
/// itself. Those whose compilation takes long come last.
pub fn configs(perturb: Perturb) -> Vec<(&'static str, Config)> {
    let limits = Limits { perturb, ..Limits::default() };
    let all = Config { limits, regions_max: 1 << 10, tier1_worker: Worker::Off, ..Config::eager() };
    let evaluator = Config { backend: Backend::Evaluator, ..all.clone() };
    let of_tier = |first_tier, config: &Config| Config { first_tier, ..config.clone() };
    let mut configs = vec![
        ("evaluator of regions", of_tier(Tier::Optimised, &evaluator)),
        ("evaluator", evaluator),
    ];
    if IS_NATIVE {
        let hot = Config { compile: Compile::Seen, hot_executions: 2, ..all.clone() };
        let promoted = Config {
            optimise_frames: 1,
            profile_blocks: 4,
            top_tier: Tier::Optimised,
            ..hot.clone()
        };
        configs.push(("tier 0", all.clone()));
        configs.push(("tier 0, hot", hot));
        configs.push(("promoted", promoted));
        configs.push(("optimised", of_tier(Tier::Optimised, &all)));
        if cfg!(feature = "llvm") {
            configs.push(("tier 1", of_tier(Tier::Tier1, &all)));
        }
    }
    configs
}

/// An engine for each of [`configs`], named with the perturbation.
///
/// # Errors
/// If an engine that is supported does not start.
pub fn engines(perturb: Perturb) -> Result<Vec<(String, Engine)>, EngineError> {
    let configs = configs(perturb).into_iter();
    configs.map(|(name, config)| Ok((format!("{name}, {perturb}"), Engine::new(config)?))).collect()
}
