//! `kiln aot`: the store of machine code, by hand.
//!
//! **Owns** the commands on a store's folder. **Callers guarantee** nothing. **Never** looks into files itself: that is
//! for `kiln-store`, which checks all it reads.

mod build;
mod codes;
mod list;

use super::{
    Verdict,
    error::CliError,
    output::{Output, grouped},
    tier,
};
use kiln_runtime::{Config, build_digest};
use kiln_store::{Access, Bad, CollectPlan, Collected, DecodeLimits, Moved, Store};
use std::{
    fs::File,
    io::{self, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

/// Work on a store: the folder in which engines keep machine code, to be found again after a restart.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The folder; if not given, that of KILN_STORE.
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Build(build::Arguments),
    List(list::Arguments),
    /// Check all of every artifact, as if it were to be run. Exits with 1 if one is bad. Changes nothing.
    Verify,
    /// Remove artifacts until the rest fits: of other builds first, then those that a better tier made one of, then
    /// what was not used for longest. Also what writers that are gone have left.
    Gc {
        /// Bytes of artifacts that may stay.
        #[arg(long, value_name = "BYTES")]
        bytes_max: u64,
    },
    /// Remove all artifacts, of every build, and what is remembered of codes.
    Clear,
    /// Write all artifacts and what is remembered of codes to a tar archive. Exits with 1 if one was bad and left out.
    Export {
        /// The archive.
        file: PathBuf,
    },
    /// Take in an archive. Exits with 1 if something in it was bad and left out.
    Import {
        /// The archive.
        file: PathBuf,
    },
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    let path = folder(arguments.store.as_deref())?;
    let open = |access| Store::open(&path, access);
    let limits = DecodeLimits::default();
    match &arguments.command {
        Command::Build(arguments) => build::run(arguments, &path, output),
        Command::List(arguments) => list::run(arguments, &open(Access::ReadOnly)?, output),
        Command::Verify => {
            let verified = open(Access::ReadOnly)?.verify(&limits, &|| false)?;
            complain(&verified.bad);
            let (good, bytes) = (grouped(verified.good as u64), grouped(verified.good_bytes));
            output.line(format_args!("{good} good, {bytes} bytes; {} bad", verified.bad.len()))?;
            Ok(Verdict::of(verified.bad.is_empty()))
        }
        Command::Gc { bytes_max } => gc(&open(Access::ReadWrite)?, *bytes_max, output),
        Command::Clear => {
            let (removed, bytes) = open(Access::ReadWrite)?.clear()?;
            let (removed, bytes) = (grouped(removed as u64), grouped(bytes));
            output.line(format_args!("{removed} artifacts removed, {bytes} bytes"))?;
            Ok(Verdict::Same)
        }
        Command::Export { file } => {
            let store = open(Access::ReadOnly)?;
            let writer = BufWriter::new(File::create(file).map_err(|error| at(file, error))?);
            moved("written", &store.export(writer, &limits)?, output)
        }
        Command::Import { file } => {
            let reader = BufReader::new(File::open(file).map_err(|error| at(file, error))?);
            moved("taken in", &open(Access::ReadWrite)?.import(reader, &limits)?, output)
        }
    }
}

/// The folder that is meant.
fn folder(store: Option<&Path>) -> Result<PathBuf, CliError> {
    if let Some(store) = store {
        return tier::absolute(store);
    }
    let stated = Config::from_env().map_err(|error| CliError::Usage(error.to_string()))?.store;
    stated.ok_or_else(|| CliError::Usage("which store? --store DIR, or KILN_STORE".to_owned()))
}

fn at(path: &Path, error: io::Error) -> CliError {
    CliError::File { path: path.to_path_buf(), error }
}

/// Says on standard error what is bad.
fn complain(bad: &[Bad]) {
    for bad in bad {
        // The exit code tells it, too.
        let _ = writeln!(io::stderr(), "bad: {bad}");
    }
}

/// Passes, until nothing is left to remove.
fn gc(store: &Store, bytes_max: u64, output: &mut Output) -> Result<Verdict, CliError> {
    let plan = CollectPlan::new(bytes_max, build_digest(&tier::limits()?));
    let mut total = Collected::default();
    while !total.is_done {
        let pass = store.collect(&plan, &|| false)?;
        total = Collected {
            removed: total.removed + pass.removed,
            removed_bytes: total.removed_bytes + pass.removed_bytes,
            temporary: total.temporary + pass.temporary,
            ..pass
        };
    }
    output.line(format_args!(
        "{} artifacts removed, {} bytes; {} files that writers left; {} bytes stay",
        grouped(total.removed as u64),
        grouped(total.removed_bytes),
        grouped(total.temporary as u64),
        grouped(total.left_bytes),
    ))?;
    Ok(Verdict::Same)
}

fn moved(what: &str, moved: &Moved, output: &mut Output) -> Result<Verdict, CliError> {
    complain(&moved.bad);
    let (artifacts, bytes) = (grouped(moved.artifacts as u64), grouped(moved.bytes));
    let profile = if moved.has_profile { "and a profile" } else { "no profile" };
    let bad = moved.bad.len();
    output
        .line(format_args!("{artifacts} artifacts {what}, {bytes} bytes, {profile}; {bad} bad"))?;
    Ok(Verdict::of(moved.bad.is_empty()))
}
