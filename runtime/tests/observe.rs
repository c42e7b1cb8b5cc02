//! What others see of an engine: callbacks, the interceptor between phases, the perf map, and the table
//! of metrics.

mod common;

use common::{call, code, context, fresh_engines, native, transact};
use kiln_runtime::{
    Backend, Compilation, CompileError, CompileThread, Config, Engine, Fault, Hooks, Metric,
    MetricKind, Phase, Tier, Tiered, metrics,
};
use revm::{
    MainBuilder,
    bytecode::Bytecode,
    interpreter::instructions::gas_table_spec,
    primitives::{B256, hardfork::SpecId},
};
use std::{
    fs, io,
    sync::{Arc, Mutex, OnceLock},
};

/// PUSH1 2; PUSH1 3; ADD; POP; STOP
const SUM: &str = "6002600301 50 00";

fn baked(spec: SpecId) -> kiln_ir::Config {
    let replaced = kiln_ir::OpcodeSet::EMPTY;
    kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced }
}

fn backends() -> impl Iterator<Item = Backend> {
    let runs = |backend: &Backend| *backend == Backend::Evaluator || native();
    [Backend::Evaluator, Backend::Native].into_iter().filter(runs)
}

fn hooked(backend: Backend, hooks: Hooks) -> Engine {
    Engine::with_hooks(Config { backend, ..Config::eager() }, hooks).expect("an engine")
}

fn compile(engine: &Engine, bytecode: &Bytecode) -> Result<(), CompileError> {
    engine.compile(bytecode, bytecode.hash_slow(), &baked(SpecId::CANCUN)).map(drop)
}

#[test]
fn callbacks_get_records() {
    for backend in backends() {
        let records = Arc::new(Mutex::new(Vec::<Compilation>::new()));
        let kept = records.clone();
        let hooks = Hooks::on_compilation(move |record| kept.lock().unwrap().push(record.clone()));
        let engine = hooked(backend, hooks);
        let sum = code(SUM);
        // The database's hash is not what is told.
        let program = engine.compile(&sum, B256::ZERO, &baked(SpecId::CANCUN)).unwrap();
        let records = records.lock().unwrap();
        let [record] = &records[..] else { panic!("{records:?}") };
        assert_eq!((record.code_hash, record.code_len), (sum.hash_slow(), 7));
        assert_eq!((record.fork, record.tier, record.nth), (SpecId::CANCUN, Tier::Baseline, 0));
        assert_eq!(record.thread, CompileThread::Calling);
        let compiled = record.outcome.as_ref().unwrap();
        assert_eq!((compiled.regions, compiled.instructions), (1, 5));
        assert_eq!(compiled.code_bytes, program.code_bytes());
        let stats = engine.stats();
        assert_eq!(record.cpu.total_ns(), {
            stats.analyse_ns + stats.lower_ns + stats.codegen_ns + stats.publish_ns
        });
        assert_eq!(stats.callback_panics, 0);
    }
}

#[test]
fn callbacks_may_panic_and_use_the_engine() {
    for backend in backends() {
        let known = Arc::new(OnceLock::<Mutex<Option<Engine>>>::new());
        let mine = known.clone();
        let hooks = Hooks::on_compilation(move |_| {
            let engine = mine.get().and_then(|engine| engine.lock().unwrap().clone()).unwrap();
            // The compilation is counted already, its program found.
            assert_eq!(engine.stats().programs, 1);
            assert!(compile(&engine, &code(SUM)).is_ok());
            engine.clear();
            panic!("the user's");
        });
        let engine = hooked(backend, hooks);
        known.set(Mutex::new(Some(engine.clone()))).expect("set once");
        compile(&engine, &code(SUM)).unwrap();
        assert_eq!(engine.stats().callback_panics, 1);
        known.get().unwrap().lock().unwrap().take();
    }
}

#[test]
fn interceptors_see_every_phase_and_may_do_anything() {
    for backend in backends() {
        let phases = Arc::new(Mutex::new(Vec::new()));
        let errors = Arc::new(Mutex::new(Vec::new()));
        let (seen, told) = (phases.clone(), errors.clone());
        let hooks = Hooks::on_compilation(move |record| {
            told.lock().unwrap().extend(record.outcome.clone().err());
        });
        // The code's first byte says what goes wrong: PUSH1 means nothing does.
        let hooks = hooks.intercept(move |start| {
            seen.lock().unwrap().push(start.phase);
            assert!(!start.cancelled());
            match (start.code[0], start.phase) {
                (0x5b, Phase::Lower) => panic!("on purpose"),
                (0x58, Phase::Analyse) => Fault::Error("on purpose".to_owned()),
                _ => Fault::None,
            }
        });
        let engine = hooked(backend, hooks);
        let took = |hex| {
            let result = compile(&engine, &code(hex));
            (result, std::mem::take(&mut *phases.lock().unwrap()))
        };
        let (result, took_phases) = took(SUM);
        result.unwrap();
        let all = &Phase::BASELINE[..if backend == Backend::Native { 4 } else { 2 }];
        assert_eq!(took_phases, all);

        let (result, took_phases) = took("5b00");
        assert!(matches!(result, Err(CompileError::Panicked)), "{result:?}");
        assert_eq!(took_phases, [Phase::Analyse, Phase::Lower]);

        let (result, took_phases) = took("5800");
        assert!(matches!(result, Err(CompileError::Injected(_))), "{result:?}");
        assert_eq!(took_phases, [Phase::Analyse]);
        assert_eq!(*errors.lock().unwrap(), ["the compiler panicked", "on purpose"]);
        let stats = engine.stats();
        assert_eq!((stats.programs, stats.compile_errors), (1, 2));
    }
}

#[test]
fn output_may_be_made_larger_up_to_its_cap() {
    if !native() {
        return;
    }
    let with = |bytes| {
        let hooks = Hooks::default().intercept(move |start| match start.phase {
            Phase::Codegen => Fault::Output(bytes),
            _ => Fault::None,
        });
        let engine = hooked(Backend::Native, hooks);
        let bytecode = code(SUM);
        let program = engine.compile(&bytecode, bytecode.hash_slow(), &baked(SpecId::CANCUN));
        program.map(|program| program.code_bytes())
    };
    assert!(with(1).unwrap() < 1000, "no less than there is");
    assert_eq!(with(1000).unwrap(), 1000);
    let error = with(10 << 20).unwrap_err();
    assert!(matches!(error, CompileError::Codegen(_)), "{error}");
    assert!(error.to_string().contains("10485760 bytes, over the limit"), "{error}");
}

/// Runs a contract on engines that write a perf map, and finds the line.
#[cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#[test]
fn the_perf_map_names_programs() {
    let path = format!("/tmp/perf-{}.map", std::process::id());
    let before = fs::read_to_string(&path).unwrap_or_default();
    let config = Config { backend: Backend::Native, ..Config::eager() };
    compile(&Engine::new(config.clone()).unwrap(), &code(SUM)).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap_or_default(), before, "nobody asked");

    let engine = Engine::new(Config { perf_map: true, ..config }).unwrap();
    let bytecode = code(SUM);
    let spec = SpecId::PRAGUE;
    let program = engine.compile(&bytecode, B256::ZERO, &baked(spec)).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let digits = &bytecode.hash_slow().to_string()[2..10];
    let (trampoline, name) = ("kiln:trampoline", format!("kiln:tier0:{digits}@Prague"));
    let line = |name: &str| {
        let mut lines = text.lines().filter(|line| line.ends_with(name));
        let (Some(line), None) = (lines.next(), lines.next()) else { panic!("{name}: {text}") };
        let [address, len, found] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!(found, name);
        let number = |digits| usize::from_str_radix(digits, 16).unwrap();
        (number(address), number(len))
    };
    assert_eq!(line(&name).1, program.code_bytes());
    assert_ne!(line(&name).0, line(trampoline).0);
    assert_eq!(engine.stats().perf_map_errors, 0);
    fs::remove_file(&path).unwrap();
}

/// Names that come and go with programs change nothing about how they run.
#[test]
fn registered_programs_run_and_are_evicted() {
    let config = Config { gdb: true, ..Config::eager() };
    for engine in fresh_engines(&config) {
        for _ in 0..3 {
            let evm = context(SpecId::CANCUN, SUM, "00").build_mainnet();
            let mut tiered = Tiered::mainnet(evm, engine.clone());
            let (result, _) = transact(&mut tiered, call(100_000, &[]));
            assert!(result.is_success());
            engine.clear();
        }
        assert!(engine.stats().programs >= 3);
    }
}

/// What an engine says, by target, level and message, in the order of what it does.
#[test]
fn engines_say_what_they_decide() {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .without_time()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let engine = hooked(Backend::Evaluator, Hooks::default());
    // With one subscriber alone, an event that another thread comes to first is taken for one that nobody wants.
    let _another = tracing::Dispatch::new(tracing_subscriber::registry());
    tracing::subscriber::with_default(subscriber, || {
        compile(&engine, &code(SUM)).unwrap();
        // A hit.
        compile(&engine, &code(SUM)).unwrap();
        engine.clear();
        compile(&engine, &Bytecode::new_legacy(vec![0x5b; 2 << 20].into())).unwrap_err();
    });
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    let said: Vec<_> = text
        .lines()
        .map(|line| {
            let (_, message) = line.rsplit_once("kiln: ").expect("the target");
            let fields = message.find(" code").unwrap_or(message.len());
            (line.split_whitespace().next().unwrap(), &message[..fields])
        })
        .collect();
    let expected = [
        ("TRACE", "lookup miss"),
        ("TRACE", "compiling"),
        ("DEBUG", "compiled"),
        ("DEBUG", "publishing"),
        ("DEBUG", "superseded"),
        ("INFO", "cleared"),
        ("TRACE", "lookup miss"),
        ("TRACE", "compiling"),
        ("DEBUG", "not compiled"),
        // The same code is always over the limit.
        ("WARN", "quarantined"),
    ];
    assert_eq!(said, expected, "{text}");
}

fn row(metric: Metric) -> String {
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    let cells = [format!("`{}`", metric.name), kind.to_owned(), labels.join(", ")];
    format!("| {} | {} |", cells.join(" | "), metric.meaning)
}

#[test]
fn the_table_of_metrics_is_complete() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../METRICS.md");
    let document = fs::read_to_string(path).unwrap();
    let found: Vec<_> = document.lines().filter(|line| line.starts_with("| `kiln_")).collect();
    let expected: Vec<_> = metrics().map(row).collect();
    assert_eq!(found, expected, "put this into METRICS.md:\n{}\n", expected.join("\n"));
}
