//! A digest of a crate's sources, so that what two builds made can be told apart where their versions are equal.
//!
//! **Owns** the digest: FNV-1a with 128 bits over all files of `src`, with their paths.
//!
//! **Callers guarantee** that they are build scripts: [`emit`] reads what cargo tells those, and answers on the
//! standard output.
//!
//! **Never** defends against sources made to collide: it tells builds apart, it does not vouch for them.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "that is how a build script answers")]

use std::{
    env, fmt, fs, io,
    path::{Path, PathBuf},
};

/// Prints what makes `env!("SOURCE_DIGEST")` the digest of this package's `src`, 32 hexadecimal digits, and makes
/// cargo ask again when a file in there changes. All that a `build.rs` needs to do.
///
/// # Errors
///
/// What reading `src` answers; and if cargo does not say where the package is.
pub fn emit() -> io::Result<()> {
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .ok_or_else(|| io::Error::other("CARGO_MANIFEST_DIR is not set: not a build script"))?;
    println!("cargo:rerun-if-changed=src");
    println!("cargo:rustc-env=SOURCE_DIGEST={}", digest(&Path::new(&package).join("src"))?);
    Ok(())
}

/// 128 bits. `Display` is 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u128);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The digest of all files below `folder`. It depends on their contents and on their paths below it, not on where it
/// is, the order in which the file system lists them, or times.
///
/// # Errors
///
/// What reading a folder or a file answers.
pub fn digest(folder: &Path) -> io::Result<Digest> {
    let mut files = Vec::new();
    list(folder, "", &mut files)?;
    files.sort();
    let mut hash = Fnv::new();
    for (name, path) in files {
        hash.field(name.as_bytes());
        hash.field(&fs::read(path)?);
    }
    Ok(Digest(hash.0))
}

/// Names with `/` between their parts, whatever the host has there.
fn list(folder: &Path, prefix: &str, files: &mut Vec<(String, PathBuf)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), files)?;
        } else {
            files.push((name, entry.path()));
        }
    }
    Ok(())
}

/// FNV-1a with 128 bits (RFC 9923).
struct Fnv(u128);

impl Fnv {
    const fn new() -> Self {
        Self(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d)
    }

    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u128::from(byte)).wrapping_mul(0x100_0000_0000_0000_0000_013b);
        }
    }

    /// With its length, so that bytes do not move from one field to the next unnoticed.
    fn field(&mut self, bytes: &[u8]) {
        self.add(&(bytes.len() as u64).to_le_bytes());
        self.add(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 9923 and of the reference implementation.
    #[test]
    fn hashes_as_published() {
        let hash = |bytes: &[u8]| {
            let mut hash = Fnv::new();
            hash.add(bytes);
            hash.0
        };
        assert_eq!(hash(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(hash(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(hash(b"foobar"), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }

    fn written(files: &[(&str, &str)]) -> io::Result<Digest> {
        let folder = tempfile::tempdir()?;
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().ok_or(io::ErrorKind::InvalidInput)?)?;
            fs::write(path, text)?;
        }
        digest(folder.path())
    }

    #[test]
    fn depends_on_names_and_contents_only() -> io::Result<()> {
        let digest = written(&[("a.rs", "1"), ("b/c.rs", "2")])?;
        assert_eq!(digest, written(&[("b/c.rs", "2"), ("a.rs", "1")])?);
        for other in [
            &[("a.rs", "1"), ("b/c.rs", "3")][..],
            &[("a.rs", "1"), ("b/d.rs", "2")],
            &[("a.rs", "1"), ("b.rs", "2")],
            &[("a.rs", "2"), ("b/c.rs", "1")],
            &[("a.rs", "12"), ("b/c.rs", "")],
            &[("a.rs", "1")],
        ] {
            assert_ne!(digest, written(other)?, "{other:?}");
        }
        assert_eq!(digest.to_string().len(), 32);
        Ok(())
    }

    #[test]
    fn a_missing_folder_is_an_error() {
        assert!(digest(Path::new("/nowhere/src")).is_err());
    }
}
