//! The `metrics` facade (feature `metrics`): names, and what is recorded when.
//!
//! **Owns** the table of names ([`METRICS`]) and what this engine has recorded so far, so that several
//! engines of a process add up under one name. **Callers guarantee** nothing. **Never** records from
//! the path of a frame: counters and gauges from a snapshot, histograms once a compilation.

use crate::{
    hooks::Compilation,
    stats::{Row, Stats},
};

/// How a metric is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetricKind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// One value for each compilation.
    Histogram,
}

/// A name that is recorded with feature `metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// How it is to be read.
    pub kind: MetricKind,
    /// Its labels; none for what is recorded from a snapshot.
    pub labels: &'static [&'static str],
    /// What it counts or measures.
    pub meaning: &'static str,
}

/// Values of the moment, next to the counters of [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauges {
    pub(crate) code_bytes_used: usize,
    pub(crate) events_waiting: usize,
    pub(crate) jobs_waiting: usize,
    pub(crate) jobs_running: usize,
}

type Gauge = (Metric, fn(&Gauges) -> usize);

const GAUGES: &[Gauge] = &[
    (gauge("kiln_code_bytes_used", "Bytes of code memory in use now."), |gauges| {
        gauges.code_bytes_used
    }),
    (gauge("kiln_events_waiting", "Events that wait now."), |gauges| gauges.events_waiting),
    (gauge("kiln_jobs_waiting", "Jobs that wait now, those put off among them."), |gauges| {
        gauges.jobs_waiting
    }),
    (gauge("kiln_jobs_running", "Jobs on compile threads now."), |gauges| gauges.jobs_running),
];

const fn gauge(name: &'static str, meaning: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels: &[], meaning }
}

const HISTOGRAMS: [Metric; 2] = [
    Metric {
        name: "kiln_compilation_ns",
        kind: MetricKind::Histogram,
        labels: &["tier", "thread", "outcome"],
        meaning: "CPU time of a compilation, all phases. `outcome` is `ok` or `error`.",
    },
    Metric {
        name: "kiln_compilation_code_bytes",
        kind: MetricKind::Histogram,
        labels: &["tier"],
        meaning: "Bytes of machine code and data of a program.",
    },
];

/// Every name that is recorded with feature `metrics`, in the order of METRICS.md's table. Counters are
/// called as the fields of [`Stats`] are.
pub fn metrics() -> impl Iterator<Item = Metric> {
    let counter = |row: &Row| Metric {
        name: row.metric,
        kind: MetricKind::Counter,
        labels: &[],
        meaning: row.meaning.trim_ascii(),
    };
    let gauges = GAUGES.iter().map(|(metric, _)| *metric);
    Stats::ROWS.iter().map(counter).chain(gauges).chain(HISTOGRAMS)
}

/// What an engine recorded.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    #[cfg(feature = "metrics")]
    past: std::sync::Mutex<(Stats, Gauges)>,
}

#[cfg(not(feature = "metrics"))]
impl Metrics {
    pub(crate) fn record(&self, _: impl FnOnce() -> (Stats, Gauges)) {}

    pub(crate) fn compilation(&self, _: &Compilation) {}
}

#[cfg(feature = "metrics")]
impl Metrics {
    /// Records what changed since the last time.
    pub(crate) fn record(&self, snapshot: impl FnOnce() -> (Stats, Gauges)) {
        // Held while the snapshot is taken: a later one is recorded later.
        let mut past = self.past.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (stats, gauges) = snapshot();
        for row in Stats::ROWS {
            // Nothing new still registers the name.
            let more = (row.get)(&stats).saturating_sub((row.get)(&past.0));
            metrics::counter!(row.metric).increment(more);
        }
        record_gauges(&past.1, &gauges);
        *past = (stats, gauges);
    }

    /// Records a finished compilation.
    pub(crate) fn compilation(&self, compilation: &Compilation) {
        let Compilation { tier, thread, outcome, cpu, .. } = compilation;
        let [time, code_bytes] = HISTOGRAMS.map(|metric| metric.name);
        let result = if outcome.is_ok() { "ok" } else { "error" };
        let labels = [("tier", tier.name()), ("thread", thread.name()), ("outcome", result)];
        metrics::histogram!(time, &labels).record(cpu.total_ns() as f64);
        if let Ok(compiled) = outcome {
            let labels = [("tier", tier.name())];
            metrics::histogram!(code_bytes, &labels).record(compiled.code_bytes as f64);
        }
    }
}

#[cfg(feature = "metrics")]
fn record_gauges(past: &Gauges, now: &Gauges) {
    for (metric, get) in GAUGES {
        // The sum over all engines: each adds what is its own.
        let more = get(now) as f64 - get(past) as f64;
        metrics::gauge!(metric.name).increment(more);
    }
}

/// What is gone holds nothing.
#[cfg(feature = "metrics")]
impl Drop for Metrics {
    fn drop(&mut self) {
        let past = self.past.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        if past.1 != Gauges::default() {
            record_gauges(&past.1, &Gauges::default());
        }
    }
}
