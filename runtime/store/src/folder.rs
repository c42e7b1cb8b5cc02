//! One folder, by its descriptor.
//!
//! **Owns** how files are opened, made and moved, and the check that they are the user's own. All names are relative to
//! a descriptor that was checked, and no link is followed: whatever becomes of the path later, this is the folder that
//! was checked. **Callers guarantee** names without a slash. **Never** knows what is in a file.

use crate::{Refused, StoreError};
use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat},
    io::Errno,
};
use std::{
    fs::File,
    hash::{BuildHasher, RandomState},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

/// Writable by group or others. With an access control list the bits of the group say what is granted at most, so
/// these two see that as well.
const OTHERS_WRITE: u32 = 0o022;
/// How often a name for a temporary file is looked for.
const NAMES: u32 = 16;

/// What is found under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    kind: FileType,
    owner: u32,
    mode: u32,
}

impl From<&Stat> for Found {
    fn from(stat: &Stat) -> Self {
        let kind = FileType::from_raw_mode(stat.st_mode);
        Self { kind, owner: stat.st_uid, mode: stat.st_mode & 0o7777 }
    }
}

impl Found {
    /// Whether it is of this kind, this user's, and nobody else's to write.
    fn check(self, kind: FileType, user: u32) -> Result<(), Refused> {
        let refused = |is: String, should: String| Err(Refused { is, should });
        if self.kind != kind {
            return refused(kind_name(self.kind).into(), kind_name(kind).into());
        }
        if self.owner != user {
            let should = format!("owned by user {user}, as which this process runs");
            return refused(format!("owned by user {}", self.owner), should);
        }
        if self.mode & OTHERS_WRITE != 0 {
            let should = format!("mode {:04o} at most", self.mode & !OTHERS_WRITE);
            return refused(format!("for others to write, mode {:04o}", self.mode), should);
        }
        Ok(())
    }
}

const fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "a regular file",
        FileType::Directory => "a folder",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        FileType::Unknown => "of an unknown kind",
    }
}

/// A folder that was checked.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    fd: OwnedFd,
}

impl Folder {
    /// None if there is nothing.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let opened = open_checked(fs::CWD, path, path, FileType::Directory)?;
        Ok(opened.map(|(fd, _)| Self { path: path.into(), fd }))
    }

    /// None if there is nothing.
    pub(crate) fn subfolder(&self, name: &str) -> Result<Option<Self>, StoreError> {
        let path = self.path.join(name);
        let opened = open_checked(&self.fd, Path::new(name), &path, FileType::Directory)?;
        Ok(opened.map(|(fd, _)| Self { path, fd }))
    }

    /// Makes it first, for the user only, where there is nothing.
    pub(crate) fn subfolder_made(&self, name: &str) -> Result<Self, StoreError> {
        if let Some(folder) = self.subfolder(name)? {
            return Ok(folder);
        }
        match fs::mkdirat(&self.fd, name, Mode::RWXU) {
            // Another process was first.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.io(name, "to make the folder", errno)),
        }
        let gone = || self.io(name, "to open the folder", Errno::NOENT);
        self.subfolder(name)?.ok_or_else(gone)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A file for reading, and its state. None if there is nothing.
    pub(crate) fn file(&self, name: &str) -> Result<Option<(File, Stat)>, StoreError> {
        let path = self.path.join(name);
        let opened = open_checked(&self.fd, Path::new(name), &path, FileType::RegularFile)?;
        Ok(opened.map(|(fd, stat)| (fd.into(), stat)))
    }

    /// A file for reading and writing, made for the user only where there is nothing.
    pub(crate) fn file_made(&self, name: &str) -> Result<File, StoreError> {
        if let Some((file, _)) = self.file(name)? {
            return Ok(file);
        }
        match fs::openat(&self.fd, name, CREATE.union(OFlags::EXCL), PRIVATE) {
            Ok(fd) => return Ok(fd.into()),
            // Another process was first.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(self.io(name, "to make the file", errno)),
        }
        let gone = || self.io(name, "to open the file", Errno::NOENT);
        self.file(name)?.map(|(file, _)| file).ok_or_else(gone)
    }

    /// The names of what is in it, as far as they are text.
    pub(crate) fn names(&self) -> Result<Vec<String>, StoreError> {
        let failed = |errno| self.io("", "to list the folder", errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            match entry.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        Ok(names)
    }

    /// The state of what has this name; a link's own. None if there is nothing.
    pub(crate) fn stat(&self, name: &str) -> Result<Option<Stat>, StoreError> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.io(name, "to look at the file", errno)),
        }
    }

    /// Removes a file. False if there is nothing.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, StoreError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.io(name, "to remove the file", errno)),
        }
    }

    /// Moves a file into another folder, in the place of what has its name there.
    pub(crate) fn rename(&self, name: &str, to: &Self, new: &str) -> Result<(), StoreError> {
        let renamed = fs::renameat(&self.fd, name, &to.fd, new);
        renamed.map_err(|errno| to.io(new, "to move the file here", errno))
    }

    /// Sets the time of the last change to now. False if there is nothing.
    pub(crate) fn touch(&self, name: &str) -> Result<bool, StoreError> {
        let now = fs::Timespec { tv_sec: 0, tv_nsec: fs::UTIME_NOW };
        let times = fs::Timestamps { last_access: now, last_modification: now };
        match fs::utimensat(&self.fd, name, &times, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.io(name, "to set the time of the file", errno)),
        }
    }

    pub(crate) fn io(&self, name: &str, doing: &'static str, errno: Errno) -> StoreError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        StoreError::Io { path, doing, source: errno.into() }
    }
}

const PRIVATE: Mode = Mode::RUSR.union(Mode::WUSR);
const CREATE: OFlags =
    OFlags::RDWR.union(OFlags::CREATE).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens and checks what has this name. None if there is nothing.
fn open_checked(
    folder: impl AsFd,
    name: &Path,
    path: &Path,
    kind: FileType,
) -> Result<Option<(OwnedFd, Stat)>, StoreError> {
    let doing = "to open it";
    let io = |errno: Errno| StoreError::Io { path: path.into(), doing, source: errno.into() };
    let user = rustix::process::geteuid().as_raw();
    let check = |stat: &Stat| {
        let refused = |refused| StoreError::Refused { path: path.into(), refused };
        Found::from(stat).check(kind, user).map_err(refused)
    };
    // A pipe does not block, a terminal is not taken over.
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match fs::openat(&folder, name, flags, Mode::empty()) {
        Ok(fd) => {
            let stat = fs::fstat(&fd).map_err(io)?;
            check(&stat)?;
            Ok(Some((fd, stat)))
        }
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => {
            // What can not be opened may be no file at all: that says more than the system does.
            if let Ok(stat) = fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
                check(&stat)?;
            }
            Err(io(errno))
        }
    }
}

/// A file that is being written. Its writer holds a lock on it, which ends with the process: what nobody holds is
/// nobody's. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Temporary<'a> {
    folder: &'a Folder,
    name: String,
    pub(crate) file: File,
    is_moved: bool,
}

impl<'a> Temporary<'a> {
    /// A new one in this folder.
    pub(crate) fn new(folder: &'a Folder) -> Result<Self, StoreError> {
        // Relaxed: only that each is another number.
        static SERIAL: AtomicU64 = AtomicU64::new(0);
        // Another one in each process, whatever numbers processes have.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(0));
        let mut errno = Errno::EXIST;
        for _ in 0..NAMES {
            let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
            let name = format!("{:016x}-{serial}", *PROCESS);
            let file: File = match fs::openat(&folder.fd, &*name, CREATE | OFlags::EXCL, PRIVATE) {
                Ok(fd) => fd.into(),
                Err(Errno::EXIST) => continue,
                Err(errno) => return Err(folder.io(&name, "to make a temporary file", errno)),
            };
            match fs::flock(&file, fs::FlockOperation::NonBlockingLockExclusive) {
                // Who removes what nobody holds may have been faster: then this is no file in the folder any more.
                Ok(()) if fs::fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) => {
                    return Ok(Self { folder, name, file, is_moved: false });
                }
                Ok(()) | Err(Errno::WOULDBLOCK) => errno = Errno::WOULDBLOCK,
                Err(errno) => {
                    let _ = folder.remove(&name);
                    return Err(folder.io(&name, "to lock a temporary file", errno));
                }
            }
        }
        Err(folder.io("", "to make a temporary file", errno))
    }

    /// Moves it to its place, in one step, in the place of what is there.
    pub(crate) fn persist(mut self, to: &Folder, name: &str) -> Result<(), StoreError> {
        self.folder.rename(&self.name, to, name)?;
        self.is_moved = true;
        Ok(())
    }

    /// Its name, for errors.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.is_moved {
            // What stays is removed with what nobody holds.
            let _ = self.folder.remove(&self.name);
        }
    }
}

/// Removes a temporary file if nobody is writing it.
pub(crate) fn remove_unheld(folder: &Folder, name: &str) -> Result<bool, StoreError> {
    let Some((file, _)) = folder.file(name)? else { return Ok(false) };
    match fs::flock(&file, fs::FlockOperation::NonBlockingLockExclusive) {
        // The lock is held until it is removed: see `Temporary::new`.
        Ok(()) => folder.remove(name),
        Err(_) => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_is_trusted() {
        let found = |kind, owner, mode| Found { kind, owner, mode };
        let (file, folder) = (FileType::RegularFile, FileType::Directory);
        for mode in [0o400, 0o600, 0o644, 0o755, 0o700] {
            assert_eq!(found(file, 7, mode).check(file, 7), Ok(()));
            assert_eq!(found(folder, 0, mode).check(folder, 0), Ok(()));
        }
        let refused = |found: Found, kind| found.check(kind, 7).expect_err("refused").to_string();
        let text = "it is a symbolic link; it should be a regular file";
        assert_eq!(refused(found(FileType::Symlink, 7, 0o777), file), text);
        let text = "it is a regular file; it should be a folder";
        assert_eq!(refused(found(file, 7, 0o600), folder), text);
        let text =
            "it is owned by user 8; it should be owned by user 7, as which this process runs";
        assert_eq!(refused(found(file, 8, 0o600), file), text);
        assert!(refused(found(file, 0, 0o600), file).contains("user 0"));
        let text = "it is for others to write, mode 0775; it should be mode 0755 at most";
        assert_eq!(refused(found(folder, 7, 0o775), folder), text);
        assert!(refused(found(file, 7, 0o602), file).contains("mode 0600"));
    }
}
