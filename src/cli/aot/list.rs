//! `kiln aot list`.

use super::super::{
    Verdict,
    error::CliError,
    output::{Output, grouped, table},
    tier,
};
use comfy_table::Table;
use kiln_runtime::build_digest;
use kiln_store::{Digest, Store, Stored};
use revm::primitives::{hardfork::SpecId, hex};
use serde::Serialize;
use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

/// Show what a store has: of each artifact the code's hash, the tier, the fork, bytes, and when it was used.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Show it as JSON.
    #[arg(long)]
    json: bool,
}

/// An artifact.
#[derive(Debug, Serialize)]
struct Row {
    /// Keccak-256 of its code.
    code_hash: String,
    /// What made it.
    tier: String,
    /// The fork; none if an EVM with instructions of its own, or with another gas table, runs it.
    fork: Option<String>,
    /// Whether this build and CPU made it.
    is_ours: bool,
    bytes: u64,
    /// When it was saved, or used since: seconds since 1970.
    used_s: u64,
}

#[derive(Debug, Default, Serialize)]
struct Total {
    artifacts: usize,
    /// Of this build.
    ours: usize,
    codes: usize,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Listing {
    artifacts: Vec<Row>,
    total: Total,
}

pub(super) fn run(
    arguments: &Arguments,
    store: &Store,
    output: &mut Output,
) -> Result<Verdict, CliError> {
    let build = build_digest(&tier::limits()?);
    let mut listed = store.list()?;
    listed.sort_unstable_by_key(|stored| stored.key);
    let mut codes: Vec<_> = listed.iter().map(|stored| stored.key.code_hash).collect();
    codes.dedup();
    let forks = forks();
    let rows: Vec<Row> = listed.iter().map(|stored| Row::new(stored, build, &forks)).collect();
    let total = Total {
        artifacts: rows.len(),
        ours: rows.iter().filter(|row| row.is_ours).count(),
        codes: codes.len(),
        bytes: rows.iter().map(|row| row.bytes).sum(),
    };
    let listing = Listing { artifacts: rows, total };
    if arguments.json {
        // All fields are numbers, strings and lists of them, which always serialize.
        output.line(serde_json::to_string_pretty(&listing).unwrap_or_default())?;
    } else {
        listing.print(output)?;
    }
    Ok(Verdict::Same)
}

/// The forks by what mainnet's EVM bakes in: so that the list takes no look into files.
fn forks() -> HashMap<Digest, SpecId> {
    let specs = (0..=SpecId::NEXT as u8).filter_map(SpecId::try_from_u8);
    specs.map(|spec| (Digest::of_config(&tier::mainnet(spec)), spec)).collect()
}

impl Row {
    fn new(stored: &Stored, build: Digest, forks: &HashMap<Digest, SpecId>) -> Self {
        let Stored { key, bytes, used } = stored;
        Self {
            code_hash: hex::encode_prefixed(key.code_hash),
            tier: key.rank.to_string(),
            fork: forks.get(&key.baked).map(|spec| format!("{spec:?}")),
            is_ours: key.build == build,
            bytes: *bytes,
            used_s: used.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        }
    }
}

impl Listing {
    fn print(&self, output: &mut Output) -> Result<(), CliError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let header = ["code", "tier", "fork", "build", "bytes", "used"];
        let mut shown: Table = table(output.is_terminal(), &header, 4..6);
        for row in &self.artifacts {
            shown.add_row([
                row.code_hash.clone(),
                row.tier.clone(),
                row.fork.clone().unwrap_or_else(|| "-".to_owned()),
                if row.is_ours { "this" } else { "another" }.to_owned(),
                grouped(row.bytes),
                ago(now.saturating_sub(row.used_s)),
            ]);
        }
        if !self.artifacts.is_empty() {
            output.line(shown)?;
        }
        let Total { artifacts, ours, codes, bytes } = &self.total;
        let others = artifacts - ours;
        Ok(output.line(format_args!(
            "{} artifacts of {} codes, {} bytes; {} of other builds",
            grouped(*artifacts as u64),
            grouped(*codes as u64),
            grouped(*bytes),
            grouped(others as u64),
        ))?)
    }
}

/// A time in the past, roughly.
fn ago(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        let times = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(ago);
        let expected =
            ["0 s ago", "119 s ago", "2 min ago", "119 min ago", "2 h ago", "47 h ago", "2 d ago"];
        assert_eq!(times, expected);
    }

    #[test]
    fn every_fork_has_a_digest_of_its_own() {
        assert_eq!(forks().len(), (0..=SpecId::NEXT as u8).filter_map(SpecId::try_from_u8).count());
    }
}
