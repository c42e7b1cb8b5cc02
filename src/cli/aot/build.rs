//! `kiln aot build`.

use super::{
    super::{
        Verdict,
        error::CliError,
        output::{Output, duration, grouped, table},
        progress::Progress,
        run::spec,
        tier,
    },
    at,
    codes::{self, Code},
};
use clap::ValueEnum;
use kiln_runtime::{
    Backend, Compile, Config, ConfigBuilder, Engine, StoreMode, Tier, build_digest,
};
use kiln_store::{Access, CodeId, DecodeLimits, Digest, Key, Loaded, Profile, Rank, Store};
use revm::primitives::{B256, hardfork::SpecId};
use std::{
    collections::HashSet,
    fs, io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

/// Codes that one engine compiles.
const BATCH: usize = 256;
/// What the store may grow to, unless the environment says something else: all there is room for.
const BYTES_MAX: usize = 1 << 50;
/// Characters of an argument that are shown.
const NAME_MAX: usize = 60;

/// Compile codes and keep the machine code.
///
/// What the store has is left as it is. Exits with 1 if a code could not be compiled or saved.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Bytecode as 0x hexadecimal; a file that holds hexadecimal or raw bytes; fixture files, whose codes are compiled
    /// for the fixture's fork; state test files, whose codes are compiled for each fork of a variant; or folders of
    /// fixtures and state tests. Files are told apart by their names: .json or .json.gz is no bytecode.
    #[arg(required = true, value_name = "CODE")]
    codes: Vec<String>,
    /// The fork of bytecode.
    #[arg(long, value_name = "FORK", default_value = "OSAKA", value_parser = spec)]
    spec: SpecId,
    /// What compiles.
    #[arg(long, value_enum, default_value_t = Compiler::Baseline)]
    tier: Compiler,
    /// Compile what ran, by this profile (a store's file `profile`), and choose optimised regions by how often it did.
    /// Codes that are not in it are compiled whole. The store remembers it, too.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Leave out codes that are not in the profile.
    #[arg(long, requires = "profile")]
    profiled_only: bool,
    /// Threads that compile; as many as there are processors if not given.
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
    /// Failures to print in full.
    #[arg(long, value_name = "N", default_value_t = 50)]
    failures_max: usize,
}

/// A compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Compiler {
    /// Stencils.
    Baseline,
    /// Stencils, and optimised regions by Cranelift.
    Optimised,
    /// Stencils, and optimised regions by LLVM.
    Tier1,
}

impl From<Compiler> for Tier {
    fn from(compiler: Compiler) -> Self {
        match compiler {
            Compiler::Baseline => Self::Baseline,
            Compiler::Optimised => Self::Optimised,
            Compiler::Tier1 => Self::Tier1,
        }
    }
}

/// What became of a code.
#[derive(Debug)]
enum Outcome {
    /// It is there under this key, once that was written.
    Built(Key),
    There,
    Failed(String),
}

impl Outcome {
    /// Why it failed, if it did.
    fn failure(&self) -> Option<&str> {
        match self {
            Self::Failed(reason) => Some(reason),
            Self::Built(_) | Self::There => None,
        }
    }
}

pub(super) fn run(
    arguments: &Arguments,
    path: &Path,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let started = Instant::now();
    let mut codes = codes::read(&arguments.codes, arguments.spec)?;
    let config = config(arguments, path)?;
    let store = Store::open(path, Access::ReadWrite)?;
    if let Some(path) = &arguments.profile {
        let profile = profile(path)?;
        if arguments.profiled_only {
            keep_known(&mut codes, &profile);
        }
        store.save_profile(&profile)?;
    }
    let threads = arguments.threads.or_else(|| thread::available_parallelism().ok());
    let build = Build {
        build: build_digest(&config.limits),
        rank: rank(arguments.tier.into()),
        config,
        store,
        threads: threads.map_or(1, NonZeroUsize::get),
        progress: Progress::new(codes.len() as u64, "codes"),
    };
    let outcomes = build.all(&codes)?;
    build.progress.finish();
    let results: Vec<_> = codes.iter().zip(&outcomes).collect();
    let failed = print_failures(&results, arguments.failures_max, output)?;
    print(&arguments.codes, &results, output)?;
    let bytes: u64 = build.store.list()?.iter().map(|stored| stored.bytes).sum();
    let time = duration(started.elapsed().as_nanos().try_into().unwrap_or(u64::MAX));
    output.line(format_args!("{} bytes in the store, {time}", grouped(bytes)))?;
    Ok(Verdict::of(failed == 0))
}

/// The options of the engine that compiles: the environment's limits, and its own way.
fn config(arguments: &Arguments, path: &Path) -> Result<Config, CliError> {
    let tier = arguments.tier.into();
    let what = if arguments.profile.is_some() { Compile::Seen } else { Compile::All };
    let own = ConfigBuilder::from(Config::eager()).store_bytes_max(BYTES_MAX);
    let stated = own.env();
    let built = stated.and_then(|stated| {
        let stated = stated.enabled(true).backend(Backend::Native).compile(what);
        let stated = stated.first_tier(tier).top_tier(tier);
        let stated = stated.store(Some(path.to_path_buf())).store_mode(StoreMode::ReadWrite);
        stated.store_preload(false).build()
    });
    built.map_err(|error| CliError::Usage(error.to_string()))
}

/// What is known of codes, without what a process left undone.
fn profile(path: &Path) -> Result<Profile, CliError> {
    let bytes = fs::read(path).map_err(|error| at(path, error))?;
    let profile = Profile::decode(&bytes)
        .map_err(|error| CliError::Usage(format!("{}: no profile: {error}", path.display())))?;
    Ok(Profile { quarantined: Vec::new(), pending: Vec::new(), ..profile })
}

fn keep_known(codes: &mut Vec<Code>, profile: &Profile) {
    let known: HashSet<CodeId> = profile.codes.iter().map(|code| code.id).collect();
    codes.retain(|Code { bytecode, spec, .. }| {
        let (code_hash, baked) = (bytecode.hash_slow().0, Digest::of_config(&tier::mainnet(*spec)));
        known.contains(&CodeId { code_hash, baked })
    });
}

/// A tier's number in the store.
fn rank(tier: Tier) -> Rank {
    Rank::from_u8(tier as u8).unwrap_or(Rank::BASELINE)
}

struct Build {
    config: Config,
    store: Store,
    build: Digest,
    rank: Rank,
    threads: usize,
    progress: Progress,
}

impl Build {
    /// Compiles and saves.
    fn all(&self, codes: &[Code]) -> Result<Vec<Outcome>, CliError> {
        let mut outcomes = Vec::with_capacity(codes.len());
        for batch in codes.chunks(BATCH) {
            outcomes.extend(self.batch(batch)?);
        }
        let saved: HashSet<Key> = self.store.keys()?.into_iter().collect();
        for outcome in &mut outcomes {
            if matches!(outcome, Outcome::Built(key) if !saved.contains(key)) {
                *outcome = Outcome::Failed("it was compiled, and not saved".to_owned());
            }
        }
        Ok(outcomes)
    }

    /// With an engine of its own, so that memory does not grow with the list.
    fn batch(&self, codes: &[Code]) -> Result<Vec<Outcome>, CliError> {
        let engine = Engine::new(self.config.clone());
        let engine = engine.map_err(|error| CliError::Engine(error.to_string()))?;
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(Vec::with_capacity(codes.len()));
        let work = || {
            // Relaxed: it only hands out indexes; the outcomes go through the mutex.
            while let Some(index) =
                Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&index| index < codes.len())
            {
                let outcome = self.code(&engine, &codes[index]);
                outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((index, outcome));
                self.progress.inc();
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.min(codes.len()) {
                scope.spawn(work);
            }
            work();
        });
        tier::flush(&engine);
        let mut outcomes = outcomes.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcomes.sort_unstable_by_key(|(index, _)| *index);
        Ok(outcomes.into_iter().map(|(_, outcome)| outcome).collect())
    }

    fn code(&self, engine: &Engine, code: &Code) -> Outcome {
        let Code { bytecode, spec, .. } = code;
        let baked = tier::mainnet(*spec);
        let key = Key::new(bytecode.original_byte_slice(), &baked, self.build, self.rank);
        // Read as a whole: what is damaged is set aside, and made again.
        match self.store.load(&key, &DecodeLimits::default()) {
            Ok(Loaded::Found(_)) => return Outcome::There,
            Ok(Loaded::Missing | Loaded::Bad(_)) => {}
            Err(error) => return Outcome::Failed(error.to_string()),
        }
        match engine.compile(bytecode, B256::new(key.code_hash), &baked) {
            Ok(program) => Outcome::Built(Key { rank: rank(program.tier()), ..key }),
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }
}

/// Shows what failed, and answers how much that is.
fn print_failures(
    results: &[(&Code, &Outcome)],
    max: usize,
    output: &mut Output,
) -> io::Result<usize> {
    let failed: Vec<_> =
        results.iter().filter_map(|(code, outcome)| Some((code, outcome.failure()?))).collect();
    for (code, reason) in failed.iter().take(max) {
        let (hash, bytes) = (code.bytecode.hash_slow(), code.bytecode.len());
        output.line(format_args!("failed: {hash} {:?}, {bytes} bytes: {reason}", code.spec))?;
    }
    let more = failed.len().saturating_sub(max);
    if more != 0 {
        output.line(format_args!("and {more} more failures"))?;
    }
    Ok(failed.len())
}

/// What became of the codes of each argument, and of all of them.
fn print(
    arguments: &[String],
    results: &[(&Code, &Outcome)],
    output: &mut Output,
) -> io::Result<()> {
    let mut table =
        table(output.is_terminal(), &["codes of", "codes", "built", "there", "failed"], 1..5);
    let row = |name: &str, is_meant: &dyn Fn(&Code) -> bool| {
        let of = |kind: fn(&Outcome) -> bool| {
            let meant = results.iter().filter(|(code, outcome)| is_meant(code) && kind(outcome));
            grouped(meant.count() as u64)
        };
        let name: String = name.chars().take(NAME_MAX).collect();
        [
            name,
            of(|_| true),
            of(|outcome| matches!(outcome, Outcome::Built(_))),
            of(|outcome| matches!(outcome, Outcome::There)),
            of(|outcome| matches!(outcome, Outcome::Failed(_))),
        ]
    };
    for (index, name) in arguments.iter().enumerate() {
        table.add_row(row(name, &|code| code.argument == index));
    }
    table.add_row(row("total", &|_| true));
    output.line(table)
}
