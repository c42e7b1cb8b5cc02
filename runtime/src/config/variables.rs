//! The `KILN_*` variables: one row each. Parsing, ranges, error texts and README's table are derived
//! from it.

use super::{Backend, Compile, Config, ConfigError, StoreMode, Worker};
use crate::{checks::Checks, force::Force, hooks::Tier};
use kiln_abi::EntryTable;
use kiln_ir::Perturb;
use std::{ffi::OsStr, ops::RangeInclusive, path::PathBuf};

const PREFIX: &str = "KILN_";

/// A name that begins with `KILN_`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Variable {
    /// Its name. With a `*` at its end: all that begin so.
    pub name: &'static str,
    /// The path of the field of [`Config`] it sets. None if it is not the library's, but read by
    /// tests or scripts.
    pub field: Option<&'static str>,
    /// What it is for.
    pub meaning: &'static str,
    knob: Option<fn(&mut Config) -> Knob<'_>>,
}

macro_rules! sets {
    ($name:literal, $kind:ident($($field:ident).+ $(, $more:expr)*), $meaning:literal) => {
        Variable {
            name: $name,
            field: Some(stringify!($($field).+)),
            meaning: $meaning,
            knob: Some(|config| Knob::$kind(&mut config.$($field).+ $(, $more)*)),
        }
    };
}

const fn not_ours(name: &'static str, meaning: &'static str) -> Variable {
    Variable { name, field: None, meaning, knob: None }
}

/// The highest value of a field of 32 bits.
const MAX: u64 = u32::MAX as u64;
const ANY: Range = 0..=MAX;

/// Every variable, in the order of README's table.
///
/// The bounds keep what compilers count within their fields: 32 bits for positions, instructions and
/// fixups of a program (looked at after each block) and for the static gas of a block.
pub const VARIABLES: &[Variable] = &[
    sets!("KILN_ENABLED", Switch(enabled), "off: frames go straight to the EVM's own loop"),
    sets!(
        "KILN_BACKEND",
        Backend(backend),
        "machine code, or the slow evaluator of the block IR, for tests"
    ),
    sets!(
        "KILN_COMPILE",
        Compile(compile),
        "whole contracts, only blocks that were seen to run, or nothing: only what the store has"
    ),
    sets!("KILN_FIRST_TIER", Tier(first_tier), "the tier that code is compiled with first"),
    sets!("KILN_TOP_TIER", Tier(top_tier), "the tier that hot code is compiled with at most"),
    sets!(
        "KILN_TIER1_WORKER",
        Worker(tier1_worker),
        "the executable in which tier 1 compiles; `off`: in this process"
    ),
    sets!(
        "KILN_REGION_EXECUTIONS",
        Count(region_executions, 1..=MAX, "executions"),
        "executions of a block, while its code is profiled, from which it gets an optimised region"
    ),
    sets!(
        "KILN_REGIONS_MAX",
        Number(regions_max, 0..=1 << 16, "regions"),
        "optimised regions of a program; further blocks stay on the baseline"
    ),
    sets!(
        "KILN_OPTIMISE_FRAMES",
        Count(optimise_frames, 1..=MAX, "frames"),
        "frames of a program before it gets optimised regions; loops count by their rounds"
    ),
    sets!(
        "KILN_TIER1_FRAMES",
        Count(tier1_frames, 1..=MAX, "frames"),
        "frames of a program with optimised regions before it gets those of tier 1"
    ),
    sets!(
        "KILN_PROFILE_BLOCKS",
        Count(profile_blocks, 1..=MAX, "blocks"),
        "blocks that are interpreted and counted before a code gets optimised regions"
    ),
    sets!(
        "KILN_WARM_FRAMES",
        Count(warm_frames, ANY, "frames"),
        "with `all`: frames of a code that are interpreted before it is compiled"
    ),
    sets!(
        "KILN_HOT_EXECUTIONS",
        Count(hot_executions, 1..=65_535, "executions"),
        "with `seen`: executions of a block before it is worth compiling"
    ),
    sets!("KILN_RECORDING", Switch(recording), "start out recording: interpret and mark only"),
    sets!(
        "KILN_CODE_BYTES_MAX",
        Size(code_bytes_max, 4 << 10..=1 << 40, "bytes"),
        "machine code held at a time; what does not fit is interpreted"
    ),
    sets!(
        "KILN_CODE_LEN_MAX",
        Size(limits.code_bytes_max, 1..=EntryTable::CODE_LEN_MAX as u64, "bytes"),
        "bytecode of one program; longer code is interpreted"
    ),
    sets!(
        "KILN_BLOCK_INSTRUCTIONS_MAX",
        Number(limits.block_instructions_max, 1..=1 << 16, "instructions"),
        "instructions of one block; a longer one is cut"
    ),
    sets!(
        "KILN_INSTS_MAX",
        Number(limits.insts_max, 1..=1 << 28, "IR instructions"),
        "IR instructions of one program; beyond that code is interpreted"
    ),
    sets!(
        "KILN_FIXUPS_MAX",
        Number(limits.fixups_max, 1..=1 << 28, "fixups"),
        "fixups of one program; beyond that code is interpreted"
    ),
    sets!(
        "KILN_TEXT_RATIO_MAX",
        Number(limits.text_ratio_max, 1..=1 << 20, "bytes"),
        "machine code for each instruction of a program; beyond that code is interpreted"
    ),
    sets!(
        "KILN_TEXT_BYTES_FREE",
        Size(limits.text_bytes_free, 0..=1 << 30, "bytes"),
        "machine code a program may have on top of that"
    ),
    sets!(
        "KILN_COMPILE_THREADS",
        Number(compile_threads, 0..=64, "threads"),
        "threads that compile; 0: on the calling thread"
    ),
    sets!(
        "KILN_INLINE_COMPILE_NS",
        Count(inline_compile_ns, ANY, "ns"),
        "estimated compile time up to which the calling thread compiles itself"
    ),
    sets!(
        "KILN_EVENT_QUEUE_LEN",
        Number(event_queue_len, 1..=1 << 20, "events"),
        "events that wait for the backend thread; what does not fit is dropped"
    ),
    sets!(
        "KILN_JOB_QUEUE_LEN",
        Number(job_queue_len, 1..=1 << 20, "jobs"),
        "jobs of a tier that wait for a compile thread; what does not fit is dropped"
    ),
    sets!(
        "KILN_DRAIN_MAX",
        Number(drain_max, 1..=1 << 20, "events"),
        "events handled in one round of the backend thread"
    ),
    sets!(
        "KILN_COMPILE_DEADLINE_MS",
        Count(compile_deadline_ms, 1..=MAX, "ms"),
        "wall-clock time of one job; then it is cancelled"
    ),
    sets!(
        "KILN_OPTIMISE_DEADLINE_MS",
        Count(optimise_deadline_ms, 1..=MAX, "ms"),
        "wall-clock time of one job that makes optimised regions"
    ),
    sets!(
        "KILN_COMPILE_GRACE_MS",
        Count(compile_grace_ms, ANY, "ms"),
        "after the deadline, before a compile thread is given up"
    ),
    sets!(
        "KILN_JOB_AGE_MS_MAX",
        Count(job_age_ms_max, ANY, "ms"),
        "a job that waited longer is dropped"
    ),
    sets!("KILN_COOLDOWN_MS", Count(cooldown_ms, ANY, "ms"), "between two compilations of a code"),
    sets!(
        "KILN_BACKOFF_MS_MAX",
        Count(backoff_ms_max, ANY, "ms"),
        "the longest wait after failures"
    ),
    sets!(
        "KILN_ATTEMPTS_MAX",
        Count(attempts_max, 1..=MAX, "failures"),
        "failures in a row before a code is quarantined"
    ),
    sets!("KILN_SWEEP_INTERVAL_MS", Count(sweep_interval_ms, 10..=MAX, "ms"), "between two sweeps"),
    sets!(
        "KILN_IDLE_MS_MAX",
        Count(idle_ms_max, ANY, "ms"),
        "a program not run for longer is evicted; 0: never for that"
    ),
    sets!(
        "KILN_SLOTS_MAX",
        Number(slots_max, 0..=1 << 32, "codes"),
        "codes without a program that are remembered"
    ),
    sets!(
        "KILN_SHUTDOWN_MS",
        Count(shutdown_ms, ANY, "ms"),
        "how long dropping an engine waits for its threads"
    ),
    sets!("KILN_STORE", Folder(store), "folder of the artifact store; `none`: nothing is kept"),
    sets!("KILN_STORE_MODE", StoreMode(store_mode), "when the store is written to"),
    sets!(
        "KILN_STORE_BYTES_MAX",
        Size(store_bytes_max, 1 << 20..=1 << 50, "bytes"),
        "bytes of artifacts that are kept; what was not used for long goes first"
    ),
    sets!(
        "KILN_STORE_PRELOAD",
        Switch(store_preload),
        "load what the store has in the background when the engine is made; else at first use"
    ),
    sets!(
        "KILN_SNAPSHOT_FIRST_MS",
        Count(snapshot_first_ms, ANY, "ms"),
        "until what is known about codes is first written to the store; 0: not for that"
    ),
    sets!(
        "KILN_SNAPSHOT_INTERVAL_MS",
        Count(snapshot_interval_ms, ANY, "ms"),
        "between two times of that; 0: not for that"
    ),
    sets!(
        "KILN_SNAPSHOT_IDLE_MS",
        Count(snapshot_idle_ms, ANY, "ms"),
        "nothing executed for so long: it is written, and the store tidied up; 0: never"
    ),
    sets!(
        "KILN_HUGE_PAGES",
        Switch(huge_pages),
        "put huge pages under code that is in use (Linux 6.1 and later)"
    ),
    sets!("KILN_PERF_MAP", Switch(perf_map), "write programs into `/tmp/perf-PID.map`, for `perf`"),
    sets!("KILN_GDB", Switch(gdb), "register programs with a debugger (GDB JIT interface)"),
    sets!(
        "KILN_FORCE",
        Force(force),
        "transitions forced at every N-th safepoint, or as seed N draws them, for tests"
    ),
    sets!(
        "KILN_PERTURB",
        Perturb(limits.perturb),
        "slow paths and ways out that compiled code is made to take, for tests"
    ),
    sets!(
        "KILN_CHECK",
        Checks(checks),
        "what is compared while it runs: programs that were encoded and decoded, two compilations, one frame of N with the interpreter"
    ),
    sets!(
        "KILN_REPORTS",
        Folder(reports),
        "folder for a case file of each difference that a check finds"
    ),
    not_ours("KILN_FIXTURES", "folder of fixtures, for tests, benchmarks and `.ci/run`"),
    not_ours("KILN_NO_LLVM", "`make` leaves tier 1 out, and does not install LLVM"),
    not_ours("KILN_TEST_*", "seed and number of generated tests"),
];

impl Variable {
    /// Its value that would give this configuration's field; none if it is not the library's.
    pub fn value(&self, config: &Config) -> Option<String> {
        Some(self.knob?(&mut config.clone()).text())
    }

    /// What values it takes, in words; none if it is not the library's.
    pub fn expected(&self) -> Option<String> {
        Some(self.knob?(&mut Config::default()).expected())
    }

    fn is_named(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => name == self.name,
        }
    }

    pub(super) fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let (Some(field), Some(knob)) = (self.field, self.knob) else { return Ok(()) };
        let mut config = config.clone();
        let knob = knob(&mut config);
        match knob.in_range() {
            true => Ok(()),
            false => {
                Err(ConfigError::Field { field, value: knob.text(), expected: knob.expected() })
            }
        }
    }
}

/// Sets the field of a variable. Leaves alone what does not begin with `KILN_`, or is not ours.
pub(super) fn apply(config: &mut Config, name: &OsStr, value: &OsStr) -> Result<(), ConfigError> {
    let name = name.to_string_lossy();
    if !name.starts_with(PREFIX) {
        return Ok(());
    }
    let Some(variable) = VARIABLES.iter().find(|variable| variable.is_named(&name)) else {
        return Err(ConfigError::Unknown { name: name.into_owned() });
    };
    let Some(knob) = variable.knob else { return Ok(()) };
    match value.to_str().and_then(|value| knob(config).set(value)) {
        Some(()) => Ok(()),
        None => Err(ConfigError::Value {
            name: variable.name,
            value: value.to_string_lossy().into_owned(),
            expected: knob(config).expected(),
        }),
    }
}

type Range = RangeInclusive<u64>;
type Unit = &'static str;

/// A field, with how it is written.
enum Knob<'a> {
    Switch(&'a mut bool),
    Backend(&'a mut Backend),
    Compile(&'a mut Compile),
    Tier(&'a mut Tier),
    Worker(&'a mut Worker),
    /// An absolute path, or none.
    Folder(&'a mut Option<PathBuf>),
    StoreMode(&'a mut StoreMode),
    Count(&'a mut u32, Range, Unit),
    Number(&'a mut usize, Range, Unit),
    /// A number that may have a suffix.
    Size(&'a mut usize, Range, Unit),
    Force(&'a mut Force),
    Perturb(&'a mut Perturb),
    Checks(&'a mut Checks),
}

impl Knob<'_> {
    /// None if the text is bad.
    fn set(self, text: &str) -> Option<()> {
        match self {
            Self::Switch(field) => *field = choose(&SWITCH, text)?,
            Self::Backend(field) => *field = choose(&BACKEND, text)?,
            Self::Compile(field) => *field = choose(&COMPILE, text)?,
            Self::Tier(field) => *field = choose(&TIER, text)?,
            Self::Worker(field) => *field = worker(text)?,
            Self::Folder(field) => *field = folder(text)?,
            Self::StoreMode(field) => *field = choose(&STORE_MODE, text)?,
            Self::Count(field, range, _) => *field = within(number(text)?, &range)?,
            Self::Number(field, range, _) => *field = within(number(text)?, &range)?,
            Self::Size(field, range, _) => *field = within(size(text)?, &range)?,
            Self::Force(field) => *field = text.parse().ok()?,
            Self::Perturb(field) => *field = text.parse().ok()?,
            Self::Checks(field) => *field = text.parse().ok()?,
        }
        Some(())
    }

    /// What [`Self::set`] reads back.
    fn text(&self) -> String {
        match self {
            Self::Switch(field) => name_of(&SWITCH, **field),
            Self::Backend(field) => name_of(&BACKEND, **field),
            Self::Compile(field) => name_of(&COMPILE, **field),
            Self::Tier(field) => name_of(&TIER, **field),
            Self::Worker(field) => match field {
                Worker::Off => "off".to_owned(),
                Worker::Found => "found".to_owned(),
                Worker::Path(path) => path.display().to_string(),
            },
            Self::Folder(field) => match field {
                None => "none".to_owned(),
                Some(path) => path.display().to_string(),
            },
            Self::StoreMode(field) => name_of(&STORE_MODE, **field),
            Self::Count(field, ..) => field.to_string(),
            Self::Number(field, ..) => field.to_string(),
            Self::Size(field, ..) => size_text(**field as u64),
            Self::Force(field) => field.to_string(),
            Self::Perturb(field) => field.to_string(),
            Self::Checks(field) => field.to_string(),
        }
    }

    fn expected(&self) -> String {
        match self {
            Self::Switch(_) => alternatives(&SWITCH),
            Self::Backend(_) => alternatives(&BACKEND),
            Self::Compile(_) => alternatives(&COMPILE),
            Self::Tier(_) => alternatives(&TIER),
            Self::Worker(_) => "off, found, or an absolute path".to_owned(),
            Self::Folder(_) => "none, or an absolute path".to_owned(),
            Self::StoreMode(_) => alternatives(&STORE_MODE),
            Self::Count(_, range, unit) | Self::Number(_, range, unit) => {
                format!("{} to {} {unit}", range.start(), range.end())
            }
            Self::Size(_, range, unit) => {
                format!("{} to {} {unit}", size_text(*range.start()), size_text(*range.end()))
            }
            Self::Perturb(_) => {
                "none, or any of no-inline, tiny-regions, every-exit, spill with commas between"
                    .to_owned()
            }
            Self::Checks(_) => {
                "none, or any of reload, twice, shadow=N with commas between".to_owned()
            }
            Self::Force(_) => {
                "none, or any of promote, exit=N, swap=N, evict=N, seed=N with commas between"
                    .to_owned()
            }
        }
    }

    fn in_range(&self) -> bool {
        match self {
            Self::Count(field, range, _) => range.contains(&u64::from(**field)),
            Self::Number(field, range, _) | Self::Size(field, range, _) => {
                range.contains(&(**field as u64))
            }
            // All values there are.
            Self::Switch(_)
            | Self::Backend(_)
            | Self::Compile(_)
            | Self::Tier(_)
            | Self::Worker(_)
            | Self::Folder(_)
            | Self::StoreMode(_)
            | Self::Force(_)
            | Self::Perturb(_)
            | Self::Checks(_) => true,
        }
    }
}

const SWITCH: [(&str, bool); 2] = [("true", true), ("false", false)];
const BACKEND: [(&str, Backend); 2] =
    [("native", Backend::Native), ("evaluator", Backend::Evaluator)];
const COMPILE: [(&str, Compile); 3] =
    [("all", Compile::All), ("seen", Compile::Seen), ("stored", Compile::Stored)];
const STORE_MODE: [(&str, StoreMode); 3] = [
    ("read-only", StoreMode::ReadOnly),
    ("read-write", StoreMode::ReadWrite),
    ("write-on-shutdown", StoreMode::WriteOnShutdown),
];

fn folder(text: &str) -> Option<Option<PathBuf>> {
    match text {
        "none" => Some(None),
        path if path.starts_with('/') => Some(Some(path.into())),
        _ => None,
    }
}

fn worker(text: &str) -> Option<Worker> {
    match text {
        "off" => Some(Worker::Off),
        "found" => Some(Worker::Found),
        path if path.starts_with('/') => Some(Worker::Path(path.into())),
        _ => None,
    }
}

const TIER: [(&str, Tier); 3] = [
    (Tier::Baseline.name(), Tier::Baseline),
    (Tier::Optimised.name(), Tier::Optimised),
    (Tier::Tier1.name(), Tier::Tier1),
];
/// Powers of 1024, largest first.
const SUFFIXES: [(char, u64); 3] = [('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

fn choose<T: Copy>(choices: &[(&str, T)], text: &str) -> Option<T> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
}

fn name_of<T: Copy + PartialEq>(choices: &[(&str, T)], value: T) -> String {
    choices.iter().filter(|choice| choice.1 == value).map(|choice| choice.0).collect()
}

fn alternatives<T>(choices: &[(&str, T)]) -> String {
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    names.join(" or ")
}

/// Digits only: no sign, no spaces.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A number, with a suffix of either case or none.
fn size(text: &str) -> Option<u64> {
    let suffixed = SUFFIXES.iter().find_map(|&(suffix, factor)| {
        let digits = text.strip_suffix([suffix, suffix.to_ascii_lowercase()])?;
        Some((digits, factor))
    });
    let (digits, factor) = suffixed.unwrap_or((text, 1));
    number(digits)?.checked_mul(factor)
}

fn size_text(bytes: u64) -> String {
    let whole = |&&(_, factor): &&(char, u64)| bytes != 0 && bytes.is_multiple_of(factor);
    match SUFFIXES.iter().find(whole) {
        Some((suffix, factor)) => format!("{}{suffix}", bytes / factor),
        None => bytes.to_string(),
    }
}

fn within<T: TryFrom<u64>>(value: u64, range: &Range) -> Option<T> {
    if range.contains(&value) { value.try_into().ok() } else { None }
}
