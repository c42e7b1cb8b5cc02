//! A store as one stream, to take to another machine.
//!
//! **Owns** the format: a tar archive of what a store has, under the same names, so that one that was unpacked by hand
//! is a store. **Callers guarantee** nothing of what they import: each file is checked as if it were to be used, and
//! what is over a limit, no file of a store, or not what it says is answered with the reason and left out. **Never**
//! writes to a path from an archive: an artifact goes where its key says.

use crate::{
    Artifact, Bad, BadReason, DecodeError, DecodeLimits, FORMAT, Key, Loaded, PROFILE_BYTES_MAX,
    Profile, Store, StoreError,
    store::{ARTIFACTS, ASIDE, FORMAT_FILE, LOCK, MARKER, PROFILE, TEMPORARY},
};
use std::{
    io::{self, Read, Write},
    path::PathBuf,
    time::UNIX_EPOCH,
};
use tar::{Builder, EntryType, Header};

/// Bytes of a path from an archive that are shown.
const PATH_BYTES_MAX: usize = 300;

/// What was taken from one place to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Artifacts.
    pub artifacts: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there was a profile.
    pub has_profile: bool,
    /// What was left out.
    pub bad: Vec<Bad>,
}

impl Store {
    /// Writes an archive of all artifacts of every build, ordered by key, and the profile.
    ///
    /// # Errors
    /// If something can not be read or written.
    pub fn export(&self, writer: impl Write, limits: &DecodeLimits) -> Result<Moved, StoreError> {
        let mut archive = Builder::new(writer);
        let mut moved = Moved::default();
        append(&mut archive, FORMAT_FILE, format!("{MARKER}{FORMAT}\n").as_bytes(), 0)?;
        append_folder(&mut archive, ARTIFACTS)?;
        let mut listed = self.list()?;
        listed.sort_unstable_by_key(|stored| stored.key);
        for stored in listed {
            match self.load(&stored.key, limits)? {
                Loaded::Found(artifact) => {
                    // As it was written: the format has one form for each artifact.
                    let bytes = artifact.encode();
                    let since = stored.used.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let name = format!("{ARTIFACTS}/{}", stored.key);
                    append(&mut archive, &name, &bytes, since.as_secs())?;
                    moved.artifacts += 1;
                    moved.bytes += bytes.len() as u64;
                }
                Loaded::Missing => {}
                Loaded::Bad(bad) => moved.bad.push(bad),
            }
        }
        match self.load_profile()? {
            Loaded::Found(profile) => {
                append(&mut archive, PROFILE, &profile.encode(), 0)?;
                moved.has_profile = true;
            }
            Loaded::Missing => {}
            Loaded::Bad(bad) => moved.bad.push(bad),
        }
        let written = archive.into_inner().and_then(|mut writer| writer.flush());
        written.map_err(|source| StoreError::Archive { doing: "to write the archive", source })?;
        Ok(moved)
    }

    /// Takes in an archive. What it knows of codes is older than what is known here.
    ///
    /// # Errors
    /// If the store can not be written, or the archive is none.
    pub fn import(&self, reader: impl Read, limits: &DecodeLimits) -> Result<Moved, StoreError> {
        self.writable("to import")?;
        let failed = |source| StoreError::Archive { doing: "to read the archive", source };
        let mut archive = tar::Archive::new(reader);
        let mut moved = Moved::default();
        for entry in archive.entries().map_err(failed)? {
            let mut entry = entry.map_err(failed)?;
            let path = entry.path_bytes().into_owned();
            let kind = entry.header().entry_type();
            let taken = match classify(&String::from_utf8_lossy(&path), kind) {
                Entry::Nothing => continue,
                Entry::Unknown => Err(BadReason::Unknown),
                Entry::Artifact(key) => bounded(&mut entry, limits.bytes_max)
                    .map_err(failed)?
                    .and_then(|bytes| Artifact::decode(&bytes, &key, limits))
                    .map(|artifact| Taken::Artifact(Box::new(artifact)))
                    .map_err(Into::into),
                Entry::Profile => bounded(&mut entry, PROFILE_BYTES_MAX)
                    .map_err(failed)?
                    .and_then(|bytes| Profile::decode(&bytes))
                    .map(Taken::Profile)
                    .map_err(Into::into),
            };
            match taken {
                Ok(Taken::Artifact(artifact)) => {
                    moved.bytes += self.save(&artifact)?;
                    moved.artifacts += 1;
                }
                Ok(Taken::Profile(profile)) => {
                    self.merge_profile(|known| {
                        let mut merged = profile;
                        merged.merge(known);
                        merged
                    })?;
                    moved.has_profile = true;
                }
                Err(reason) => {
                    moved.bad.push(Bad { path: shown(&path), reason, set_aside: false });
                }
            }
        }
        Ok(moved)
    }
}

enum Taken {
    Artifact(Box<Artifact>),
    Profile(Profile),
}

/// What an entry of an archive is.
enum Entry {
    Artifact(Key),
    Profile,
    /// A part of a store that says nothing.
    Nothing,
    Unknown,
}

fn classify(path: &str, kind: EntryType) -> Entry {
    // As `tar` writes what it finds in a folder.
    let path = path.strip_prefix("./").unwrap_or(path);
    if kind == EntryType::Directory {
        return match path.trim_end_matches('/') {
            "" | "." | ARTIFACTS | TEMPORARY | ASIDE => Entry::Nothing,
            _ => Entry::Unknown,
        };
    }
    if kind != EntryType::Regular {
        return Entry::Unknown;
    }
    match path.split_once('/') {
        Some((ARTIFACTS, name)) => name.parse().map_or(Entry::Unknown, Entry::Artifact),
        Some((TEMPORARY | ASIDE, _)) => Entry::Nothing,
        None if path == PROFILE => Entry::Profile,
        None if path == FORMAT_FILE || path == LOCK => Entry::Nothing,
        _ => Entry::Unknown,
    }
}

/// All of an entry, if it is not too long.
fn bounded(entry: impl Read, max: usize) -> io::Result<Result<Vec<u8>, DecodeError>> {
    let mut bytes = Vec::new();
    entry.take(max as u64 + 1).read_to_end(&mut bytes)?;
    Ok(DecodeError::limit("bytes", bytes.len() as u64, max).map(|()| bytes))
}

/// A path from an archive, fit to be shown.
fn shown(path: &[u8]) -> PathBuf {
    let text = String::from_utf8_lossy(path);
    let short = &text[..text.floor_char_boundary(PATH_BYTES_MAX)];
    short.escape_debug().to_string().into()
}

fn append(
    archive: &mut Builder<impl Write>,
    path: &str,
    bytes: &[u8],
    mtime_s: u64,
) -> Result<(), StoreError> {
    let mut header = header(EntryType::Regular, 0o600);
    header.set_size(bytes.len() as u64);
    header.set_mtime(mtime_s);
    add(archive, header, path, bytes)
}

fn append_folder(archive: &mut Builder<impl Write>, path: &str) -> Result<(), StoreError> {
    add(archive, header(EntryType::Directory, 0o700), path, &[])
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(0);
    header
}

fn add(
    archive: &mut Builder<impl Write>,
    mut header: Header,
    path: &str,
    bytes: &[u8],
) -> Result<(), StoreError> {
    archive
        .append_data(&mut header, path, bytes)
        .map_err(|source| StoreError::Archive { doing: "to write the archive", source })
}
