//! The built command: exit codes, messages, and the shape of what it prints.

mod aot;
mod check;
mod compile;
mod environment;
mod optimised;
mod replay;
mod setup;
mod statetest;
mod tier1;
mod usage;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// What a run of the command came to.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("output is UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Ran {
    /// Asserts the exit code, and shows everything if it is another.
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "stdout: {stdout}\nstderr: {stderr}");
        self
    }

    /// Asserts that a message on standard error holds all of these, in one line.
    #[track_caller]
    fn complains(self, parts: &[&str]) -> Self {
        let says = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(self.stderr.lines().any(says), "stderr: {}\nlacks: {parts:?}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }

    /// Asserts that a message on standard error names a file.
    #[track_caller]
    fn complains_of(&self, file: &Path) {
        assert!(self.stderr.contains(text(file)), "stderr: {}", self.stderr);
    }

    /// Asserts that a line of standard output holds all of these.
    #[track_caller]
    fn prints(self, parts: &[&str]) -> Self {
        let says = |line: &str| parts.iter().all(|part| line.contains(part));
        assert!(self.stdout.lines().any(says), "stdout: {}\nlacks: {parts:?}", self.stdout);
        self
    }
}

/// Runs `kiln` with these arguments.
fn kiln<const N: usize>(arguments: [&str; N]) -> Ran {
    kiln_in(&[], &arguments)
}

/// Runs `kiln` with these variables and arguments.
fn kiln_in(vars: &[(&str, &str)], arguments: &[&str]) -> Ran {
    Command::new(env!("CARGO_BIN_EXE_kiln"))
        .env_remove("RUST_LOG")
        .envs(vars.iter().copied())
        .args(arguments)
        .output()
        .expect("the command starts")
        .into()
}

/// A file of this repository.
fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A path as an argument.
fn text(path: &Path) -> &str {
    path.to_str().expect("paths are UTF-8")
}
