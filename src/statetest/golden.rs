//! Golden results: gas, result and output of every variant, as plain revm gave them.
//!
//! One JSON array a line: `[path, test, fork, d, g, v, gas_used, result, output]`; the fork as
//! `SpecId`'s `Debug` has it, the output in hex, or `keccak:<hash>:<length>` above 64 bytes.

use super::{Outcome, StateTestError, VariantError};
use crate::fixture;
use revm::{
    context_interface::result::ExecutionResult,
    primitives::{hardfork::SpecId, keccak256},
};
use std::{collections::HashMap, path::Path};

/// Bytes of output up to which a golden result holds the output itself.
const OUTPUT_BYTES_MAX: usize = 64;

type Row = (String, String, String, usize, usize, usize, u64, String, String);
type Key = (String, String, [usize; 3]);

/// Gas, result and output of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoldenResult {
    /// Gas used; 0 for a transaction that was rejected.
    pub gas_used: u64,
    /// `Success: Stop`, `Revert`, `Halt: OutOfGas(Basic)`, or the error.
    pub result: String,
    /// The output, see the module's documentation.
    pub output: String,
}

/// Golden results by file and variant.
#[derive(Clone, Debug, Default)]
pub struct Golden {
    files: HashMap<String, HashMap<Key, GoldenResult>>,
}

impl Golden {
    /// Reads a file of golden results, plain or gzip.
    ///
    /// # Errors
    /// The file can not be read, or a line of it is not a result.
    pub fn load(path: &Path) -> Result<Self, StateTestError> {
        let bytes = fixture::read(path)
            .map_err(|error| StateTestError::Io { path: path.to_path_buf(), error })?;
        let mut golden = Self::default();
        let lines = bytes.split(|&byte| byte == b'\n').enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
            let row: Row = serde_json::from_slice(line).map_err(|error| {
                StateTestError::Golden { path: path.to_path_buf(), line: index + 1, error }
            })?;
            let (file, test, fork, d, g, v, gas_used, result, output) = row;
            let results = golden.files.entry(file).or_default();
            results.insert((test, fork, [d, g, v]), GoldenResult { gas_used, result, output });
        }
        Ok(golden)
    }

    /// Number of results.
    pub fn len(&self) -> usize {
        self.files.values().map(HashMap::len).sum()
    }

    /// Whether there is no result.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Compares the result of a variant, if the golden file has the test's file at all: by the
    /// longest end of its path that is known.
    ///
    /// # Errors
    /// How it differs. `Ok(false)` where there was nothing to compare.
    pub fn compare(
        &self,
        path: &Path,
        test: &str,
        spec: SpecId,
        indexes: [usize; 3],
        outcome: &Outcome,
    ) -> Result<bool, VariantError> {
        let Some(file) = self.file(path) else { return Ok(false) };
        let key = (test.to_owned(), format!("{spec:?}"), indexes);
        let golden = file.get(&key).ok_or(VariantError::NoGolden)?;
        let actual = describe(outcome);
        let compare = |what, golden: String, actual: String| {
            if golden == actual {
                return Ok(());
            }
            Err(VariantError::Golden { what, golden, actual })
        };
        compare("result", golden.result.clone(), actual.result)?;
        compare("gas", golden.gas_used.to_string(), actual.gas_used.to_string())?;
        compare("output", golden.output.clone(), actual.output)?;
        Ok(true)
    }

    fn file(&self, path: &Path) -> Option<&HashMap<Key, GoldenResult>> {
        let text = path.to_string_lossy();
        let mut rest = &*text;
        loop {
            if let Some(file) = self.files.get(rest) {
                return Some(file);
            }
            rest = &rest[rest.find('/')? + 1..];
        }
    }
}

/// An outcome in the words of a golden result.
pub fn describe(outcome: &Outcome) -> GoldenResult {
    let result = match outcome {
        Ok(result) => result,
        Err(error) => {
            let (result, output) = (error.to_string(), "0x".to_owned());
            return GoldenResult { gas_used: 0, result, output };
        }
    };
    let output = result.output().cloned().unwrap_or_default();
    let output = match output.len() {
        0..=OUTPUT_BYTES_MAX => output.to_string(),
        len => format!("keccak:{:x}:{len}", keccak256(&output)),
    };
    let gas_used = result.tx_gas_used();
    let result = match result {
        ExecutionResult::Success { reason, .. } => format!("Success: {reason:?}"),
        ExecutionResult::Revert { .. } => "Revert".to_owned(),
        ExecutionResult::Halt { reason, .. } => format!("Halt: {reason:?}"),
    };
    GoldenResult { gas_used, result, output }
}
