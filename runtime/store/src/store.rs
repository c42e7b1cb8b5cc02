//! The folder of artifacts.
//!
//! **Owns** what lies where: `format` (the version), `lock`, `artifacts/`, `tmp/`, `aside/`, `profile`. The
//! names in `artifacts/` are the index: there is no other, so there is nothing that processes have to agree on. A file
//! is written as a temporary one, synced, and moved to its place, so that under its name it is whole or not there.
//! Folders are not synced: without power the newest files may be lost, and are never halves.
//!
//! **Callers guarantee** nothing. **Never** uses what fails a check: it is set aside, and answered with the reason.

use crate::{
    Artifact, Bad, BadReason, DecodeError, DecodeLimits, FORMAT, Key, PROFILE_BYTES_MAX, Profile,
    StoreError,
    folder::{Folder, Temporary},
};
use rustix::{
    fs::{FileType, Stat},
    io::Errno,
};
use std::{
    fs::{DirBuilder, File, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub(crate) const FORMAT_FILE: &str = "format";
pub(crate) const LOCK: &str = "lock";
pub(crate) const ARTIFACTS: &str = "artifacts";
pub(crate) const TEMPORARY: &str = "tmp";
pub(crate) const ASIDE: &str = "aside";
pub(crate) const PROFILE: &str = "profile";
/// What is there before `format` is.
const FOLDERS: [&str; 3] = [ARTIFACTS, TEMPORARY, ASIDE];
/// What `format` begins with; the version follows.
pub(crate) const MARKER: &str = "kiln store ";
const MARKER_BYTES_MAX: u64 = 64;

/// Files that are kept of what was set aside, and their bytes.
const ASIDE_FILES_MAX: usize = 64;
const ASIDE_BYTES_MAX: u64 = 64 << 20;

/// How long an artifact counts as just used.
const TOUCH_S: u64 = 3600;

/// How long a lock is waited for: longer than what is done with it takes.
const LOCK_WAIT: Duration = Duration::from_secs(2);
const LOCK_POLL: Duration = Duration::from_millis(2);

/// What may be done with a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing is changed.
    ReadOnly,
    /// The folder is made if there is none.
    ReadWrite,
}

/// What was found under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded<T> {
    /// It, checked as a whole.
    Found(Box<T>),
    /// There is none.
    Missing,
    /// What there is can not be used.
    Bad(Bad),
}

impl<T> Loaded<T> {
    /// It, if it was found.
    pub fn found(self) -> Option<T> {
        match self {
            Self::Found(found) => Some(*found),
            Self::Missing | Self::Bad(_) => None,
        }
    }
}

/// A folder of artifacts. Any number of processes may have it open.
#[derive(Debug)]
pub struct Store {
    pub(crate) folder: Folder,
    pub(crate) artifacts: Folder,
    /// None if it is read-only.
    writable: Option<Writable>,
}

#[derive(Debug)]
pub(crate) struct Writable {
    pub(crate) temporary: Folder,
    pub(crate) aside: Folder,
}

impl Store {
    /// Opens a store. To write it is made where there is none, and what is missing in it.
    ///
    /// # Errors
    /// If it can not be read or made, is not the user's own, is of a newer format, or is something else. All of them say
    /// which path and why.
    pub fn open(path: impl AsRef<Path>, access: Access) -> Result<Self, StoreError> {
        // Without a slash at its end, behind which a link would be followed.
        let path: PathBuf = path.as_ref().components().collect();
        let not_a_store =
            |reason: &str| Err(StoreError::NotAStore { path: path.clone(), reason: reason.into() });
        let folder = match Folder::open(&path)? {
            Some(folder) => folder,
            None if access == Access::ReadOnly => return not_a_store("there is nothing"),
            None => make(&path)?,
        };
        let mut is_marked = check_format(&folder)?;
        if access == Access::ReadOnly {
            let Some(artifacts) = folder.subfolder(ARTIFACTS)?.filter(|_| is_marked) else {
                return not_a_store("it has no file `format`, or no folder `artifacts`");
            };
            return Ok(Self { folder, artifacts, writable: None });
        }
        if !is_marked {
            let names = folder.names()?;
            // Another process may have made it in the meantime.
            is_marked = names.iter().any(|name| name == FORMAT_FILE) && check_format(&folder)?;
            let other = names.iter().find(|name| !FOLDERS.contains(&&***name));
            if let Some(other) = other.filter(|_| !is_marked) {
                return not_a_store(&format!("it has no file `format`, but there is `{other}`"));
            }
        }
        let artifacts = folder.subfolder_made(ARTIFACTS)?;
        let temporary = folder.subfolder_made(TEMPORARY)?;
        let aside = folder.subfolder_made(ASIDE)?;
        let store = Self { folder, artifacts, writable: Some(Writable { temporary, aside }) };
        if !is_marked {
            store.write(format!("{MARKER}{FORMAT}\n").as_bytes(), &store.folder, FORMAT_FILE)?;
        }
        Ok(store)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What may be done with it.
    pub fn access(&self) -> Access {
        if self.writable.is_some() { Access::ReadWrite } else { Access::ReadOnly }
    }

    /// The keys of all artifacts, of every build, in no order.
    ///
    /// # Errors
    /// If the folder can not be listed.
    pub fn keys(&self) -> Result<Vec<Key>, StoreError> {
        let names = self.artifacts.names()?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The artifact of a key. One that can not be used by anybody is set aside, and so missing from then on.
    ///
    /// # Errors
    /// If the system does not let it be read.
    pub fn load(&self, key: &Key, limits: &DecodeLimits) -> Result<Loaded<Artifact>, StoreError> {
        let decode = |bytes: &[u8]| Artifact::decode(bytes, key, limits);
        self.read(&self.artifacts, &key.to_string(), limits.bytes_max, decode)
    }

    /// Saves an artifact, in the place of one with the same key. Answers its bytes.
    ///
    /// # Errors
    /// If it can not be written; then there is what was there before. See [`StoreError::is_lasting`].
    pub fn save(&self, artifact: &Artifact) -> Result<u64, StoreError> {
        let bytes = artifact.encode();
        self.write(&bytes, &self.artifacts, &artifact.key.to_string())?;
        Ok(bytes.len() as u64)
    }

    /// Says that an artifact was used: what was not used for long goes first. Writes at most once an hour. Answers
    /// whether it wrote.
    ///
    /// # Errors
    /// If its time can not be read or set.
    pub fn touch(&self, key: &Key) -> Result<bool, StoreError> {
        self.writable("to set the time of an artifact")?;
        let name = key.to_string();
        let Some(stat) = self.artifacts.stat(&name)? else { return Ok(false) };
        if !is_due(used(&stat), SystemTime::now()) {
            return Ok(false);
        }
        self.artifacts.touch(&name)
    }

    /// Removes the artifact of a key. Answers whether there was one.
    ///
    /// # Errors
    /// If it can not be removed.
    pub fn remove(&self, key: &Key) -> Result<bool, StoreError> {
        self.writable("to remove an artifact")?;
        self.artifacts.remove(&key.to_string())
    }

    /// What is remembered of codes.
    ///
    /// # Errors
    /// If the system does not let it be read.
    pub fn load_profile(&self) -> Result<Loaded<Profile>, StoreError> {
        self.read(&self.folder, PROFILE, PROFILE_BYTES_MAX, Profile::decode)
    }

    /// Adds to what is remembered of codes: see [`Profile::merge`]. Answers the bytes of all of it.
    ///
    /// # Errors
    /// If the store is read-only, another process holds the lock, or it can not be written; then there is what was there
    /// before.
    pub fn save_profile(&self, profile: &Profile) -> Result<u64, StoreError> {
        self.merge_profile(|mut known| {
            known.merge(profile.clone());
            known
        })
    }

    /// Writes a profile that is made of the one there is.
    pub(crate) fn merge_profile(
        &self,
        merge: impl FnOnce(Profile) -> Profile,
    ) -> Result<u64, StoreError> {
        self.writable("to write the profile")?;
        let _lock = self.lock()?;
        // One that is no use is in the way no longer: it was set aside, or is replaced.
        let known = self.load_profile()?.found().unwrap_or_default();
        let bytes = merge(known).encode();
        self.write(&bytes, &self.folder, PROFILE)?;
        Ok(bytes.len() as u64)
    }

    /// Holds the lock until the answer is dropped, or the process ends. It is for what reads and then writes: merging,
    /// collecting, clearing. Artifacts are read and written without.
    pub(crate) fn lock(&self) -> Result<File, StoreError> {
        // Each time another one: the lock is the opened file's.
        let lock = self.folder.file_made(LOCK)?;
        let path = || self.path().join(LOCK);
        let began = Instant::now();
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::Error(source)) => {
                    return Err(StoreError::Io { path: path(), doing: "to lock it", source });
                }
                Err(TryLockError::WouldBlock) if began.elapsed() >= LOCK_WAIT => {
                    return Err(StoreError::Busy { path: path() });
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_POLL),
            }
        }
    }

    pub(crate) fn writable(&self, doing: &'static str) -> Result<&Writable, StoreError> {
        let read_only = || StoreError::ReadOnly { path: self.path().into(), doing };
        self.writable.as_ref().ok_or_else(read_only)
    }

    /// Writes a file as a whole.
    fn write(&self, bytes: &[u8], to: &Folder, name: &str) -> Result<(), StoreError> {
        let folder = &self.writable("to write a file")?.temporary;
        let mut temporary = Temporary::new(folder)?;
        let written = temporary.file.write_all(bytes).and_then(|()| temporary.file.sync_all());
        if let Err(source) = written {
            let path = folder.path().join(temporary.name());
            return Err(StoreError::Io { path, doing: "to write a temporary file", source });
        }
        temporary.persist(to, name)
    }

    /// Reads a file as a whole, and sets it aside if it is no use.
    fn read<T>(
        &self,
        folder: &Folder,
        name: &str,
        bytes_max: usize,
        decode: impl FnOnce(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<Loaded<T>, StoreError> {
        let bad = |reason: BadReason, is: Option<&Stat>| {
            let is_damage = !matches!(&reason, BadReason::Decode(error) if !error.is_damage());
            let set_aside = is_damage && self.set_aside(folder, name, is);
            Ok(Loaded::Bad(Bad { path: folder.path().join(name), reason, set_aside }))
        };
        let (file, stat) = match folder.file(name) {
            Ok(Some(opened)) => opened,
            Ok(None) => return Ok(Loaded::Missing),
            Err(StoreError::Refused { refused, .. }) => return bad(refused.into(), None),
            Err(error) => return Err(error),
        };
        let len = stat.st_size as u64;
        if let Err(error) = DecodeError::limit("bytes", len, bytes_max) {
            return bad(error.into(), Some(&stat));
        }
        let bytes = contents(file, len as usize).map_err(|source| {
            let path = folder.path().join(name);
            StoreError::Io { path, doing: "to read the file", source }
        })?;
        match decode(&bytes) {
            Ok(found) => Ok(Loaded::Found(Box::new(found))),
            Err(error) => bad(error.into(), Some(&stat)),
        }
    }

    /// Moves what can not be used out of the way, for somebody to look at. `is` is what was read, so that what another
    /// process wrote since then stays. Answers whether it is gone.
    fn set_aside(&self, folder: &Folder, name: &str, is: Option<&Stat>) -> bool {
        let Some(Writable { aside, .. }) = &self.writable else { return false };
        let Ok(now) = folder.stat(name) else { return false };
        let Some(now) = now else { return true };
        if is.is_some_and(|is| (is.st_dev, is.st_ino) != (now.st_dev, now.st_ino)) {
            return true;
        }
        // A folder would not be removed again.
        if FileType::from_raw_mode(now.st_mode) == FileType::Directory {
            return false;
        }
        let is_moved = folder.rename(name, aside, name).is_ok();
        // What is too much stays until the next one comes, or the store is collected.
        let _ = self.bound_aside();
        is_moved
    }

    /// Removes what was set aside first, down to [`ASIDE_FILES_MAX`] and [`ASIDE_BYTES_MAX`].
    pub(crate) fn bound_aside(&self) -> Result<(), StoreError> {
        let Some(Writable { aside, .. }) = &self.writable else { return Ok(()) };
        let mut files = Vec::new();
        for name in aside.names()? {
            if let Some(stat) = aside.stat(&name)? {
                files.push(((stat.st_ctime, stat.st_ctime_nsec), stat.st_size as u64, name));
            }
        }
        files.sort_unstable();
        let (mut count, mut bytes) = (files.len(), files.iter().map(|file| file.1).sum::<u64>());
        for (_, size, name) in files {
            if count <= ASIDE_FILES_MAX && bytes <= ASIDE_BYTES_MAX {
                break;
            }
            aside.remove(&name)?;
            (count, bytes) = (count - 1, bytes - size);
        }
        Ok(())
    }
}

/// Makes the folder of a store, for the user only, and what it lies in.
fn make(path: &Path) -> Result<Folder, StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    let doing = "to make the folder";
    made.map_err(|source| StoreError::Io { path: path.into(), doing, source })?;
    let gone = || StoreError::Io { path: path.into(), doing, source: Errno::NOENT.into() };
    Folder::open(path)?.ok_or_else(gone)
}

/// Whether a store says that it is one; of this format, if it does.
fn check_format(folder: &Folder) -> Result<bool, StoreError> {
    let Some((file, _)) = folder.file(FORMAT_FILE)? else { return Ok(false) };
    let path = folder.path().join(FORMAT_FILE);
    let mut text = String::new();
    match file.take(MARKER_BYTES_MAX).read_to_string(&mut text) {
        // Not text: not a version either.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {}
        Err(source) => return Err(StoreError::Io { path, doing: "to read the file", source }),
        Ok(_) => {}
    }
    let version = text.trim_end().strip_prefix(MARKER).and_then(|text| text.parse::<u32>().ok());
    match version {
        Some(FORMAT) => Ok(true),
        Some(found) if found > FORMAT => Err(StoreError::Newer { path, found }),
        _ => {
            let reason = format!("there is no version this build knows in it, but {text:?}");
            Err(StoreError::NotAStore { path, reason })
        }
    }
}

/// All of a file that had so many bytes.
fn contents(file: File, len: usize) -> io::Result<Vec<u8>> {
    // One more, so that a file that has grown is not taken for what it was.
    let mut bytes = Vec::with_capacity(len + 1);
    file.take(len as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// When a file was used: its time of change, which nothing else sets.
pub(crate) fn used(stat: &Stat) -> SystemTime {
    let since = Duration::new(stat.st_mtime.max(0) as u64, stat.st_mtime_nsec as u32);
    UNIX_EPOCH + since
}

/// Whether what was used then is to be touched. So is what was used in the future: a clock was set back.
fn is_due(used: SystemTime, now: SystemTime) -> bool {
    now.duration_since(used).map_or(true, |ago| ago.as_secs() >= TOUCH_S)
}
