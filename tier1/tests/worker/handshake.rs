//! Executables that are no workers, or the wrong ones.

use crate::process::{Test, assert_serves, config, job, never, script, this};
use kiln_tier1::worker::{Executable, Pool, PoolConfig, WorkerError};
use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

const VARIABLE: &str = "KILN_TEST_HANDSHAKE";
/// Where in a hello its protocol version lies: behind length, tag and magic.
const PROTOCOL_AT: usize = 4 + 1 + 8;

pub(super) fn tests() -> Vec<Test> {
    vec![
        ("no_executable", no_executable),
        ("a_child_that_exits_at_once", a_child_that_exits_at_once),
        ("a_child_that_is_something_else", a_child_that_is_something_else),
        ("a_child_that_says_nothing", a_child_that_says_nothing),
        ("a_child_that_is_slow", a_child_that_is_slow),
        ("called_off_before_there_is_a_worker", called_off_before_there_is_a_worker),
        ("another_protocol", another_protocol),
        ("another_build", another_build),
        ("a_parent_of_another_build", a_parent_of_another_build),
        ("a_closed_stream_ends_the_child", a_closed_stream_ends_the_child),
    ]
}

/// Started as a worker with the variable set, this executable does something else.
pub(super) fn misbehave() -> Option<ExitCode> {
    let what = std::env::var(VARIABLE).ok()?;
    if what == "slow" {
        std::thread::sleep(Duration::from_millis(300));
        return None;
    }
    let socket = rustix::io::dup(rustix::stdio::stdin()).expect("the socket");
    let mut socket = UnixStream::from(socket);
    let mut hello = read_frame(&mut socket);
    // The parent's hello, sent back, is that of a worker of the same build.
    match what.as_str() {
        "protocol" => hello[PROTOCOL_AT] += 1,
        // The last byte is of the mask of CPU features, and the highest that is not 0.
        "cpu" => *hello.last_mut().expect("a byte") ^= 1,
        // The version's first character follows the number of them.
        "version" => hello[PROTOCOL_AT + 5] ^= 1,
        _ => return Some(ExitCode::FAILURE),
    }
    socket.write_all(&hello).expect("the parent");
    Some(ExitCode::SUCCESS)
}

fn read_frame(socket: &mut UnixStream) -> Vec<u8> {
    let mut frame = vec![0; 4];
    socket.read_exact(&mut frame).expect("a length");
    let len = u32::from_le_bytes(frame[..].try_into().expect("four bytes"));
    frame.resize(4 + len as usize, 0);
    socket.read_exact(&mut frame[4..]).expect("a payload");
    frame
}

/// A pool whose workers do something else.
fn pool_of(text: &str) -> (Pool, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let executable = script(&folder, text);
    (Pool::new(PoolConfig { executable, ..config() }), folder)
}

fn misbehaving(what: &str) -> (Pool, tempfile::TempDir) {
    pool_of(&format!("{VARIABLE}={what} exec '{}' \"$@\"", this().display()))
}

fn fail(pool: &Pool) -> WorkerError {
    let error = pool.compile(&job("anything"), &never).expect_err("no answer");
    assert_eq!((pool.stats().started, pool.stats().failed), (0, 1));
    error
}

fn why(error: WorkerError) -> String {
    match error {
        WorkerError::Handshake { why } => why,
        other => panic!("{other:?}"),
    }
}

fn no_executable() {
    let executable = Executable::Path(PathBuf::from("/no/such/worker"));
    let error = fail(&Pool::new(PoolConfig { executable, ..config() }));
    assert!(matches!(error, WorkerError::Spawn(why) if why.kind() == std::io::ErrorKind::NotFound));
}

fn a_child_that_exits_at_once() {
    let why = why(fail(&pool_of("echo 'no such library' >&2; exit 3").0));
    assert!(why.contains("exit status: 3") && why.contains("no such library"), "{why}");
}

fn a_child_that_is_something_else() {
    // It finds its standard input to be a socket, and writes to it.
    let why = why(fail(&pool_of("echo 'Usage: something else entirely' >&0").0));
    assert!(why.contains("bytes"), "{why}");
}

fn a_child_that_says_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let executable = script(&folder, "exec sleep 1000");
    let pool = Pool::new(PoolConfig { executable, handshake_ms_max: 50, ..config() });
    let why = why(fail(&pool));
    assert!(why.contains("in time"), "{why}");
}

fn a_child_that_is_slow() {
    let (pool, _folder) = misbehaving("slow");
    assert_serves(&pool);
}

fn called_off_before_there_is_a_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let executable = script(&folder, "echo > \"$0.started\"; exec sleep 1000");
    let started = folder.path().join("worker.started");
    let pool = Pool::new(PoolConfig { executable, handshake_ms_max: 600_000, ..config() });
    let error = pool.compile(&job("anything"), &|| started.exists()).expect_err("called off");
    assert!(matches!(error, WorkerError::Cancelled), "{error:?}");
    assert_eq!(pool.stats().failed, 0);
}

fn another_protocol() {
    match fail(&misbehaving("protocol").0) {
        WorkerError::Version { ours, theirs } => {
            assert!(ours.contains("protocol") && theirs.contains("protocol"));
        }
        other => panic!("{other:?}"),
    }
}

fn another_build() {
    for what in ["cpu", "version"] {
        match fail(&misbehaving(what).0) {
            WorkerError::Version { ours, theirs } => assert!(!ours.contains(&theirs)),
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// Starts this executable as a worker by hand.
fn start() -> (std::process::Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket");
    let child = std::process::Command::new(this())
        .arg(kiln_tier1::worker::ARGUMENT)
        .stdin(std::process::Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .stderr(File::create("/dev/null").expect("nowhere"))
        .spawn()
        .expect("a worker");
    assert!(
        rustix::io::fcntl_getfd(ours.as_fd())
            .expect("flags")
            .contains(rustix::io::FdFlags::CLOEXEC)
    );
    (child, ours)
}

fn a_parent_of_another_build() {
    let hello = {
        // A worker's own hello, as of another protocol.
        let mut hello = vec![1];
        hello.extend(b"kiln-t1\n");
        hello.extend(77u32.to_le_bytes());
        let mut frame = (hello.len() as u32).to_le_bytes().to_vec();
        frame.extend(hello);
        frame
    };
    let (mut child, mut socket) = start();
    socket.write_all(&hello).expect("a worker");
    // It says which build it is, and ends.
    let answer = read_frame(&mut socket);
    assert_eq!(answer[5..PROTOCOL_AT], *b"kiln-t1\n");
    assert_eq!(child.wait().expect("a status").code(), Some(1));
    // Bytes that are no frame, and one that is none of the protocol.
    for garbage in [vec![0xff; 64], vec![1, 0, 0, 0, 9]] {
        let (mut child, mut socket) = start();
        socket.write_all(&garbage).expect("a worker");
        assert_eq!(child.wait().expect("a status").code(), Some(1));
    }
}

fn a_closed_stream_ends_the_child() {
    let (mut child, socket) = start();
    drop(socket);
    assert_eq!(child.wait().expect("a status").code(), Some(0));
}
