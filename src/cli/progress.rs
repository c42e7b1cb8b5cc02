//! Progress on standard error: a bar if that is a terminal, and for what takes long a line now and then if it is not.

use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::{self, Write},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// A bar for `len` pieces of work. Nothing is seen of it if standard error is no terminal.
pub(crate) fn bar(len: usize, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(len as u64).with_message(what);
    match ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}") {
        Ok(style) => bar.with_style(style),
        // The bar draws in its own style if ours is not understood.
        Err(_) => bar,
    }
}

/// A bar, or lines where none is seen. Threads share it.
pub(crate) struct Progress {
    bar: ProgressBar,
    lines: Lines,
}

impl Progress {
    pub(crate) fn new(len: u64, what: &'static str) -> Self {
        let bar = bar(usize::try_from(len).unwrap_or(usize::MAX), what);
        Self { bar, lines: Lines { start: Instant::now(), said: AtomicU64::new(0) } }
    }

    /// Another piece is done.
    pub(crate) fn inc(&self) {
        self.bar.inc(1);
        if self.bar.is_hidden() && self.lines.due(self.lines.start.elapsed()) {
            let (done, of) = (self.bar.position(), self.bar.length().unwrap_or_default());
            let seconds = self.lines.start.elapsed().as_secs();
            // Work goes on where nobody reads of it.
            let _ = writeln!(io::stderr(), "{done} of {of} {}, {seconds} s", self.bar.message());
        }
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// When the last line was.
struct Lines {
    start: Instant,
    /// Intervals that were over then.
    said: AtomicU64,
}

impl Lines {
    /// Whether it is time for a line, the given time after the start. True for one thread of those that ask.
    fn due(&self, elapsed: Duration) -> bool {
        let over = elapsed.as_secs() / LINE_EVERY.as_secs();
        // Relaxed: it orders nothing else. The maximum makes one thread's answer the one that raised it.
        self.said.fetch_max(over, Ordering::Relaxed) < over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_due_once_an_interval() {
        let lines = Lines { start: Instant::now(), said: AtomicU64::new(0) };
        let due = [0, 9, 10, 11, 19, 20, 20, 45, 39, 49, 50];
        let due = due.map(|seconds| lines.due(Duration::from_secs(seconds)));
        let expected = [false, false, true, false, false, true, false, true, false, false, true];
        assert_eq!(due, expected);
    }
}
