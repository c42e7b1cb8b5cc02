//! What a test binary says while it runs.
//!
//! **Owns** the meaning of its lines. **Callers guarantee** that it runs one test after the other, and that
//! tests write where they want. **Never** waits.

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct Output {
    line: Vec<u8>,
    /// The test that runs.
    running: Option<String>,
    /// The first test that failed.
    failed: Option<String>,
    /// Tests that passed.
    passed: usize,
}

impl Output {
    /// Takes more of it.
    pub(crate) fn read(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' => self.end_line(),
                byte => self.line.push(byte),
            }
        }
        // The name of a test comes before it runs, without the end of its line.
        self.begin();
    }

    fn begin(&mut self) {
        let line = String::from_utf8_lossy(&self.line);
        if let Some((name, _)) =
            line.strip_prefix("test ").and_then(|line| line.split_once(" ... "))
        {
            self.running = Some(name.trim_end_matches(" - should panic").to_owned());
        }
    }

    fn end_line(&mut self) {
        self.begin();
        let line = String::from_utf8_lossy(&self.line);
        // Behind whatever the test wrote itself.
        let line = line.trim_end();
        if line.ends_with("FAILED") && !line.starts_with("test result") {
            let name = self.running.take();
            self.failed = self.failed.take().or(name);
        } else if line.ends_with("ok") && self.running.is_some() {
            self.running = None;
            self.passed += 1;
        }
        self.line.clear();
    }

    /// The test that failed.
    pub(crate) fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// The test that is running.
    pub(crate) fn running(&self) -> Option<&str> {
        self.running.as_deref()
    }

    /// Tests that passed.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }
}

/// The last panic that is told of, as `where: what`; empty if there is none.
pub(crate) fn last_panic(errors: &str) -> String {
    let Some((_, told)) = errors.rsplit_once("panicked at ") else { return String::new() };
    let (place, what) = told.split_once('\n').unwrap_or((told, ""));
    let place = place.trim_end_matches(':');
    let what: Vec<&str> =
        what.lines().take_while(|line| !line.starts_with("note: ")).take(6).collect();
    format!("{place}: {}", what.join(" / "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&str]) -> Output {
        let mut output = Output::default();
        parts.iter().for_each(|part| output.read(part.as_bytes()));
        output
    }

    #[test]
    fn the_first_failure_counts() {
        let parts = ["\nrunning 3 tests\ntest a::one ... o", "k\ntest a::two ... ", "FAILED\n"];
        let output = read(&parts);
        assert_eq!((output.failed(), output.passed()), (Some("a::two"), 1));
        assert_eq!(read(&parts[..2]).running(), Some("a::two"));
        assert_eq!(read(&parts[..2]).failed(), None);
    }

    #[test]
    fn tests_may_write_themselves() {
        let output = read(&["test one ... is it ok\nwell ok\ntest two ... some\nthing\nFAILED\n"]);
        assert_eq!(output.failed(), Some("two"));
        let output = read(&["test it - should panic ... ok\ntest result: FAILED. 1 passed\n"]);
        assert_eq!((output.failed(), output.passed(), output.running()), (None, 1, None));
    }

    #[test]
    fn the_last_panic_is_the_one() {
        let errors = "thread 'a' panicked at x.rs:1:2:\nfirst\n\
            thread 'b' (7) panicked at y.rs:3:4:\nassertion failed\n  left: 1\nnote: run with\n";
        assert_eq!(last_panic(errors), "y.rs:3:4: assertion failed /   left: 1");
        assert_eq!(last_panic("nothing"), "");
    }
}
