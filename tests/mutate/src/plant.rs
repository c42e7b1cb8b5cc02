//! The copy of the sources.
//!
//! **Owns** the folder it lies in. **Callers guarantee** that nobody else writes there. **Never** touches a
//! file that is as it should be: what did not change is not compiled again.

use crate::list::Places;
use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
};
use walkdir::{DirEntry, WalkDir};

/// Folders that no crate is built from.
const LEFT_OUT: [&str; 3] = ["target", "node_modules", ".git"];

/// The copy.
#[derive(Debug)]
pub(crate) struct Copy {
    root: PathBuf,
    folder: PathBuf,
    /// All files, from the root.
    files: HashSet<PathBuf>,
}

impl Copy {
    /// Lists what is to be copied.
    pub(crate) fn new(root: &Path, folder: &Path) -> io::Result<Self> {
        let own = folder.to_owned();
        let is_source = move |entry: &DirEntry| {
            entry.path() != own && !LEFT_OUT.iter().any(|name| entry.file_name() == *name)
        };
        let mut files = HashSet::new();
        for entry in WalkDir::new(root).into_iter().filter_entry(is_source) {
            let entry = entry?;
            if entry.file_type().is_file()
                && let Ok(path) = entry.path().strip_prefix(root)
            {
                files.insert(path.to_owned());
            }
        }
        Ok(Self { root: root.to_owned(), folder: folder.to_owned(), files })
    }

    /// Where the copy is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings the copy up to date, with the faults in their places.
    pub(crate) fn plant(&self, places: &Places) -> io::Result<()> {
        for file in &self.files {
            let mut bytes = fs::read(self.root.join(file))?;
            let planted = file.to_str().and_then(|file| places.get(file));
            for (range, text) in planted.into_iter().flatten().rev() {
                bytes.splice(range.clone(), text.bytes());
            }
            let to = self.folder.join(file);
            if fs::read(&to).ok().as_deref() != Some(&bytes) {
                if let Some(parent) = to.parent() {
                    fs::create_dir_all(parent)?;
                }
                fs::write(&to, bytes)?;
                fs::set_permissions(&to, fs::metadata(self.root.join(file))?.permissions())?;
            }
        }
        self.remove_others()
    }

    /// Removes files that are no sources any more.
    fn remove_others(&self) -> io::Result<()> {
        for entry in WalkDir::new(&self.folder) {
            let entry = entry?;
            if entry.file_type().is_file()
                && let Ok(path) = entry.path().strip_prefix(&self.folder)
                && !self.files.contains(path)
            {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_follows_its_sources() {
        let base = tempfile::tempdir().expect("a folder");
        let (root, folder) = (base.path().join("a"), base.path().join("a/out/copy"));
        fs::create_dir_all(root.join("src")).expect("a folder");
        fs::create_dir_all(root.join("target")).expect("a folder");
        let write = |name: &str, text: &str| fs::write(root.join(name), text).expect("a file");
        write("src/one.rs", "1 + 2 + 3");
        write("src/two.rs", "two");
        write("target/built", "no source");
        let places = [(0..1, "one".to_owned()), (4..5, "two".to_owned())];
        let places = Places::from([("src/one.rs".to_owned(), places.to_vec())]);
        let plant = || Copy::new(&root, &folder).and_then(|copy| copy.plant(&places));
        plant().expect("a copy");
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        assert_eq!(read("src/one.rs").as_deref(), Some("one + two + 3"));
        assert_eq!(read("src/two.rs").as_deref(), Some("two"));
        assert_eq!(read("target/built"), None);
        let before = fs::metadata(folder.join("src/one.rs")).and_then(|data| data.modified());
        fs::remove_file(root.join("src/two.rs")).expect("it was there");
        plant().expect("a copy");
        assert_eq!(read("src/two.rs"), None);
        let after = fs::metadata(folder.join("src/one.rs")).and_then(|data| data.modified());
        assert_eq!(before.expect("a time"), after.expect("a time"), "it was not written again");
    }
}
