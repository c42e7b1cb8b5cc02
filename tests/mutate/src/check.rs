//! Running the suite with a fault switched on.
//!
//! **Owns** the processes it starts: each is a group of its own, and none is left behind. **Callers
//! guarantee** binaries in which all faults are planted. **Never** says that a test caught a fault that
//! fails without one.

use crate::{
    list::{CASES_STAGE, Fault, Stage, VARIABLE},
    output::{Output, last_panic},
    suite::{Built, Suite},
};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    collections::HashMap,
    fmt, io,
    io::Read,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long a stage may take where nobody knows.
const LIMIT: Duration = Duration::from_secs(900);
/// Kilobytes of address space that a test binary may have: what allocates without end is to fail.
const ADDRESS_SPACE_KB: u64 = 24 << 20;
/// How long a test binary has nothing to say before it is taken for silent.
const REST: Duration = Duration::from_millis(200);
/// Bytes of what it says of errors that are kept.
const ERRORS_MAX: usize = 64 << 10;
/// Characters of what a test said that are kept.
const SAID_MAX: usize = 400;

/// Why nothing can be said.
#[derive(Debug, Error)]
pub(crate) enum CheckError {
    #[error("{stage}: {error}")]
    Run { stage: String, error: io::Error },
    #[error("{stage} fails without a fault: {ending}")]
    Fails { stage: String, ending: Ending },
    #[error("{0} runs no test")]
    Empty(String),
}

/// How a test binary ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// So many tests passed, and none failed.
    Passed(usize),
    /// A test failed, and what it said.
    Failed(String, String),
    /// The process died in a test.
    Died(String, String),
    /// A test did not come to an end.
    Hung(String),
}

/// What came of a fault.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    /// The stage that caught it, and how.
    pub(crate) caught: Option<(String, Ending)>,
    pub(crate) time: Duration,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(tests) => write!(f, "{tests} tests passed"),
            Self::Failed(test, said) => write!(f, "{test}: {said}"),
            Self::Died(test, how) => write!(f, "{test}: died: {how}"),
            Self::Hung(test) => write!(f, "{test}: did not end"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.caught {
            Some((stage, ending)) => write!(f, "{stage}: {ending}"),
            None => f.write_str("NOT CAUGHT"),
        }
    }
}

/// The suite, and what is known of its stages.
pub(crate) struct Check<'a> {
    suite: &'a Suite,
    source: PathBuf,
    /// By stage, and the case files of it that were run, how long it took without a fault.
    took: HashMap<(&'a str, Option<String>), Duration>,
}

impl<'a> Check<'a> {
    pub(crate) fn new(suite: &'a Suite, source: &Path) -> Self {
        Self { suite, source: source.to_owned(), took: HashMap::new() }
    }

    /// Runs the stages that these faults name without one. Others are run so before they are asked.
    pub(crate) fn stages_pass(&mut self, faults: &[&Fault]) -> Result<(), CheckError> {
        let named = |built: &&Built| {
            let name = &built.stage.name;
            faults.iter().any(|fault| {
                fault.stages.contains(name) || (name == CASES_STAGE && !fault.cases.is_empty())
            })
        };
        for built in self.suite.stages.iter().filter(named) {
            let took = self.passes(built, None)?;
            println!("{:32} {:6.1} s  without a fault", built.stage.name, took.as_secs_f64());
        }
        Ok(())
    }

    /// Makes sure that a stage, or only these case files, passes without a fault; answers how long it takes.
    fn passes(&mut self, built: &'a Built, cases: Option<&str>) -> Result<Duration, CheckError> {
        let stage = &built.stage.name;
        let part = (&**stage, cases.map(str::to_owned));
        // All of it, or this part.
        let took = self.took.get(&(stage, None)).or_else(|| self.took.get(&part));
        if let Some(took) = took {
            return Ok(*took);
        }
        let start = Instant::now();
        match self.run(built, None, cases, LIMIT)? {
            Ending::Passed(0) => return Err(CheckError::Empty(stage.clone())),
            Ending::Passed(_) => {}
            ending => return Err(CheckError::Fails { stage: stage.clone(), ending }),
        }
        let took = start.elapsed();
        self.took.insert(part, took);
        Ok(took)
    }

    /// Runs stages with a fault until one catches it: first those that are expected to.
    pub(crate) fn fault(&mut self, fault: &Fault) -> Result<Finding, CheckError> {
        let is_hinted = |built: &&Built| fault.stages.contains(&built.stage.name);
        let suite = self.suite;
        let named = |name: &str| suite.stages.iter().find(|built| built.stage.name == name);
        let cases = named(CASES_STAGE).filter(|_| !fault.cases.is_empty());
        let cases = cases.map(|built| (built, Some(fault.cases.join(","))));
        let hinted = fault.stages.iter().filter_map(|name| named(name));
        let others = suite.stages.iter().filter(|built| !is_hinted(built));
        let whole = hinted.chain(others).map(|built| (built, None));
        let mut time = Duration::ZERO;
        for (built, cases) in cases.into_iter().chain(whole) {
            let limit = Stage::limit(self.passes(built, cases.as_deref())?);
            let start = Instant::now();
            let ending = self.run(built, Some(fault), cases.as_deref(), limit)?;
            time += start.elapsed();
            if !matches!(ending, Ending::Passed(_)) {
                return Ok(Finding { caught: Some((built.stage.name.clone(), ending)), time });
            }
        }
        Ok(Finding { caught: None, time })
    }

    fn run(
        &self,
        built: &Built,
        fault: Option<&Fault>,
        cases: Option<&str>,
        limit: Duration,
    ) -> Result<Ending, CheckError> {
        let error = |error| CheckError::Run { stage: built.stage.name.clone(), error };
        // A shell, since only the process itself can limit what it takes.
        let mut command = Command::new("/bin/sh");
        let limited = format!("ulimit -c 0; ulimit -v {ADDRESS_SPACE_KB}; exec \"$0\" \"$@\"");
        command.args(["-c", &limited]).arg(&built.binary);
        // One after the other, so that the test that runs is known.
        command.args(["--test-threads=1", "--nocapture"]).args(&built.stage.args);
        command.current_dir(&built.folder).envs(&built.stage.env).env_remove(VARIABLE);
        // What cargo says to tests.
        command.env("CARGO_MANIFEST_DIR", &built.folder).env("RUST_BACKTRACE", "0");
        if let Some(fault) = fault {
            command.env(VARIABLE, &fault.name);
        }
        if let Some(cases) = cases {
            command.env("KILN_TEST_FILES", cases).args(["--exact", "case_files"]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn().map_err(error)?;
        let ended = Running::new(child).wait(limit).map_err(error)?;
        let says = |text: &str| shorten(text, &self.source);
        Ok(ended.ending(says))
    }
}

/// A test binary that runs. Its whole group ends with it.
struct Running {
    child: Child,
    heard: Receiver<(bool, Vec<u8>)>,
}

/// One that ran.
#[derive(Default)]
struct Ran {
    output: Output,
    errors: Vec<u8>,
    /// None where it was ended.
    status: Option<ExitStatus>,
    hung: bool,
}

impl Running {
    fn new(mut child: Child) -> Self {
        let (say, heard) = channel();
        let (out, errors) = (child.stdout.take(), child.stderr.take());
        listen(out, false, say.clone());
        listen(errors, true, say);
        Self { child, heard }
    }

    /// Until it ended, or a test failed, or the time is over.
    fn wait(mut self, limit: Duration) -> io::Result<Ran> {
        let mut ran = Ran::default();
        let mut end = Instant::now() + limit;
        // Behind a failure, what it says of it was said before, but on the other pipe.
        let mut failed = false;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.heard.recv_timeout(if failed { left.min(REST) } else { left }) {
                Ok((true, bytes)) => ran.note(&bytes),
                Ok((false, bytes)) => ran.output.read(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    ran.hung = !failed;
                    break;
                }
            }
            if !failed && ran.output.failed().is_some() {
                (failed, end) = (true, Instant::now() + 10 * REST);
            }
        }
        self.end_group();
        let status = self.child.wait()?;
        ran.status = (!ran.hung && !failed).then_some(status);
        Ok(ran)
    }

    fn end_group(&self) {
        // The group may be gone with its last process.
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// Passes on what comes from a pipe.
fn listen(pipe: Option<impl Read + Send + 'static>, is_error: bool, say: Sender<(bool, Vec<u8>)>) {
    let Some(mut pipe) = pipe else { return };
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(read @ 1..) = pipe.read(&mut buffer) {
            if say.send((is_error, buffer[..read].to_vec())).is_err() {
                return;
            }
        }
    });
}

impl Ran {
    /// Takes more of what it says of errors. Only the end is of interest, and some say it without end.
    fn note(&mut self, bytes: &[u8]) {
        self.errors.extend(bytes);
        if self.errors.len() > 2 * ERRORS_MAX {
            self.errors.drain(..self.errors.len() - ERRORS_MAX);
        }
    }

    fn ending(&self, says: impl Fn(&str) -> String) -> Ending {
        let errors = String::from_utf8_lossy(&self.errors);
        let running = || self.output.running().unwrap_or("before any test").to_owned();
        if let Some(test) = self.output.failed() {
            return Ending::Failed(test.to_owned(), says(&last_panic(&errors)));
        }
        match self.status {
            _ if self.hung => Ending::Hung(running()),
            Some(status) if status.success() => Ending::Passed(self.output.passed()),
            Some(status) => {
                let last = errors.lines().rev().find(|line| !line.trim().is_empty());
                let how = match status.signal() {
                    Some(signal) => format!("signal {signal}; {}", last.unwrap_or_default()),
                    None => last_panic(&errors),
                };
                Ending::Died(running(), says(&how))
            }
            None => Ending::Hung(running()),
        }
    }
}

/// The first of what was said, without names of folders.
fn shorten(text: &str, source: &Path) -> String {
    let folder = format!("{}/", source.display());
    let text = text.replace(&folder, "");
    let words: Vec<&str> = text.split_whitespace().collect();
    let short: String = words.join(" ").chars().take(SAID_MAX).collect();
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(script: &str, limit: Duration) -> Ending {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.process_group(0).spawn().expect("a shell");
        let ran = Running::new(child).wait(limit).expect("it ends");
        ran.ending(|text| shorten(text, Path::new("/source")))
    }

    #[test]
    fn endings_are_told_apart() {
        let long = Duration::from_secs(600);
        assert_eq!(run("echo 'test a ... ok'", long), Ending::Passed(1));
        let script = "echo 'panicked at /source/a.rs:1:' >&2; echo '1 is not 2' >&2; sleep 0.3;
            echo 'test b ... FAILED'; sleep 500";
        let failed = Ending::Failed("b".to_owned(), "a.rs:1: 1 is not 2".to_owned());
        assert_eq!(run(script, long), failed);
        let died = run("printf 'test c ... '; kill -SEGV $$", long);
        assert_eq!(died, Ending::Died("c".to_owned(), "signal 11;".to_owned()));
        let hung = run("printf 'test d ... '; sleep 500", Duration::from_millis(300));
        assert_eq!(hung, Ending::Hung("d".to_owned()));
        let failed = run("exit 3", long);
        assert_eq!(failed, Ending::Died("before any test".to_owned(), String::new()));
    }

    /// A test binary that does what a script says.
    fn built(folder: &Path, name: &str, script: &str) -> Built {
        use std::os::unix::fs::PermissionsExt;
        let binary = folder.join(name);
        std::fs::write(&binary, format!("#!/bin/sh\n{script}\n")).expect("a script");
        let permissions = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&binary, permissions).expect("it can be run");
        let stage = toml::from_str(&format!("name = {name:?}\npackage = \"a\"")).expect("a stage");
        Built { stage, binary, folder: folder.to_owned() }
    }

    fn fault(name: &str, more: &str) -> Fault {
        let text = format!("name = {name:?}\nsays = \"\"\nfile = \"a\"\nfind = \"b\"\n{more}");
        toml::from_str(&text).expect("a fault")
    }

    #[test]
    fn faults_are_looked_for_where_they_are_expected_and_then_everywhere() {
        let folder = tempfile::tempdir().expect("a folder");
        let built = |name, script| built(folder.path(), name, script);
        let fails_if = |what: &str| {
            format!("if [ {what} ]; then echo 'test t ... FAILED'; else echo 'test t ... ok'; fi")
        };
        let fails_with = |fault: &str| fails_if(&format!("\"$PLANTED_FAULT\" = {fault}"));
        let cases = fails_if("\"$PLANTED_FAULT$KILN_TEST_FILES\" = thirdx,y");
        let stages = vec![
            built("one", &fails_with("first")),
            built("two", &fails_with("second")),
            built(CASES_STAGE, &cases),
        ];
        let suite = Suite { stages };
        let mut check = Check::new(&suite, folder.path());
        let mut find = |name: &str, more: &str| {
            let finding = check.fault(&fault(name, more)).expect("an answer");
            finding.caught.map(|(stage, _)| stage)
        };
        assert_eq!(find("first", "").as_deref(), Some("one"));
        assert_eq!(find("second", "stages = [\"two\"]").as_deref(), Some("two"));
        assert_eq!(find("second", "stages = [\"one\"]").as_deref(), Some("two"));
        assert_eq!(find("third", "cases = [\"x\", \"y\"]").as_deref(), Some(CASES_STAGE));
        assert_eq!(find("third", "stages = [\"one\"]"), None);
    }

    #[test]
    fn a_stage_that_fails_or_runs_nothing_catches_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let built = |name, script| built(folder.path(), name, script);
        for script in ["echo 'test t ... FAILED'", "exit 1", "true"] {
            let suite = Suite { stages: vec![built("one", script)] };
            let mut check = Check::new(&suite, folder.path());
            assert!(check.fault(&fault("first", "")).is_err(), "{script}");
            assert!(check.stages_pass(&[&fault("first", "stages = [\"one\"]")]).is_err());
        }
    }
}
