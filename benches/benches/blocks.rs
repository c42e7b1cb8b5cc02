//! `cargo bench -p kiln-benches --bench blocks`: the blocks of a folder in order, state fresh per
//! block, through one engine that begins empty: the first pass, twenty passes, and warm. Prints what
//! that costs against plain revm of the same process. Not a test: nothing is asserted but that
//! results are right.

use clap::Parser;
use kiln::{
    Compile, Config, Engine, Stats, Tiered,
    fixture::{Executed, check, execute, plain_evm},
};
use kiln_benches::{BenchError, Subject, subjects};
use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

/// Replays a stream of blocks through an engine that begins empty.
#[derive(Debug, Parser)]
struct Arguments {
    /// Folder of block fixtures; the environment's KILN_FIXTURES with `blocks` appended, or this
    /// repository's workloads if not given.
    #[arg(value_name = "DIR")]
    blocks: Option<PathBuf>,
    /// Passes over all blocks.
    #[arg(long, value_name = "N", default_value_t = 20)]
    passes: usize,
    /// Frames of a code that are interpreted before it is compiled.
    #[arg(long, value_name = "N", default_value_t = Config::default().warm_frames)]
    warm_frames: u32,
    /// Compile whole contracts, not only what was seen.
    #[arg(long)]
    all: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            // Nothing is left to tell if standard output is closed.
            let _ = writeln!(io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Times of one pass, by block.
struct Pass {
    plain: Vec<Duration>,
    tiered: Vec<Duration>,
    stats: Stats,
}

fn run(arguments: &Arguments) -> Result<String, BenchError> {
    let folder =
        arguments.blocks.clone().unwrap_or_else(|| match std::env::var_os("KILN_FIXTURES") {
            Some(fixtures) => PathBuf::from(fixtures).join("blocks"),
            None => kiln_benches::folder(None),
        });
    let mut blocks = subjects(folder)?;
    blocks.sort_by_key(|block| block.loaded.fixture.env.number);
    let engine = Engine::new(Config {
        compile: if arguments.all { Compile::All } else { Compile::Seen },
        warm_frames: arguments.warm_frames,
        ..Config::default()
    })?;
    // What is done once a process, the KZG set-up among it, and the page faults.
    for block in &blocks {
        plain(block)?;
    }
    let passes: Vec<Pass> = (0..arguments.passes)
        .map(|index| pass(&blocks, &engine, index))
        .collect::<Result<_, _>>()?;
    Ok(report(&blocks, &passes))
}

fn pass(blocks: &[Subject], engine: &Engine, index: usize) -> Result<Pass, BenchError> {
    let before = engine.stats();
    let mut pass = Pass { plain: Vec::new(), tiered: Vec::new(), stats: Stats::default() };
    for (number, block) in blocks.iter().enumerate() {
        // Whoever goes second finds the caches warm; so they take turns.
        if (number + index).is_multiple_of(2) {
            pass.plain.push(plain(block)?);
            pass.tiered.push(tiered(block, engine)?);
        } else {
            pass.tiered.push(tiered(block, engine)?);
            pass.plain.push(plain(block)?);
        }
    }
    pass.stats = engine.stats() - before;
    Ok(pass)
}

fn plain(block: &Subject) -> Result<Duration, BenchError> {
    let mut evm = plain_evm(&block.prepared);
    let executed = execute(&mut evm, &block.prepared.txs);
    verify(block, "interpreter", &executed, &evm.ctx.journaled_state.database)?;
    Ok(executed.elapsed)
}

fn tiered(block: &Subject, engine: &Engine) -> Result<Duration, BenchError> {
    let mut evm = Tiered::mainnet(plain_evm(&block.prepared), engine.clone());
    let executed = execute(&mut evm, &block.prepared.txs);
    let database = evm.into_inner().ctx.journaled_state.database;
    verify(block, "tier0", &executed, &database)?;
    Ok(executed.elapsed)
}

fn verify(
    block: &Subject,
    engine: &'static str,
    executed: &Executed,
    database: &kiln::fixture::FixtureDb,
) -> Result<(), BenchError> {
    let Subject { loaded, prepared } = block;
    let mismatches = check(&loaded.fixture, executed, database, prepared.spec())
        .map_err(|kind| kind.at(&loaded.path))?;
    match mismatches.into_iter().next() {
        None => Ok(()),
        Some(mismatch) => Err(BenchError::Mismatch { path: loaded.path.clone(), engine, mismatch }),
    }
}

/// The share of the interpreter's time that tier 0 took, in total.
fn share(passes: &[Pass]) -> f64 {
    let sum = |times: fn(&Pass) -> &Vec<Duration>| -> f64 {
        passes.iter().flat_map(times).map(Duration::as_secs_f64).sum()
    };
    sum(|pass| &pass.tiered) / sum(|pass| &pass.plain)
}

/// The median over `passes` of a block's share.
fn block_share(passes: &[Pass], block: usize) -> f64 {
    let mut shares: Vec<f64> = passes
        .iter()
        .map(|pass| pass.tiered[block].as_secs_f64() / pass.plain[block].as_secs_f64())
        .collect();
    shares.sort_unstable_by(f64::total_cmp);
    shares[shares.len() / 2]
}

fn report(blocks: &[Subject], passes: &[Pass]) -> String {
    let warm = &passes[passes.len() / 2..];
    let mut text = format!("{} blocks; time of tier 0 over the interpreter's\n", blocks.len());
    text += &format!("first pass:  {:.3}\n", share(&passes[..1]));
    text += &format!("{} passes:   {:.3}\n", passes.len(), share(passes));
    text += &format!("warm (last half): {:.3}\n", share(warm));
    let mut by_block: Vec<(f64, &str)> = blocks
        .iter()
        .enumerate()
        .map(|(index, block)| (block_share(warm, index), &*block.loaded.fixture.name))
        .collect();
    by_block.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    let worst: Vec<String> =
        by_block.iter().take(4).map(|(share, name)| format!("{name} {share:.2}")).collect();
    text += &format!("slowest blocks, warm: {}\n", worst.join(", "));
    for (index, pass) in passes.iter().enumerate().take(3) {
        let compile_ms = pass.stats.compile_cpu_ns as f64 / 1e6;
        let total_ms = pass.tiered.iter().map(Duration::as_secs_f64).sum::<f64>() * 1e3;
        text += &format!(
            "pass {}: {total_ms:.0} ms, of it {compile_ms:.1} ms compiling {} programs to {} bytes; \
             share {:.3}\n",
            index + 1,
            pass.stats.programs,
            pass.stats.code_bytes,
            share(&passes[index..=index]),
        );
        let Stats { analyse_ns, lower_ns, codegen_ns, publish_ns, instructions, .. } = pass.stats;
        let each = |ns: u64| ns as f64 / instructions.max(1) as f64;
        text += &format!(
            "  {instructions} instructions; ns each: analyse {:.0}, lower {:.0}, codegen {:.0}, \
             publish {:.0}, in all {:.0}\n",
            each(analyse_ns),
            each(lower_ns),
            each(codegen_ns),
            each(publish_ns),
            each(pass.stats.compile_cpu_ns),
        );
    }
    text
}
