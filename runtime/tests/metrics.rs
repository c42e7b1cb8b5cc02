//! What the recorder of the `metrics` crate gets. Needs feature `metrics`.

mod common;

use common::{call, context, engine, native, transact};
use kiln_runtime::{Backend, Config, Engine, MetricKind, Tiered, metrics};
use metrics_util::{
    MetricKind as Kind,
    debugging::{DebugValue, DebuggingRecorder, Snapshotter},
};
use revm::{MainBuilder, primitives::hardfork::SpecId};
use std::collections::{BTreeMap, BTreeSet};

/// Name and labels, and what was recorded since the last time: the recorder begins again at 0.
fn recorded(snapshotter: &Snapshotter) -> BTreeMap<String, (Kind, DebugValue)> {
    let text = |key: &::metrics::Key| {
        let labels: Vec<_> =
            key.labels().map(|label| format!(" {}={}", label.key(), label.value())).collect();
        format!("{}{}", key.name(), labels.concat())
    };
    let entries = snapshotter.snapshot().into_vec().into_iter();
    entries.map(|(key, _, _, value)| (text(key.key()), (key.kind(), value))).collect()
}

fn run(engine: &Engine, main: &str) {
    let evm = context(SpecId::CANCUN, main, "00").build_mainnet();
    let mut tiered = Tiered::mainnet(evm, engine.clone());
    transact(&mut tiered, call(100_000, &[]));
}

fn config() -> Config {
    let backend = if native() { Backend::Native } else { Backend::Evaluator };
    Config { backend, ..Config::eager() }
}

/// The values of a histogram.
fn values(entry: Option<&(Kind, DebugValue)>) -> Vec<f64> {
    match entry {
        Some((Kind::Histogram, DebugValue::Histogram(values))) => {
            values.iter().map(|value| value.into_inner()).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn everything_documented_is_recorded_and_nothing_else() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    ::metrics::with_local_recorder(&recorder, || {
        let engine = engine(config());
        run(&engine, "6002600301 50 00");
        engine.record_metrics();
    });
    let kind = |kind| match kind {
        MetricKind::Counter => Kind::Counter,
        MetricKind::Gauge => Kind::Gauge,
        MetricKind::Histogram => Kind::Histogram,
    };
    let documented: BTreeSet<_> =
        metrics().map(|metric| (metric.name, kind(metric.kind))).collect();
    let recorded = recorded(&snapshotter);
    let names: BTreeSet<_> =
        recorded.iter().map(|(name, (kind, _))| (name.split(' ').next().unwrap(), *kind)).collect();
    assert_eq!(names, documented);
}

#[test]
fn engines_add_up_and_only_what_is_new_is_recorded() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    ::metrics::with_local_recorder(&recorder, || {
        let engines = [engine(config()), engine(config())];
        run(&engines[0], "6002600301 50 00");
        for _ in 0..2 {
            run(&engines[1], "6002600302 50 00");
        }
        for engine in &engines {
            engine.record_metrics();
        }
        let bytes: usize = engines.iter().map(Engine::code_bytes_used).sum();
        let found = recorded(&snapshotter);
        assert_eq!(found["kiln_programs"].1, DebugValue::Counter(2));
        let lookups = engines.iter().map(|engine| engine.stats().lookups).sum();
        assert_eq!(found["kiln_lookups"].1, DebugValue::Counter(lookups));
        assert_eq!(found["kiln_code_bytes_used"].1, DebugValue::Gauge((bytes as f64).into()));

        let [first, _second] = engines;
        let bytes = first.code_bytes_used() as f64;
        first.record_metrics();
        assert_eq!(recorded(&snapshotter)["kiln_programs"].1, DebugValue::Counter(0));
        run(&first, "6002600303 50 00");
        first.record_metrics();
        drop(first);
        let found = recorded(&snapshotter);
        assert_eq!(found["kiln_programs"].1, DebugValue::Counter(1));
        // What the first engine had is taken back.
        assert_eq!(found["kiln_code_bytes_used"].1, DebugValue::Gauge((-bytes).into()));
    });
}

#[test]
fn every_compilation_is_measured() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let config =
        Config { limits: kiln_ir::Limits { code_bytes_max: 8, ..Default::default() }, ..config() };
    let stats = ::metrics::with_local_recorder(&recorder, || {
        let engine = engine(config);
        run(&engine, "6002600301 50 00");
        run(&engine, "6002600302 50 00");
        run(&engine, &"5b".repeat(9));
        engine.stats()
    });
    assert_eq!((stats.programs, stats.compile_errors), (2, 1));
    let found = recorded(&snapshotter);
    let of = |labels: &str| values(found.get(&format!("kiln_compilation_{labels}")));
    let good = of("ns tier=tier0 thread=calling outcome=ok");
    let bad = of("ns tier=tier0 thread=calling outcome=error");
    let sum = stats.analyse_ns + stats.lower_ns + stats.codegen_ns + stats.publish_ns;
    assert_eq!((good.len(), bad.len()), (2, 1));
    assert_eq!(good.iter().chain(&bad).sum::<f64>(), sum as f64);
    let code_bytes = of("code_bytes tier=tier0");
    assert_eq!(code_bytes.iter().sum::<f64>(), stats.code_bytes as f64);
    assert_eq!(code_bytes.len(), 2);
}
