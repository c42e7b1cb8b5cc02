//! `kiln record`.

use super::{Verdict, error::CliError, output::Output};
use kiln::fixture::{self, load_all};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Fill in the `expected` results of fixtures, from plain revm.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Fixture files, or folders of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Folder to write to, instead of over the files themselves.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments, output: &mut Output) -> Result<Verdict, CliError> {
    for path in load_all(&arguments.paths)? {
        let mut loaded = fixture::load(&path)?;
        let expected = fixture::record(&loaded.fixture).map_err(|kind| kind.at(&path))?;
        let gas = expected.gas_used;
        loaded.fixture.expected = Some(expected);
        let target = target(&path, arguments.out.as_deref())?;
        let mut text = serde_json::to_string_pretty(&loaded.fixture)
            .map_err(|error| CliError::File { path: target.clone(), error: error.into() })?;
        text.push('\n');
        fs::write(&target, text).map_err(|error| CliError::File { path: target.clone(), error })?;
        output.line(format_args!("{}: {gas} gas", target.display()))?;
    }
    Ok(Verdict::Same)
}

/// Where to write the fixture of a file: plain JSON, whatever it was read from.
fn target(path: &Path, out: Option<&Path>) -> Result<PathBuf, CliError> {
    let mut target = match (out, path.file_name()) {
        (Some(folder), Some(name)) => {
            fs::create_dir_all(folder)
                .map_err(|error| CliError::File { path: folder.to_path_buf(), error })?;
            folder.join(name)
        }
        _ => path.to_path_buf(),
    };
    if target.extension().is_some_and(|extension| extension == "gz") {
        target.set_extension("");
    }
    Ok(target)
}
