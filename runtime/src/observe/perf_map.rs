//! `/tmp/perf-PID.map`: how `perf` learns the names of code that was made at run time.
//!
//! **Owns** the file, which all engines and JITs of a process append to. **Callers guarantee**
//! nothing. **Never** fails: an error is counted, and the first one warned about. The format knows
//! no removal: where code was placed over other code, the later line counts.

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// A perf map, opened at the first line.
#[derive(Debug)]
pub(super) struct PerfMap {
    path: PathBuf,
    file: OnceLock<Option<File>>,
    /// Relaxed: only the number counts.
    errors: AtomicU64,
}

impl PerfMap {
    /// Where `perf` looks for it.
    pub(super) fn of_process() -> Self {
        Self::at(format!("/tmp/perf-{}.map", std::process::id()).into())
    }

    fn at(path: PathBuf) -> Self {
        Self { path, file: OnceLock::new(), errors: AtomicU64::new(0) }
    }

    /// Adds a line: an address, a number of bytes, a name without line breaks.
    pub(super) fn add(&self, name: &str, address: usize, len: usize) {
        let file = self
            .file
            .get_or_init(|| open(&self.path).inspect_err(|error| self.complain(error)).ok());
        let Some(file) = file else { return };
        let mut line = String::with_capacity(48 + name.len());
        // Writing to a string does not fail.
        let _ = writeln!(line, "{address:x} {len:x} {name}");
        // One write at the end of the file, so that no one else's line gets in between.
        let mut file: &File = file;
        if let Err(error) = file.write_all(line.as_bytes()) {
            self.complain(&error);
        }
    }

    fn complain(&self, error: &io::Error) {
        if self.errors.fetch_add(1, Ordering::Relaxed) == 0 {
            super::trace::perf_map_error(&self.path, error);
        }
    }

    /// How often writing failed; opening counts once.
    pub(super) fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

/// Appends: another JIT of this process may have begun the file. Follows no symbolic link, which
/// anybody could have put there.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    }
    options.open(path)
}

#[cfg(all(test, unix, not(miri)))]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, thread};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a folder")
    }

    #[test]
    fn it_is_where_perf_looks() {
        let path = format!("/tmp/perf-{}.map", std::process::id());
        assert_eq!(PerfMap::of_process().path, Path::new(&path));
    }

    #[test]
    fn lines_of_all_writers_are_whole() {
        let folder = folder();
        let path = folder.path().join("perf-1.map");
        fs::write(&path, "10 8 another jit's\n").unwrap();
        let (one, other) = (PerfMap::at(path.clone()), PerfMap::at(path.clone()));
        thread::scope(|scope| {
            for map in [&one, &other, &one, &other] {
                scope.spawn(|| (0..250).for_each(|n| map.add("kiln:tier0:ab@X", 0xf000 + n, 64)));
            }
        });
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.remove(0), "10 8 another jit's");
        lines.sort_unstable();
        let expected: Vec<_> =
            (0..1000).map(|n| format!("{:x} 40 kiln:tier0:ab@X", 0xf000 + n / 4)).collect();
        assert_eq!(lines, expected);
        assert_eq!((one.errors(), other.errors()), (0, 0));
    }

    #[test]
    fn nothing_to_name_makes_no_file() {
        let folder = folder();
        let map = PerfMap::at(folder.path().join("map"));
        assert!(!map.path.exists());
        assert_eq!(map.errors(), 0);
    }

    #[test]
    fn errors_are_counted() {
        let folder = folder();
        let nowhere = PerfMap::at(folder.path().join("none").join("map"));
        nowhere.add("x", 1, 1);
        nowhere.add("y", 1, 1);
        assert_eq!(nowhere.errors(), 1, "opened once");

        let target = folder.path().join("target");
        fs::write(&target, "").unwrap();
        let link = folder.path().join("link");
        symlink(&target, &link).unwrap();
        let linked = PerfMap::at(link);
        linked.add("x", 1, 1);
        assert_eq!(linked.errors(), 1);
        assert_eq!(fs::read_to_string(&target).unwrap(), "");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_counted() {
        let full = PerfMap::at("/dev/full".into());
        full.add("x", 1, 1);
        full.add("x", 1, 1);
        assert_eq!(full.errors(), 2);
    }
}
