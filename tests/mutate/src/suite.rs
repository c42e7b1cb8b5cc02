//! The suite: its test binaries, built from the copy.
//!
//! **Owns** what cargo is asked to build. **Callers guarantee** the copy. **Never** runs a test.

use crate::list::Stage;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};
use thiserror::Error;

/// Why there is no suite.
#[derive(Debug, Error)]
pub(crate) enum SuiteError {
    #[error("{what}: {error}")]
    Run { what: &'static str, error: io::Error },
    #[error("the copy does not build\n{0}")]
    Build(String),
    #[error("{0}: there is no such test binary, or package")]
    Missing(String),
    #[error("{0}\nKILN_NO_LLVM=1 leaves the tests of tier 1 out, and faults may go unnoticed")]
    Llvm(String),
}

/// A stage and its test binary.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) stage: Stage,
    pub(crate) binary: PathBuf,
    /// Where its tests expect to be run.
    pub(crate) folder: PathBuf,
}

/// All stages, in order.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) stages: Vec<Built>,
}

impl Suite {
    /// Builds the test binaries that stages name.
    pub(crate) fn build(
        stages: &[Stage],
        source: &Path,
        target: &Path,
    ) -> Result<Self, SuiteError> {
        let with_llvm = has_llvm(source)?;
        let stages = stages.iter().filter(|stage| with_llvm || !stage.llvm);
        let mut binaries = Binaries::default();
        let mut suite = Self { stages: Vec::new() };
        let mut packages: Vec<&str> = stages.clone().map(|stage| &*stage.package).collect();
        packages.sort_unstable();
        packages.dedup();
        binaries.build(&packages, source, target, with_llvm)?;
        for stage in stages {
            let folder = source.join(&stage.package);
            let binary = binaries.find(&folder, stage.test.as_deref());
            let binary = binary.ok_or_else(|| SuiteError::Missing(stage.name.clone()))?;
            suite.stages.push(Built { stage: stage.clone(), binary, folder });
        }
        Ok(suite)
    }
}

/// Whether tier 1 can be built, as the Makefile finds out.
fn has_llvm(source: &Path) -> Result<bool, SuiteError> {
    let error = |error| SuiteError::Run { what: "scripts/llvm.sh", error };
    let answer = Command::new(source.join("scripts/llvm.sh")).output().map_err(error)?;
    if answer.status.success() {
        return Ok(true);
    }
    match std::env::var_os("KILN_NO_LLVM") {
        Some(_) => Ok(false),
        None => Err(SuiteError::Llvm(String::from_utf8_lossy(&answer.stderr).trim().to_owned())),
    }
}

/// An error of the compiler, if a message of cargo's is one.
fn error_of(message: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let message = message.get("message").filter(|message| message["level"] == "error")?;
    message["rendered"].as_str().map(str::to_owned)
}

/// What a package in a folder is called.
fn package_name(folder: &Path) -> Result<String, SuiteError> {
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml"));
    let manifest = manifest.map_err(|error| SuiteError::Run { what: "Cargo.toml", error })?;
    let name = manifest.parse::<toml::Table>().ok();
    let name = name.and_then(|table| Some(table.get("package")?.get("name")?.as_str()?.to_owned()));
    name.ok_or_else(|| SuiteError::Missing(folder.display().to_string()))
}

/// Test binaries, by the manifest of their package and the name of an integration test.
#[derive(Debug, Default)]
struct Binaries(HashMap<(PathBuf, Option<String>), PathBuf>);

impl Binaries {
    /// All in one build, so that features are the same for all.
    fn build(
        &mut self,
        packages: &[&str],
        source: &Path,
        target: &Path,
        with_llvm: bool,
    ) -> Result<(), SuiteError> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["test", "--no-run", "--profile", "checked"]);
        // Warnings about what was planted are nobody's business.
        cargo.arg("--message-format=json");
        for package in packages {
            cargo.args(["-p", &package_name(&source.join(package))?]);
        }
        if with_llvm {
            cargo.args(["--features", "kiln-tests/llvm"]);
        }
        cargo.current_dir(source).env("CARGO_TARGET_DIR", target).stderr(Stdio::inherit());
        let error = |error| SuiteError::Run { what: "cargo", error };
        let built = cargo.output().map_err(error)?;
        let said = String::from_utf8_lossy(&built.stdout);
        if !built.status.success() {
            let errors: Vec<String> = said.lines().filter_map(error_of).collect();
            return Err(SuiteError::Build(errors.join("\n")));
        }
        said.lines().for_each(|line| _ = self.note(line));
        Ok(())
    }

    /// Notes what a message of cargo's says of a test binary, if it does.
    fn note(&mut self, message: &str) -> Option<()> {
        let message: serde_json::Value = serde_json::from_str(message).ok()?;
        if !message["profile"]["test"].as_bool()? {
            return None;
        }
        let binary = PathBuf::from(message["executable"].as_str()?);
        let manifest = PathBuf::from(message["manifest_path"].as_str()?);
        let name = match message["target"]["kind"][0].as_str()? {
            "test" => Some(message["target"]["name"].as_str()?.to_owned()),
            "lib" => None,
            _ => return None,
        };
        self.0.insert((manifest, name), binary);
        Some(())
    }

    fn find(&self, package: &Path, test: Option<&str>) -> Option<PathBuf> {
        self.0.get(&(package.join("Cargo.toml"), test.map(str::to_owned))).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_binaries_are_found_in_what_cargo_says() {
        let mut binaries = Binaries::default();
        let message = |kind: &str, name: &str, test: bool| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/a/b/Cargo.toml",
                "target":{{"kind":["{kind}"],"name":"{name}"}},"profile":{{"test":{test}}},
                "executable":"/out/{name}"}}"#
            )
        };
        assert_eq!(binaries.note(&message("lib", "b", true)), Some(()));
        assert_eq!(binaries.note(&message("test", "words", true)), Some(()));
        assert_eq!(binaries.note(&message("test", "other", false)), None);
        assert_eq!(binaries.note("no message"), None);
        let find = |test| binaries.find(Path::new("/a/b"), test);
        assert_eq!(find(None), Some("/out/b".into()));
        assert_eq!(find(Some("words")), Some("/out/words".into()));
        assert_eq!(find(Some("other")), None);
    }
}
