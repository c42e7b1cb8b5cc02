//! Options from an environment.

use kiln_runtime::{Config, ConfigError, Force, VARIABLES};
use std::ffi::OsStr;

/// Lines of `NAME=value`; the last line is the text of forced transitions, too. Whatever they are: an error names the
/// culprit, and what is accepted is in range and reads back from its own text.
pub fn config(data: &[u8]) {
    let vars: Vec<_> = data.split(|&byte| byte == b'\n').map(pair).collect();
    match Config::from_vars(vars.iter().copied()) {
        Ok(config) => {
            assert_eq!(config.validate(), Ok(()));
            let texts = VARIABLES
                .iter()
                .filter_map(|variable| variable.value(&config).map(|value| (variable.name, value)));
            assert_eq!(Config::from_vars(texts).as_ref(), Ok(&config));
        }
        Err(error) => names_the_culprit(&error, &vars),
    }
    if let Some(text) = vars.last().and_then(|(_, value)| value.to_str()) {
        force(text);
    }
}

fn names_the_culprit(error: &ConfigError, vars: &[(&OsStr, &OsStr)]) {
    let text = error.to_string();
    match error {
        ConfigError::Unknown { name } => {
            assert!(vars.iter().any(|(is, _)| is.to_string_lossy() == *name), "{text}");
            assert!(text.contains(&format!("{name:?}")), "{text}");
        }
        ConfigError::Value { name, value, expected } => {
            let is =
                |pair: &(&OsStr, &OsStr)| pair.0 == *name && pair.1.to_string_lossy() == *value;
            assert!(vars.iter().any(is), "{text}");
            assert!(text.starts_with(name) && text.ends_with(expected), "{text}");
        }
        error => panic!("no variable is wrong: {error}"),
    }
}

fn force(text: &str) {
    match text.parse::<Force>() {
        Ok(force) => assert_eq!(force.to_string().parse(), Ok(force)),
        Err(error) => assert!(error.to_string().contains("exit=N"), "{error}"),
    }
}

fn pair(line: &[u8]) -> (&OsStr, &OsStr) {
    let at = line.iter().position(|&byte| byte == b'=').unwrap_or(line.len());
    let (name, value) = line.split_at(at);
    (os(name), os(value.get(1..).unwrap_or_default()))
}

#[cfg(unix)]
fn os(bytes: &[u8]) -> &OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(bytes)
}

#[cfg(not(unix))]
fn os(bytes: &[u8]) -> &OsStr {
    std::str::from_utf8(bytes).unwrap_or_default().as_ref()
}
