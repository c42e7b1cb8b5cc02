//! What is not the user's own store is refused, and what can not be written is an error that says so.

mod support;

use fastrand::Rng;
use kiln_store::{
    Access, Artifact, BadReason, CollectPlan, Digest, Loaded, Profile, Store, StoreError,
};
use rustix::fs::Mode;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::SystemTime,
};
use support::{CHILD, LIMITS, artifact, artifact_of, asked, child, file, names, store};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("to set the mode");
}

/// Opening it either way fails, and the error names this path and has these words.
fn refused(store: &Path, path: &Path, words: &[&str]) {
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let error = Store::open(store, access).expect_err("it should be refused").to_string();
        assert!(error.starts_with(&format!("{}: ", path.display())), "{access:?}: {error}");
        assert!(words.iter().all(|word| error.contains(word)), "{access:?}: {error}");
    }
}

#[test]
fn a_store_is_made_for_its_user_only() {
    let (_folder, store) = store();
    store.save(&artifact(&mut Rng::with_seed(1))).expect("to write");
    store.save_profile(&Profile::default()).expect("to write");
    let mut modes = BTreeMap::new();
    for path in tree(store.path()).into_keys() {
        let mode = fs::metadata(&path).expect("its state").permissions().mode() & 0o777;
        assert_eq!(mode, if path.is_dir() { 0o700 } else { 0o600 }, "{}", path.display());
        modes.insert(path, mode);
    }
    // The folder, five in it, and the artifact; and `lock`.
    assert_eq!(modes.len(), 8, "{modes:?}");
}

/// Everything below a path, with times and contents.
fn tree(path: &Path) -> BTreeMap<PathBuf, (SystemTime, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut open = vec![path.to_path_buf()];
    while let Some(path) = open.pop() {
        let state = fs::symlink_metadata(&path).expect("its state");
        if state.is_dir() {
            let files = fs::read_dir(&path).expect("to list");
            open.extend(files.map(|file| file.expect("a file").path()));
        }
        let contents = if state.is_file() { fs::read(&path).expect("to read") } else { Vec::new() };
        found.insert(path, (state.modified().expect("a time"), contents));
    }
    found
}

#[test]
fn what_others_may_write_is_refused() {
    let (_folder, store) = store();
    let path = store.path();
    for mode in [0o770, 0o775, 0o707, 0o777, 0o1777] {
        set_mode(path, mode);
        refused(path, path, &["for others to write", &format!("mode {mode:04o};")]);
    }
    set_mode(path, 0o755);
    for (name, mode) in [("format", 0o600), ("artifacts", 0o700)] {
        let inner = path.join(name);
        set_mode(&inner, mode | 0o020);
        refused(
            path,
            &inner,
            &["for others to write", &format!("should be mode {mode:04o} at most")],
        );
        set_mode(&inner, mode);
    }
    Store::open(path, Access::ReadWrite).expect("the store");
    // Of what is only written a read-only store needs nothing.
    set_mode(&path.join("tmp"), 0o777);
    Store::open(path, Access::ReadOnly).expect("the store");
    let error = Store::open(path, Access::ReadWrite).expect_err("it should be refused");
    assert!(error.to_string().starts_with(&path.join("tmp").display().to_string()), "{error}");
    assert!(error.is_lasting());
}

#[test]
fn what_is_another_users_is_refused() {
    // Where files can not be given away, the check itself is tested: see `folder`.
    if !is_root() {
        return assert_ne!(rustix::process::geteuid().as_raw(), 0);
    }
    let (_folder, store) = store();
    let path = store.path();
    let key = artifact(&mut Rng::with_seed(1)).key;
    let give = |path: &Path, user| std::os::unix::fs::chown(path, Some(user), None).expect("chown");
    for inner in [path.to_path_buf(), path.join("format"), path.join("artifacts")] {
        give(&inner, 65534);
        refused(path, &inner, &["owned by user 65534", "owned by user 0, as which this process"]);
        give(&inner, 0);
    }
    fs::write(file(&store, &key), b"x").expect("to write");
    give(&file(&store, &key), 65534);
    let loaded = store.load(&key, &LIMITS).expect("to read");
    let Loaded::Bad(bad) = loaded else { panic!("it was not refused") };
    assert!(bad.to_string().contains("owned by user 65534") && bad.set_aside, "{bad}");
}

#[test]
fn a_link_or_anything_else_in_the_place_of_a_folder_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().join("real");
    Store::open(&real, Access::ReadWrite).expect("a store");
    let link = folder.path().join("link");
    symlink(&real, &link).expect("a link");
    let words = ["a symbolic link", "should be a folder"];
    refused(&link, &link, &words);
    // Behind a slash it would be followed.
    refused(&link.join(""), &link, &words);
    refused(&link.join("."), &link, &words);
    let plain = folder.path().join("plain");
    fs::write(&plain, b"").expect("a file");
    refused(&plain, &plain, &["a regular file", "should be a folder"]);

    let artifacts = real.join("artifacts");
    fs::remove_dir(&artifacts).expect("to remove it");
    symlink(folder.path(), &artifacts).expect("a link");
    refused(&real, &artifacts, &words);
    fs::remove_file(&artifacts).expect("to remove it");
    fs::create_dir(&artifacts).expect("a folder");
    let format = real.join("format");
    fs::rename(&format, folder.path().join("format")).expect("to move it");
    symlink(folder.path().join("format"), &format).expect("a link");
    refused(&real, &format, &["a symbolic link", "should be a regular file"]);
}

#[test]
fn a_file_that_is_not_trusted_is_set_aside() {
    let (folder, store) = store();
    let mut rng = Rng::with_seed(2);
    let artifact = artifact(&mut rng);
    let path = file(&store, &artifact.key);
    let good = folder.path().join("good");
    fs::write(&good, artifact.encode()).expect("to write");
    let set_aside = |words: &str| {
        let loaded = store.load(&artifact.key, &LIMITS).expect("to read");
        let Loaded::Bad(bad) = loaded else { panic!("it was not refused: {words}") };
        assert!(matches!(bad.reason, BadReason::Refused(_)) && bad.set_aside, "{bad}");
        assert!(bad.to_string().contains(words) && bad.path == path, "{bad}");
        assert!(store.load(&artifact.key, &LIMITS).expect("to read") == Loaded::Missing);
    };
    symlink(&good, &path).expect("a link");
    set_aside("a symbolic link");
    assert!(good.exists());
    fs::copy(&good, &path).expect("to copy");
    set_mode(&path, 0o666);
    set_aside("for others to write, mode 0666; it should be mode 0644 at most");
    // Opening it would wait for somebody who writes.
    let made = Command::new("mkfifo").arg(&path).status().expect("mkfifo");
    assert!(made.success());
    set_aside("a pipe");
    // A folder stays: it could not be removed again.
    fs::create_dir(&path).expect("a folder");
    let loaded = store.load(&artifact.key, &LIMITS).expect("to read");
    assert!(matches!(loaded, Loaded::Bad(bad) if !bad.set_aside));
    assert!(store.list().expect("to list").is_empty());
    store.collect(&CollectPlan::new(0, Digest::default()), &|| false).expect("to collect");
}

#[test]
fn what_is_no_store_is_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    let nothing = path.join("nothing");
    let error = Store::open(&nothing, Access::ReadOnly).expect_err("there is none");
    assert!(error.to_string().contains("nothing: it is not a store"), "{error}");
    assert!(!nothing.exists());
    fs::write(path.join("thesis.tex"), b"").expect("to write");
    refused(path, path, &["it is not a store", "no file `format`"]);
    assert_eq!(fs::read_dir(path).expect("to list").count(), 1);
}

#[test]
fn a_store_of_another_version_is_refused() {
    let (_folder, store) = store();
    let path = store.path();
    let format = path.join("format");
    assert_eq!(fs::read(&format).expect("to read"), b"kiln store 1\n");
    fs::write(&format, b"kiln store 2\n").expect("to write");
    refused(path, &format, &["the store is of format 2", "this build knows 1"]);
    for text in
        [&b""[..], b"kiln store 0\n", b"kiln store", b"kiln store 99999999999\n", &[0xff; 99]]
    {
        fs::write(&format, text).expect("to write");
        refused(path, &format, &["it is not a store", "no version this build knows"]);
    }
}

#[test]
fn what_a_killed_process_began_is_made_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    for made in [&[][..], &["artifacts"], &["artifacts", "tmp"], &["artifacts", "tmp", "aside"]] {
        let path = folder.path().join(made.len().to_string());
        fs::create_dir(&path).expect("a folder");
        set_mode(&path, 0o700);
        for name in made {
            fs::create_dir(path.join(name)).expect("a folder");
        }
        let error = Store::open(&path, Access::ReadOnly).expect_err("it is not one yet");
        assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
        Store::open(&path, Access::ReadWrite).expect("a store");
        Store::open(&path, Access::ReadOnly).expect("a store");
    }
}

#[test]
fn several_may_make_the_same_store() {
    let folder = tempfile::tempdir().expect("a folder");
    for round in 0..50 {
        let path = folder.path().join(round.to_string());
        let open = || Store::open(&path, Access::ReadWrite).and_then(|store| store.keys());
        let answers: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    }
}

#[test]
fn a_read_only_store_changes_nothing() {
    let (_folder, writer) = store();
    let mut rng = Rng::with_seed(3);
    let good = artifact(&mut rng);
    let bad = artifact(&mut rng);
    writer.save(&good).expect("to write");
    fs::write(file(&writer, &bad.key), b"kilnart\nx").expect("to write");
    fs::write(writer.path().join("profile"), b"kilnprf\nx").expect("to write");
    let before = tree(writer.path());
    let store = Store::open(writer.path(), Access::ReadOnly).expect("the store");
    assert!(store.load(&good.key, &LIMITS).expect("to read").found() == Some(good.clone()));
    let is_kept = |bad: &kiln_store::Bad| !bad.set_aside;
    assert!(matches!(store.load(&bad.key, &LIMITS), Ok(Loaded::Bad(bad)) if is_kept(&bad)));
    assert!(matches!(store.load_profile(), Ok(Loaded::Bad(bad)) if is_kept(&bad)));
    let verified = store.verify(&LIMITS, &|| false).expect("to read");
    assert_eq!((verified.good, verified.bad.len(), verified.is_done), (1, 1, true));
    let plan = CollectPlan::new(0, Digest::default());
    for error in [
        store.save(&good).map(drop),
        store.save_profile(&Profile::default()).map(drop),
        store.touch(&good.key).map(drop),
        store.remove(&good.key).map(drop),
        store.collect(&plan, &|| false).map(drop),
        store.clear().map(drop),
        store.import(&[][..], &LIMITS).map(drop),
    ] {
        let error = error.expect_err("it is read-only");
        assert!(matches!(error, StoreError::ReadOnly { .. }) && error.is_lasting(), "{error}");
        assert!(error.to_string().starts_with(&store.path().display().to_string()), "{error}");
    }
    assert!(tree(writer.path()) == before);
}

/// A file system of its own, while it lives.
struct Mounted(PathBuf);

impl Mounted {
    /// None where that is not to be had.
    fn new(at: &Path, bytes: usize) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let options = format!("size={bytes},mode=700");
        let mut mount = Command::new("mount");
        let output = mount.args(["-t", "tmpfs", "-o", &options, "none"]).arg(at).output();
        output.is_ok_and(|output| output.status.success()).then(|| Self(at.into()))
    }

    fn make_read_only(&self) {
        let output = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).output();
        assert!(output.is_ok_and(|output| output.status.success()));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Saves until it fails. What was saved before is there, and nothing else.
fn fill(store: &Store) -> StoreError {
    let mut rng = Rng::with_seed(4);
    let mut saved: Vec<Artifact> = Vec::new();
    let error = loop {
        let artifact = artifact_of(&mut rng, Digest::default(), 20_000);
        match store.save(&artifact) {
            Ok(_) => saved.push(artifact),
            Err(error) => break error,
        }
        assert!(saved.len() < 100, "it is never full");
    };
    for artifact in &saved {
        assert!(
            store.load(&artifact.key, &LIMITS).expect("to read").found().as_ref() == Some(artifact)
        );
    }
    assert_eq!(store.keys().expect("to list").len(), saved.len());
    assert!(names(store, "tmp").is_empty() && names(store, "aside").is_empty());
    assert!(error.to_string().contains(&store.path().join("tmp").display().to_string()), "{error}");
    error
}

#[test]
fn a_full_disk_is_an_error_that_lasts() {
    let folder = tempfile::tempdir().expect("a folder");
    // Elsewhere the limit on a file's size stands for it.
    let Some(_mounted) = Mounted::new(folder.path(), 512 << 10) else {
        return assert!(Store::open(folder.path(), Access::ReadWrite).is_ok());
    };
    let store = Store::open(folder.path().join("store"), Access::ReadWrite).expect("a store");
    let error = fill(&store);
    assert!(error.is_lasting() && error.to_string().contains("No space left"), "{error}");
    // It can still be collected, and then there is room.
    store.collect(&CollectPlan::new(100_000, Digest::default()), &|| false).expect("to collect");
    let artifact = artifact(&mut Rng::with_seed(5));
    store.save(&artifact).expect("there is room again");
}

#[test]
fn a_file_over_the_limit_of_the_process_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    // In units of 512 or 1024 bytes; without the signal, so that it is an error.
    let script = "trap '' XFSZ; ulimit -f 100; exec \"$@\"";
    let child = child("over_the_limit_of_this_process");
    let status = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(child.get_program())
        .args(child.get_args())
        .env(CHILD, folder.path().join("store"))
        .stdout(std::process::Stdio::null())
        .status();
    assert!(status.expect("a shell").success());
    let store = Store::open(folder.path().join("store"), Access::ReadOnly).expect("the store");
    assert_eq!(store.keys().expect("to list").len(), 1);
}

/// The child of the test above.
#[test]
fn over_the_limit_of_this_process() {
    let own = tempfile::tempdir().expect("a folder");
    let path = asked();
    let store =
        Store::open(path.as_deref().unwrap_or(own.path()), Access::ReadWrite).expect("a store");
    let mut rng = Rng::with_seed(6);
    let small = artifact_of(&mut rng, Digest::default(), 10_000);
    store.save(&small).expect("it is small enough");
    let large = artifact_of(&mut rng, Digest::default(), 200_000);
    let saved = store.save(&large);
    assert_eq!(saved.is_err(), path.is_some());
    let error = saved.err().map(|error| (error.is_lasting(), error.to_string()));
    assert!(error.is_none_or(|(lasts, text)| !lasts && text.contains("File too large")));
    assert!(names(&store, "tmp").is_empty());
    assert!(store.load(&small.key, &LIMITS).expect("to read").found() == Some(small));
}

#[test]
fn where_nothing_can_be_written_is_an_error_that_lasts() {
    let folder = tempfile::tempdir().expect("a folder");
    let mounted = Mounted::new(folder.path(), 1 << 20);
    let path = folder.path().join("store");
    let mut rng = Rng::with_seed(7);
    let (good, bad) = (artifact(&mut rng), artifact(&mut rng));
    let store = Store::open(&path, Access::ReadWrite).expect("a store");
    store.save(&good).expect("to write");
    fs::write(file(&store, &bad.key), b"").expect("to write");
    match &mounted {
        Some(mounted) => mounted.make_read_only(),
        None => ["tmp", "artifacts"].into_iter().for_each(|name| set_mode(&path.join(name), 0o500)),
    }
    // Root may write whatever the modes say.
    let is_checked = mounted.is_some() || !is_root();
    for store in [&store, &Store::open(&path, Access::ReadWrite).expect("the store")] {
        assert!(store.load(&good.key, &LIMITS).expect("to read").found().as_ref() == Some(&good));
        let saved = store.save(&bad);
        assert_eq!(saved.as_ref().is_err_and(StoreError::is_lasting), is_checked, "{saved:?}");
    }
    let loaded = store.load(&bad.key, &LIMITS).expect("to read");
    assert!(!is_checked || matches!(loaded, Loaded::Bad(bad) if !bad.set_aside));
    ["tmp", "artifacts"].into_iter().for_each(|name| {
        let _ = rustix::fs::chmod(path.join(name), Mode::RWXU);
    });
}

#[test]
fn a_folder_that_is_gone_is_an_error_that_lasts() {
    let (_folder, store) = store();
    let artifact = artifact(&mut Rng::with_seed(8));
    fs::remove_dir_all(store.path()).expect("to remove it");
    let error = store.save(&artifact).expect_err("there is no folder");
    assert!(error.is_lasting(), "{error}");
    assert!(store.load(&artifact.key, &LIMITS).expect("to read") == Loaded::Missing);
}

#[test]
fn what_was_used_lately_is_not_touched_again() {
    let (_folder, store) = store();
    let artifact = artifact(&mut Rng::with_seed(9));
    assert_eq!(store.touch(&artifact.key).ok(), Some(false));
    store.save(&artifact).expect("to write");
    assert_eq!(store.touch(&artifact.key).ok(), Some(false));
    let path = file(&store, &artifact.key);
    let age = |seconds| {
        let then = SystemTime::now() - std::time::Duration::from_secs(seconds);
        fs::File::open(&path).and_then(|file| file.set_modified(then)).expect("to set its time");
    };
    age(3500);
    assert_eq!(store.touch(&artifact.key).ok(), Some(false));
    age(3700);
    let before = store.list().expect("to list")[0].used;
    assert_eq!(store.touch(&artifact.key).ok(), Some(true));
    assert!(store.list().expect("to list")[0].used > before);
    assert_eq!(store.touch(&artifact.key).ok(), Some(false));
}
