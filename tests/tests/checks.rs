//! What engines make sure of about themselves: nothing is found where nothing is wrong, each planted fault is found,
//! costs its code the program and no result, and its report finds it again.

use kiln_runtime::{
    Backend, Check, Checks, Config, Engine, Fault, Hooks, Phase, PhaseStart, Report, Stats,
    StoreMode, Tiered,
};
use kiln_tests::Case;
use kiln_tests::compare::{check, differences};
use kiln_tests::db::CaseDb;
use kiln_tests::engine::{Engines, Kind, context, oracle, tiered, transact};
use kiln_tests::generate::seeded;
use revm::MainBuilder;
use revm::primitives::{U256, hardfork::SpecId, hex};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Generated cases, if the variable `KILN_TEST_CASES` does not say.
const GENERATED: u64 = 200;

fn checks(text: &str) -> Checks {
    text.parse().expect("checks")
}

fn case_files() -> Vec<(String, Case)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = std::fs::read_dir(folder).expect("the folder is there");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("its entries can be listed").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "evm"));
    paths.sort();
    let case = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).expect("a case file can be read");
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        (name, text.parse().expect("a case"))
    };
    paths.iter().map(case).collect()
}

/// The options of an engine of a kind, if there is one on this target.
fn config(kind: Kind) -> Option<Config> {
    let engines = Engines::new().expect("engines start");
    engines.of(kind).map(|engine| engine.config().clone())
}

fn found(stats: &Stats) -> u64 {
    stats.reload_differences + stats.twice_differences + stats.shadow_differences
}

/// Runs a case as the interpreter does.
fn exact(engine: &Engine, case: &Case) {
    let db = CaseDb::new(case);
    let details = differences(&oracle(case, &db), &tiered(case, &db, engine));
    assert!(details.is_empty(), "{}\n\n{case}", details.join("\n"));
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let all = checks("reload,twice,shadow=1");
    let folder = std::env::temp_dir().join(format!("kiln-checks-{}", std::process::id()));
    let engines =
        Engines::tuned(|_, config| Config { checks: all, reports: Some(folder.clone()), ..config });
    let engines = engines.expect("engines start");
    let reports = || {
        let files = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let texts = files.map(|file| std::fs::read_to_string(file.path()).unwrap_or_default());
        let short = |text: String| text.chars().take(2000).collect::<String>();
        texts.take(3).map(short).collect::<Vec<_>>().join("\n")
    };
    let count = std::env::var("KILN_TEST_CASES").map_or(GENERATED, |text| {
        text.parse().unwrap_or_else(|_| panic!("KILN_TEST_CASES={text} is not a number"))
    });
    let generated = (0..count).map(|seed| (format!("seed {seed}"), seeded(11_000_000 + seed)));
    let mut nth = 0;
    for (name, case) in case_files().into_iter().chain(generated) {
        let mut variants = case.variants().unwrap_or_else(|error| panic!("{name}: {error}"));
        // Of sweeps, every seventh limit: each is run twice here.
        let step = if variants.len() > 30 { 7 } else { 1 };
        variants = variants.into_iter().step_by(step).collect();
        for variant in variants {
            nth += 1;
            if let Some(difference) = check(&engines, Kind::thinned(Kind::COMPARED, nth), &variant)
            {
                panic!("{name}: {:?}, gas {}: {difference}", variant.spec, variant.gas);
            }
        }
        for (kind, engine) in engines.iter() {
            assert_eq!(found(&engine.stats()), 0, "{name}: {kind:?}\n{}", reports());
        }
        engines.clear();
    }
    for (kind, engine) in engines.iter() {
        let stats = engine.stats();
        assert!(stats.shadow_checked > 50 && stats.twice_checked > 50, "{kind:?}: {stats:?}");
        let encodes = engine.config().backend == Backend::Native;
        assert_eq!(stats.reload_checked > 50, encodes, "{kind:?}: {stats:?}");
    }
}

/// An engine in which something goes wrong, with what it reports.
struct Broken {
    engine: Engine,
    reports: Arc<Mutex<Vec<Report>>>,
}

type Intercept = fn(&PhaseStart<'_>, usize) -> Fault;

/// `intercept` also gets how often it was asked.
fn broken(config: Config, intercept: Option<Intercept>) -> Broken {
    let reports = Arc::<Mutex<Vec<Report>>>::default();
    let told = reports.clone();
    let times = AtomicUsize::new(0);
    let mut hooks = Hooks::default()
        .on_report(move |report| told.lock().expect("nobody panics").push(report.clone()));
    if let Some(intercept) = intercept {
        // Relaxed: only the number counts.
        hooks =
            hooks.intercept(move |start| intercept(start, times.fetch_add(1, Ordering::Relaxed)));
    }
    Broken { engine: Engine::with_hooks(config, hooks).expect("the engine starts"), reports }
}

impl Broken {
    fn reports(&self) -> Vec<Report> {
        self.reports.lock().expect("nobody panics").clone()
    }
}

/// All codes but very short ones: those that the others call.
fn overcharge(start: &PhaseStart<'_>, _: usize) -> Fault {
    let here = start.phase == Phase::Lower && start.code.len() > 8;
    if here { Fault::Overcharge } else { Fault::None }
}

/// Another number of bytes each time.
fn varying_code(start: &PhaseStart<'_>, nth: usize) -> Fault {
    if start.phase == Phase::Codegen { Fault::Output(30_000 + nth) } else { Fault::None }
}

fn varying_regions(start: &PhaseStart<'_>, nth: usize) -> Fault {
    if start.phase == Phase::Optimise { Fault::Output(30_000 + nth) } else { Fault::None }
}

/// Storage, balances, codes of others, calldata, value, memory, a call at the end: all that a report has to say.
fn rich() -> Case {
    let text = "\
spec: CANCUN
gas: 400000
value: 3
calldata: 0x00000000000000000000000000000000000000000000000000000000000000070102
storage: 7 = 0x1234
code:
  PUSH 0
  CALLDATALOAD
  SLOAD
  PUSH 0
  MSTORE
  SELFBALANCE
  PUSH 0xc0de1
  BALANCE
  PUSH 0xc0de1
  EXTCODESIZE
  PUSH 9
  PUSH 8
  SSTORE
  PUSH 3
  PUSH 1
  TSTORE
  PUSH 0
  PUSH 0
  PUSH 32
  PUSH 0
  PUSH 0
  PUSH 0xc0de1
  PUSH 50000
  CALL
  STOP
contract 0xc0de1:
  balance: 77
  nonce: 2
  code: 0x5f5f5500
";
    text.parse().expect("a case")
}

/// What any check has to do with any fault: find it once, and leave results as they are. Answers the report.
fn found_once(
    name: &str,
    config: &Config,
    intercept: Intercept,
    (check, case): (Check, &Case),
) -> Report {
    let folder = std::env::temp_dir().join(format!("kiln-checks-{}-{name}", std::process::id()));
    let config = Config { reports: Some(folder.clone()), ..config.clone() };
    let broken = broken(config, Some(intercept));
    let engine = &broken.engine;
    exact(engine, case);
    let stats = engine.stats();
    assert_eq!((found(&stats), stats.quarantined, stats.report_errors), (1, 1, 0), "{name}");
    for _ in 0..2 {
        exact(engine, case);
    }
    let later = engine.stats();
    assert_eq!((found(&later), later.quarantined), (1, 1), "{name}");
    let reports = broken.reports();
    let [report] = reports.as_slice() else { panic!("{name}: {} reports", reports.len()) };
    assert_eq!(report.check, check, "{name}");
    assert!(!report.differences.is_empty() && report.to_string().contains(check.name()), "{name}");
    let path = report.path.as_ref().expect("it was written");
    assert_eq!(std::fs::read_to_string(path).expect("it can be read"), report.text, "{name}");
    std::fs::remove_dir_all(folder).expect("nobody else uses it");
    report.clone()
}

/// The report is a case that finds the fault again, and nothing without it.
fn finds_it_again(name: &str, config: &Config, intercept: Intercept, report: &Report) {
    let case: Case = report.text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(!case.notes.is_empty(), "{name}");
    for (intercept, expected) in [(Some(intercept), 1), (None, 0)] {
        let broken = broken(config.clone(), intercept);
        exact(&broken.engine, &case);
        let stats = broken.engine.stats();
        assert_eq!(found(&stats), expected, "{name}:\n{}", report.text);
        assert!(stats.shadow_checked + stats.twice_checked + stats.reload_checked > 0, "{name}");
        let again = broken.reports();
        assert!(again.iter().all(|again| again.differences == report.differences), "{name}");
    }
}

/// Kinds that compile at the first frame, without optimised regions in the place of blocks.
const BASELINE: [Kind; 2] = [Kind::Evaluator, Kind::Tier0All];

#[test]
fn the_interpreters_shadow_finds_wrong_code() {
    let cases = [rich(), Case { is_static: true, value: U256::ZERO, ..rich() }];
    for kind in BASELINE {
        let Some(config) = config(kind) else { continue };
        let config = Config { checks: checks("shadow=1"), ..config };
        for (nth, case) in cases.iter().enumerate() {
            let name = format!("shadow-{kind}-{nth}");
            let report = found_once(&name, &config, overcharge, (Check::Shadow, case));
            assert!(report.differences.iter().any(|line| line.contains("gas")), "{report}");
            finds_it_again(&name, &config, overcharge, &report);
            let again: Case = report.text.parse().expect("a case");
            let same = |case: &Case| {
                (case.spec, case.gas, case.value, case.calldata.clone(), case.is_static)
            };
            assert_eq!(same(&again), same(case), "{name}");
            // Without the check it is a difference from the interpreter.
            let broken =
                broken(Config { checks: Checks::NONE, ..config.clone() }, Some(overcharge));
            let db = CaseDb::new(&again);
            let actual = tiered(&again, &db, &broken.engine);
            assert!(!differences(&oracle(&again, &db), &actual).is_empty(), "{name}");
        }
        // What the frame saw is in the case.
        let report = found_once("seen", &config, overcharge, (Check::Shadow, &cases[0]));
        for line in ["storage: 0x7 = 0x1234", "balance: 0x4d", "nonce: 2", "code: 0x5f5f5500"] {
            assert!(report.text.lines().any(|found| found == line), "{line}:\n{}", report.text);
        }
    }
}

/// What a broken process kept is found wrong, and nobody runs it again.
#[test]
fn what_was_wrong_is_not_kept() {
    let Some(config) = config(Kind::Tier0All) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config { store: Some(folder.path().join("store")), ..config };
    let (case, minute) = (rich(), Duration::from_secs(60));
    let db = CaseDb::new(&case);
    let differs =
        |engine: &Engine| !differences(&oracle(&case, &db), &tiered(&case, &db, engine)).is_empty();
    let wrong = broken(config.clone(), Some(overcharge)).engine;
    assert!(differs(&wrong) && wrong.flush_store(minute));
    drop(wrong);

    // It is loaded as it was kept.
    let unaware = Config { store_mode: StoreMode::ReadOnly, ..config.clone() };
    let unaware = Engine::new(unaware).expect("the engine starts");
    assert!(differs(&unaware) && unaware.stats().store_hits > 0);

    let checked = Config { checks: checks("shadow=1"), ..config.clone() };
    let checked = Engine::new(checked).expect("the engine starts");
    exact(&checked, &case);
    let stats = checked.stats();
    assert_eq!((stats.shadow_differences, stats.store_discarded), (1, 1), "{stats:?}");
    drop(checked);

    let after = Engine::new(config).expect("the engine starts");
    exact(&after, &case);
    after.preload();
    exact(&after, &case);
    assert!(after.stats().store_restored > 0, "it is in quarantine");
}

/// Whatever a frame does: with every program wrong, no result is.
#[test]
fn results_are_right_although_all_code_is_wrong() {
    for kind in BASELINE {
        let Some(config) = config(kind) else { continue };
        let broken = broken(Config { checks: checks("shadow=1"), ..config }, Some(overcharge));
        let mut nth = 0;
        for seed in 0..100 {
            let case = seeded(12_000_000 + seed);
            exact(&broken.engine, &case);
            nth += 1;
        }
        let stats = broken.engine.stats();
        assert!(stats.shadow_differences > nth / 2, "{kind:?}: {stats:?}");
        assert_eq!(stats.shadow_differences, broken.reports().len() as u64, "{kind:?}");
        for report in broken.reports() {
            report.text.parse::<Case>().unwrap_or_else(|error| panic!("{error}:\n{}", report.text));
        }
    }
}

#[test]
fn compiling_twice_finds_code_that_varies() {
    let mut kinds = vec![(Kind::Tier0All, varying_code as Intercept)];
    kinds.push((Kind::OptimisedAll, varying_code));
    kinds.push((Kind::OptimisedAll, varying_regions));
    #[cfg(feature = "llvm")]
    kinds.push((Kind::Tier1All, varying_regions));
    for (nth, (kind, intercept)) in kinds.into_iter().enumerate() {
        let Some(config) = config(kind) else { continue };
        let config = Config { checks: checks("twice"), ..config };
        let name = format!("twice-{kind}-{nth}");
        let case = Case::of_code(SpecId::PRAGUE, hex!("5f35600101600055"));
        let report = found_once(&name, &config, intercept, (Check::Twice, &case));
        assert!(report.differences[0].contains("bytes of text"), "{report}");
        let case: Case = report.text.parse().expect("a case");
        for (intercept, programs) in [(Some(intercept), 0), (None, 1)] {
            let broken = broken(config.clone(), intercept);
            exact(&broken.engine, &case);
            let stats = broken.engine.stats();
            assert_eq!((stats.programs, found(&stats)), (programs, 1 - programs), "{name}");
        }
    }
}

fn flipped(start: &PhaseStart<'_>, _: usize) -> Fault {
    if start.phase == Phase::Reload { Fault::Flip } else { Fault::None }
}

fn lost_entry(start: &PhaseStart<'_>, _: usize) -> Fault {
    if start.phase == Phase::Reload { Fault::LoseEntry } else { Fault::None }
}

#[test]
fn reloading_finds_what_decodes_otherwise() {
    let kinds = [
        Kind::Reloaded,
        Kind::ReloadedOptimised,
        #[cfg(feature = "llvm")]
        Kind::ReloadedTier1,
    ];
    for kind in kinds {
        let Some(config) = config(kind) else { continue };
        assert!(config.checks.reload, "{kind}");
        let faults = [("flip", flipped as Intercept, "decoded"), ("entry", lost_entry, "entries")];
        for (fault, intercept, says) in faults {
            let name = format!("reload-{kind}-{fault}");
            // JUMPDEST behind a jump, so that there are several entries.
            let case = Case::of_code(SpecId::PRAGUE, hex!("5f35600657005b600160005500"));
            let report = found_once(&name, &config, intercept, (Check::Reload, &case));
            assert!(report.differences[0].contains(says), "{report}");
            finds_it_again(&name, &config, intercept, &report);
        }
    }
}

/// A code that got to a better tier before loses that right, but no result.
#[test]
fn promotions_are_checked_too() {
    let Some(config) = config(Kind::Promoted) else { return };
    let broken = broken(Config { checks: checks("twice"), ..config }, Some(varying_regions));
    // n = 200; do {} while (--n != 0)
    let case = Case::of_code(SpecId::CANCUN, hex!("60c85b600190038060025700"));
    for _ in 0..50 {
        exact(&broken.engine, &case);
    }
    let stats = broken.engine.stats();
    assert_eq!((stats.twice_differences, stats.quarantined), (1, 1), "{stats:?}");
    assert!(stats.programs > 0 && stats.optimised_regions > 0, "{stats:?}");
}

#[test]
fn one_frame_of_many_is_checked() {
    let Some(config) = config(Kind::Tier0All) else { return };
    let engine = Engine::new(Config { checks: checks("shadow=3"), ..config });
    let engine = engine.expect("the engine starts");
    let case = Case::of_code(SpecId::CANCUN, hex!("6001600255"));
    for _ in 0..9 {
        exact(&engine, &case);
    }
    assert_eq!(engine.stats().shadow_checked, 3);
}

/// Instructions that a user replaced run once.
#[test]
fn replaced_instructions_are_not_checked() {
    use revm::handler::EvmTr;
    use revm::interpreter::interpreter::EthInterpreter;
    use revm::interpreter::{Host, Instruction, InstructionContext, InstructionExecResult};

    fn origin<H: Host>(
        context: InstructionContext<'_, H, EthInterpreter>,
    ) -> InstructionExecResult {
        let _ = context.interpreter.stack.push(U256::from(5));
        Ok(())
    }

    let Some(config) = config(Kind::Tier0All) else { return };
    let engine = Engine::new(Config { checks: checks("shadow=1"), ..config });
    let engine = engine.expect("the engine starts");
    // ORIGIN; PUSH0; SSTORE
    let case = Case::of_code(SpecId::CANCUN, hex!("325f5500"));
    let mut evm =
        Tiered::mainnet(context(&case, &CaseDb::new(&case)).build_mainnet(), engine.clone());
    evm.all_mut().1.insert_instruction(0x32, Instruction::new(origin), 2);
    let outcome = transact(&case, &mut evm);
    let target = &outcome.transactions[0].state[&kiln_tests::case::TARGET];
    assert_eq!(target.storage[&U256::ZERO].present_value, U256::from(5));
    let stats = engine.stats();
    assert_eq!(stats.shadow_checked, 0);
    assert!(stats.native_entries > 0);
}

/// A hook that panics is counted, and a folder that can not be made.
#[test]
fn reports_that_fail_change_nothing() {
    let Some(config) = config(Kind::Evaluator) else { return };
    let reports = Some("/dev/null/reports".into());
    let config = Config { checks: checks("shadow=1"), reports, ..config };
    let hooks = Hooks::default().intercept(|start| overcharge(start, 0));
    let hooks = hooks.on_report(|report| panic!("a fault that a test asked for: {report}"));
    let engine = Engine::with_hooks(config, hooks).expect("the engine starts");
    exact(&engine, &rich());
    let stats = engine.stats();
    assert_eq!((stats.shadow_differences, stats.callback_panics, stats.report_errors), (1, 1, 1));
}
