//! Options: the builder, the `KILN_*` variables, and README's table of them.

#![cfg(unix)] // It makes text that is not Unicode.

use kiln_runtime::{
    Backend, Checks, Compile, Config, ConfigError, Engine, EngineError, Force, Tier, VARIABLES,
    Variable, Worker,
};
use std::{collections::HashSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt};

const NOTHING: [(&str, &str); 0] = [];

fn limits(code: usize, block: usize, insts: usize, fixups: usize) -> kiln_ir::Limits {
    kiln_ir::Limits {
        code_bytes_max: code,
        block_instructions_max: block,
        insts_max: insts,
        fixups_max: fixups,
        text_ratio_max: 64,
        text_bytes_free: 0,
        perturb: kiln_ir::Perturb::ALL,
    }
}

/// Every field is another than by default. No `..`: a new field has to be added here, and then needs
/// a variable.
fn unusual() -> Config {
    Config {
        enabled: false,
        backend: Backend::Evaluator,
        compile: Compile::All,
        first_tier: Tier::Optimised,
        top_tier: Tier::Tier1,
        tier1_worker: Worker::Path("/no/such/worker".into()),
        region_executions: 9,
        regions_max: 0,
        optimise_frames: 11,
        tier1_frames: 12,
        profile_blocks: 13,
        warm_frames: u32::MAX,
        recording: true,
        code_bytes_max: 12_345,
        limits: limits(24_576, 1, 77, 1 << 28),
        hot_executions: 65_535,
        compile_threads: 64,
        inline_compile_ns: 1,
        event_queue_len: 1 << 20,
        job_queue_len: 1,
        drain_max: 2,
        compile_deadline_ms: 1,
        optimise_deadline_ms: 8,
        compile_grace_ms: 2,
        job_age_ms_max: 3,
        cooldown_ms: 4,
        backoff_ms_max: 5,
        attempts_max: 6,
        sweep_interval_ms: 10,
        idle_ms_max: 0,
        slots_max: 7,
        shutdown_ms: u32::MAX,
        store: Some("/no/such/store".into()),
        store_mode: kiln_runtime::StoreMode::WriteOnShutdown,
        store_bytes_max: 1 << 21,
        store_preload: false,
        snapshot_first_ms: 0,
        snapshot_interval_ms: 14,
        snapshot_idle_ms: 15,
        huge_pages: false,
        perf_map: true,
        gdb: true,
        force: "exit=3,swap=1,evict=7,promote".parse::<Force>().unwrap(),
        checks: "reload,twice,shadow=9".parse::<Checks>().unwrap(),
        reports: Some("/no/such/folder".into()),
    }
}

fn ours() -> impl Iterator<Item = &'static Variable> {
    VARIABLES.iter().filter(|variable| variable.field.is_some())
}

fn refusal(name: &str, value: &str) -> String {
    let error = Config::from_vars([(name, value)]).expect_err(value);
    assert!(matches!(error, ConfigError::Value { .. }), "{error}");
    error.to_string()
}

#[test]
fn no_variables_are_the_defaults() {
    assert_eq!(Config::from_vars(NOTHING).unwrap(), Config::default());
    assert_eq!(Config::builder().build().unwrap(), Config::default());
    Config::default().validate().unwrap();
}

#[test]
fn every_variable_round_trips() {
    for config in [unusual(), Config::default()] {
        let vars = |config: &Config| -> Vec<(&str, String)> {
            ours().map(|variable| (variable.name, variable.value(config).unwrap())).collect()
        };
        let vars = vars(&config);
        assert_eq!(Config::from_vars(vars).unwrap(), config);
    }
}

#[test]
fn each_variable_sets_its_field_and_no_other() {
    for variable in ours() {
        let value = variable.value(&unusual()).unwrap();
        let config = Config::from_vars([(variable.name, &value)]).unwrap();
        for other in ours() {
            let from = if other.name == variable.name { unusual() } else { Config::default() };
            assert_eq!(other.value(&config), other.value(&from), "{}", variable.name);
        }
        // The field it says it sets, found by its text.
        let field = variable.field.unwrap().rsplit('.').next().unwrap();
        assert!(format!("{config:?}").contains(&format!("{field}: ")), "{field}");
    }
}

#[test]
fn names_and_fields_are_unique() {
    let names: HashSet<_> = VARIABLES.iter().map(|variable| variable.name).collect();
    let fields: HashSet<_> = ours().map(|variable| variable.field).collect();
    assert_eq!((names.len(), fields.len()), (VARIABLES.len(), ours().count()));
}

#[test]
fn sizes_take_suffixes() {
    let read = |value| {
        let vars = [("KILN_CODE_BYTES_MAX", value), ("KILN_CODE_LEN_MAX", "3k")];
        Config::from_vars(vars).unwrap()
    };
    for (text, bytes) in [
        ("8192", 8192),
        ("8K", 8192),
        ("8k", 8192),
        ("3M", 3 << 20),
        ("5m", 5 << 20),
        ("1g", 1 << 30),
    ] {
        let config = read(text);
        assert_eq!(config.code_bytes_max, bytes, "{text}");
        assert_eq!(config.limits.code_bytes_max, 3072);
    }
    for bad in [
        "",
        "K",
        "1KB",
        "1KiB",
        "1.5M",
        "-1",
        "+1M",
        " 1M",
        "1M ",
        "1 M",
        "1T",
        "0x1000",
        "1_000_000",
    ] {
        assert!(refusal("KILN_CODE_BYTES_MAX", bad).contains("4K to 1024G bytes"), "{bad}");
    }
    // Over 64 bits, with and without the suffix; then out of range.
    for bad in ["99999999999999999999", "18446744073709551615K", "0", "4095", "1025G"] {
        refusal("KILN_CODE_BYTES_MAX", bad);
    }
    // What is not a size takes none.
    refusal("KILN_INSTS_MAX", "1M");
    refusal("KILN_WARM_FRAMES", "1K");
}

#[test]
fn bad_values_are_named() {
    let text = refusal("KILN_BACKEND", "Native");
    assert_eq!(text, r#"KILN_BACKEND="Native": expected native or evaluator"#);
    let text = refusal("KILN_PERTURB", "spill,");
    assert!(text.contains("KILN_PERTURB") && text.contains("tiny-regions"), "{text}");
    let text = refusal("KILN_CHECK", "shadow=0");
    assert!(text.contains("KILN_CHECK") && text.contains("shadow=N"), "{text}");
    let text = refusal("KILN_REPORTS", "here");
    assert!(text.contains("KILN_REPORTS") && text.contains("absolute"), "{text}");
    let text = refusal("KILN_FORCE", "exit=0");
    assert!(text.contains("KILN_FORCE") && text.contains("exit=0\""), "{text}");
    let text = refusal("KILN_WARM_FRAMES", "4294967296");
    assert!(text.ends_with("expected 0 to 4294967295 frames"), "{text}");
    let text = refusal("KILN_HOT_EXECUTIONS", "0");
    assert!(text.ends_with("expected 1 to 65535 executions"), "{text}");
    let text = refusal("KILN_SWEEP_INTERVAL_MS", "9");
    assert!(text.ends_with("expected 10 to 4294967295 ms"), "{text}");
    for variable in ours() {
        for bad in ["", " ", "no such value", "-1", "true\n"] {
            let text = refusal(variable.name, bad);
            assert!(text.starts_with(variable.name), "{text}");
            assert!(text.ends_with(&variable.expected().unwrap()), "{text}");
        }
        let bad = OsStr::from_bytes(b"1\xff");
        let error = Config::from_vars([(OsStr::new(variable.name), bad)]).unwrap_err();
        assert!(error.to_string().starts_with(variable.name), "{error}");
    }
}

#[test]
fn unknown_names_are_errors() {
    for name in ["KILN_", "KILN_BACKENDS", "KILN_backend", "KILN_TEST", "KILN_LOG", "KILN_TIER"] {
        let error = Config::from_vars([(name, "native")]).expect_err(name);
        assert_eq!(error, ConfigError::Unknown { name: name.to_owned() });
        let text = error.to_string();
        assert!(text.contains(&format!("{name:?}")) && text.contains("KILN_BACKEND,"), "{text}");
    }
    let name = OsStr::from_bytes(b"KILN_BACKEND\xff");
    let error = Config::from_vars([(name, OsStr::new("native"))]).unwrap_err();
    assert!(matches!(error, ConfigError::Unknown { .. }), "{error}");
}

#[test]
fn what_is_not_ours_is_left_alone() {
    let vars = [
        ("PATH", "/bin"),
        ("", ""),
        ("kiln_backend", "x"),
        ("MY_KILN_BACKEND", "x"),
        ("KILN_FIXTURES", "/some/where"),
        ("KILN_NO_LLVM", "1"),
        ("KILN_TEST_SEED", "7"),
        ("KILN_TEST_CASES", "x"),
    ];
    assert_eq!(Config::from_vars(vars).unwrap(), Config::default());
    let garbage = OsStr::from_bytes(b"\xff\xfe");
    assert_eq!(Config::from_vars([(garbage, garbage)]).unwrap(), Config::default());
}

#[test]
fn the_last_of_equal_names_counts() {
    let vars = [("KILN_COMPILE", "seen"), ("KILN_COMPILE", "all")];
    assert_eq!(Config::from_vars(vars).unwrap().compile, Compile::All);
}

#[test]
fn the_builder_sets_every_field() {
    macro_rules! rebuilt {
        ($($field:ident),* $(,)?) => {{
            // No `..` here either.
            let Config { $($field),* } = unusual();
            Config::builder()$(.$field($field))*.build()
        }};
    }
    let built = rebuilt!(
        enabled,
        backend,
        compile,
        first_tier,
        top_tier,
        tier1_worker,
        region_executions,
        regions_max,
        optimise_frames,
        tier1_frames,
        profile_blocks,
        warm_frames,
        recording,
        code_bytes_max,
        limits,
        hot_executions,
        compile_threads,
        inline_compile_ns,
        event_queue_len,
        job_queue_len,
        drain_max,
        compile_deadline_ms,
        optimise_deadline_ms,
        compile_grace_ms,
        job_age_ms_max,
        cooldown_ms,
        backoff_ms_max,
        attempts_max,
        sweep_interval_ms,
        idle_ms_max,
        slots_max,
        shutdown_ms,
        store,
        store_mode,
        store_bytes_max,
        store_preload,
        snapshot_first_ms,
        snapshot_interval_ms,
        snapshot_idle_ms,
        huge_pages,
        perf_map,
        gdb,
        force,
        checks,
        reports,
    );
    assert_eq!(built.unwrap(), unusual());
}

#[test]
fn eager_compiles_whole_contracts_on_the_calling_thread() {
    let eager = Config {
        compile: Compile::All,
        warm_frames: 0,
        compile_threads: 0,
        code_bytes_max: 1 << 30,
        cooldown_ms: 0,
        ..Config::default()
    };
    assert_eq!(Config::eager(), eager);
    assert_eq!(Config::default().code_bytes_max, 64 << 20);
}

#[test]
fn what_is_stated_later_wins() {
    let vars = [("KILN_WARM_FRAMES", "5"), ("KILN_COMPILE", "seen")];
    let built = Config::builder().warm_frames(9).vars(vars).unwrap().compile(Compile::All).build();
    let expected = Config { warm_frames: 5, compile: Compile::All, ..Config::default() };
    assert_eq!(built.unwrap(), expected);
}

#[test]
fn fields_out_of_range_are_named() {
    let base = Config::default;
    let with = |limits| Config { limits, ..base() };
    let cases = [
        (Config { code_bytes_max: 4095, ..base() }, "code_bytes_max is 4095:"),
        (
            Config { code_bytes_max: usize::MAX, ..base() },
            "code_bytes_max is 18446744073709551615:",
        ),
        (Config { hot_executions: 0, ..base() }, "hot_executions is 0:"),
        (Config { hot_executions: 65_536, ..base() }, "hot_executions is 65536:"),
        (Config { compile_threads: 65, ..base() }, "compile_threads is 65:"),
        (Config { event_queue_len: 0, ..base() }, "event_queue_len is 0:"),
        (Config { job_queue_len: (1 << 20) + 1, ..base() }, "job_queue_len is 1048577:"),
        (Config { drain_max: 0, ..base() }, "drain_max is 0:"),
        (Config { compile_deadline_ms: 0, ..base() }, "compile_deadline_ms is 0:"),
        (Config { attempts_max: 0, ..base() }, "attempts_max is 0:"),
        (Config { sweep_interval_ms: 9, ..base() }, "sweep_interval_ms is 9:"),
        (Config { slots_max: usize::MAX, ..base() }, "slots_max is 18446744073709551615:"),
        (with(limits(0, 1, 1, 1)), "limits.code_bytes_max is 0:"),
        (with(limits((1 << 30) + 1, 1, 1, 1)), "limits.code_bytes_max is 1073741825:"),
        (with(limits(1, 0, 1, 1)), "limits.block_instructions_max is 0:"),
        (with(limits(1, 65_537, 1, 1)), "limits.block_instructions_max is 65537:"),
        (with(limits(1, 1, 0, 1)), "limits.insts_max is 0:"),
        (with(limits(1, 1, 1, usize::MAX)), "limits.fixups_max is 18446744073709551615:"),
    ];
    for (config, text) in cases {
        let error = kiln_runtime::ConfigBuilder::from(config.clone()).build().expect_err(text);
        assert!(matches!(error, ConfigError::Field { .. }));
        assert!(error.to_string().starts_with(text), "{error}");
        assert_eq!(config.validate(), Err(error));
    }
    with(limits(1, 1, 1, 1)).validate().unwrap();
}

/// Pieces that are nearly right, put together at random.
#[test]
fn random_text_is_accepted_or_refused() {
    const PIECES: [&[u8]; 28] = [
        b"KILN_",
        b"KILN_TEST_",
        b"CODE",
        b"_MAX",
        b"BACKEND",
        b"native",
        b"seen",
        b"true",
        b"0",
        b"1",
        b"9999999999",
        b"18446744073709551615",
        b"K",
        b"M",
        b"g",
        b"-",
        b"+",
        b" ",
        b".",
        b"=",
        b",",
        b"exit=",
        b"swap=4294967296",
        b"promote",
        b"\xff",
        b"\0",
        "\u{10ffff}é".as_bytes(),
        b"*",
    ];
    // xorshift64*: no need for more.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    };
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..100_000 {
        let mut text =
            || (0..random(5)).flat_map(|_| PIECES[random(PIECES.len())]).copied().collect();
        let (mut name, value): (Vec<u8>, Vec<u8>) = (text(), text());
        if random(4) != 0 {
            name = VARIABLES[random(VARIABLES.len())].name.into();
        }
        match Config::from_vars([(OsStr::from_bytes(&name), OsStr::from_bytes(&value))]) {
            Ok(config) => {
                config.validate().unwrap();
                accepted += 1;
            }
            Err(error) => {
                assert!(name.starts_with(b"KILN_"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(accepted > 1000 && refused > 1000, "{accepted} {refused}");
}

fn row(variable: &Variable) -> String {
    let code = |text: &str| format!("`{text}`");
    let field = variable.field.map_or("not the library's".to_owned(), code);
    let default = variable.value(&Config::default()).map_or(String::new(), |value| code(&value));
    let expected = variable.expected().unwrap_or_default();
    let cells = [code(variable.name), field, default, expected, variable.meaning.to_owned()];
    format!("| {} |", cells.join(" | "))
}

#[test]
fn readme_has_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let found: Vec<_> = readme.lines().filter(|line| line.starts_with("| `KILN_")).collect();
    let expected: Vec<_> = VARIABLES.iter().map(row).collect();
    assert_eq!(found, expected, "put this into README.md:\n{}\n", expected.join("\n"));
}

#[test]
fn engines_from_the_environment() {
    // Whatever the environment of the tests is, this must agree with it.
    match (Config::from_env(), Engine::from_env()) {
        (Ok(config), Ok(engine)) => assert_eq!(*engine.config(), config),
        (Err(config), Err(EngineError::Config(engine))) => assert_eq!(config, engine),
        // No machine code here.
        (Ok(_), Err(error)) => assert!(!matches!(error, EngineError::Config(_)), "{error}"),
        (Err(error), Ok(_)) => panic!("{error}"),
        (Err(config), Err(engine)) => panic!("{config}, {engine}"),
    }
}
