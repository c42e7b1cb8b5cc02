//! Which executable serves as a worker.
//!
//! **Owns** the order in which one is looked for. **Callers guarantee** nothing: what was found and is no
//! worker is refused when it is started. **Never** reads a `KILN_*` variable.

use super::ARGUMENT;
use std::{
    ffi::OsStr,
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
};

/// Names of executables that are workers, if they were built with LLVM.
const NAMES: [&str; 2] = ["kiln-tier1-worker", "kiln"];

/// Whether this process would serve if it was started as a worker. Relaxed: nothing else is read.
static SERVES: AtomicBool = AtomicBool::new(false);

pub(super) fn register() {
    SERVES.store(true, Ordering::Relaxed);
}

/// What is started as a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executable {
    /// The executable of this process, also if another one has taken its place in the file system since.
    This,
    /// The one at this path.
    Path(PathBuf),
}

impl Executable {
    /// The one that was configured; else this one, if it called [`super::serve_if_worker`]; else
    /// `kiln-tier1-worker` or `kiln`, in the folder of this executable or in one of `PATH`. None: there is no
    /// worker to be had.
    pub fn find(configured: Option<&Path>) -> Option<Self> {
        if let Some(path) = configured {
            return Some(Self::Path(path.into()));
        }
        if SERVES.load(Ordering::Relaxed) {
            return Some(Self::This);
        }
        let this = std::env::current_exe().ok();
        let folder = this.as_deref().and_then(Path::parent).map(PathBuf::from);
        let path = std::env::var_os("PATH").unwrap_or_default();
        look_for(folder.into_iter().chain(std::env::split_paths(&path)), this.as_deref())
            .map(Self::Path)
    }

    /// The command that starts it as a worker.
    pub(super) fn command(&self) -> io::Result<Command> {
        let mut command = match self {
            Self::This => {
                let mut command = Command::new("/proc/self/exe");
                command.arg0(std::env::current_exe()?);
                command
            }
            Self::Path(path) => Command::new(path),
        };
        command.arg(ARGUMENT);
        Ok(command)
    }
}

/// The first executable file with one of the names in absolute folders, other than `this`.
fn look_for(folders: impl Iterator<Item = PathBuf>, this: Option<&Path>) -> Option<PathBuf> {
    let paths = folders
        .filter(|folder| folder.is_absolute())
        .flat_map(|folder| NAMES.map(|name| folder.join(OsStr::new(name))));
    paths.into_iter().find(|path| Some(path.as_path()) != this && is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    #[test]
    fn the_configured_one_is_taken_as_it_is() {
        let path = Path::new("/no/such/worker");
        assert_eq!(Executable::find(Some(path)), Some(Executable::Path(path.into())));
    }

    #[test]
    fn the_first_executable_file_with_a_name_is_found() {
        let root = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let folder = root.path().join(name);
            fs::create_dir(&folder).expect("a folder");
            folder
        };
        let write = |path: &Path, mode| {
            fs::write(path, "").expect("a file");
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("its mode");
        };
        let (first, second, third) = (folder("1"), folder("2"), folder("3"));
        write(&first.join("kiln"), 0o644);
        fs::create_dir(first.join("kiln-tier1-worker")).expect("a folder of that name");
        write(&second.join("kiln"), 0o755);
        write(&third.join("kiln"), 0o755);
        write(&third.join("kiln-tier1-worker"), 0o755);
        let folders =
            || [PathBuf::from("."), first.clone(), second.clone(), third.clone()].into_iter();
        assert_eq!(look_for(folders(), None), Some(second.join("kiln")));
        let this = second.join("kiln");
        assert_eq!(look_for(folders(), Some(&this)), Some(third.join("kiln-tier1-worker")));
        assert_eq!(look_for(folders().take(2), None), None);
    }
}
