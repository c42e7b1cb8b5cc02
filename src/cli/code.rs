//! Bytecode from the command line.

use super::error::CliError;
use revm::primitives::{Bytes, hex};
use std::{fs, path::Path};

/// Bytecode from `0x` hexadecimal, or from a file that holds hexadecimal (with or without `0x`,
/// white space ignored) or raw bytes.
pub(super) fn read(argument: &str) -> Result<Bytes, CliError> {
    if let Some(digits) = argument.strip_prefix("0x") {
        return parse(digits)
            .map_err(|error| CliError::Usage(format!("{argument:.40}: not hexadecimal: {error}")));
    }
    let path = Path::new(argument);
    let bytes =
        fs::read(path).map_err(|error| CliError::File { path: path.to_path_buf(), error })?;
    let is_text = |byte: &u8| byte.is_ascii_hexdigit() || byte.is_ascii_whitespace();
    let digits = bytes.trim_ascii_start();
    let digits = digits.strip_prefix(b"0x").unwrap_or(digits);
    if !digits.iter().all(is_text) {
        return Ok(bytes.into());
    }
    let digits: Vec<u8> = digits.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    hex::decode(&digits).map(Into::into).map_err(|error| CliError::File {
        path: path.to_path_buf(),
        error: std::io::Error::new(std::io::ErrorKind::InvalidData, error.to_string()),
    })
}

/// Bytes from hexadecimal without `0x`.
fn parse(digits: &str) -> Result<Bytes, hex::FromHexError> {
    hex::decode(digits).map(Into::into)
}

/// The calldata of an argument.
pub(super) fn calldata(argument: &str) -> Result<Bytes, CliError> {
    let digits = argument.strip_prefix("0x").unwrap_or(argument);
    parse(digits)
        .map_err(|error| CliError::Usage(format!("--calldata is not hexadecimal: {error}")))
}
