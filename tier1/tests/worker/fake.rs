//! The compiler of these tests: does what the job's bytecode says, as text.

use kiln_abi::{CodeObject, EntryTable, Pc};
use kiln_tier1::worker::{Answer, JobError, JobRequest, Phases};
use rustix::{
    net::{SendFlags, SocketType},
    process::{Resource, Signal, getrlimit},
};
use std::{
    fs,
    io::Write as _,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// What a job is to do, and what with.
pub(super) fn compile(job: &JobRequest, cancelled: &dyn Fn() -> bool) -> Result<Answer, JobError> {
    let text = String::from_utf8_lossy(&job.bytecode);
    let (what, with) = text.split_once(' ').unwrap_or((&text, ""));
    match what {
        "refuse" => Err(JobError::Failed(with.into())),
        "large" => Err(JobError::TooLarge(with.into())),
        "wait" => {
            wait_until(cancelled);
            Err(JobError::Cancelled)
        }
        // Called off, but with an answer.
        "late" => {
            wait_until(cancelled);
            Ok(answer(job))
        }
        // Says where it is, and looks at nothing.
        "hang" => {
            say_pid(with);
            loop {
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        // Says where it is, and asks for all of the deadline.
        "pid" => {
            say_pid(with);
            wait_until(cancelled);
            Ok(answer(job))
        }
        "ask" => {
            let _ = writeln!(std::io::stderr(), "forgotten");
            Err(JobError::Failed(std::process::id().to_string()))
        }
        "abort" => {
            let _ = writeln!(
                std::io::stderr(),
                "the first words{}the last words",
                " chatter ".repeat(4096)
            );
            std::process::abort()
        }
        "panic" => panic!("a panic in the compiler"),
        "recurse" => Err(JobError::Failed(recurse(1).to_string())),
        "exit" => std::process::exit(7),
        "kill" => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
            unreachable!("killed")
        }
        "memory" => {
            let bytes = vec![1u8; with.parse().expect("bytes")];
            Err(JobError::Failed(format!("had {} bytes", bytes.len())))
        }
        "limits" => Err(JobError::Failed(limits())),
        "print" => {
            // As a library in C would, too.
            (0..1000).for_each(|_| write_to_stdout(b"progress: some percent\n"));
            Ok(answer(job))
        }
        "chatter" => {
            // More than any pipe holds.
            let line = [b'.'; 4096];
            (0..1024).for_each(|_| drop(std::io::stderr().write_all(&line)));
            Ok(answer(job))
        }
        "huge" => {
            let mut answer = answer(job);
            answer.objects[0].text.resize(with.parse().expect("bytes"), 0);
            Ok(answer)
        }
        "broken" => {
            let mut answer = answer(job);
            answer.objects[0].records += 1;
            Ok(answer)
        }
        // What a memory error may do to the stream.
        "garbage" => stream(&[0xa5; 4096]),
        "oversized" => stream(&[0xff, 0xff, 0xff, 0xff, 5, 1]),
        "truncated" => stream(&[100, 0, 0, 0, 5, 1, 2, 3]),
        "other" => stream(&[10, 0, 0, 0, 5, 99, 1, 0, 0, 0, 0, 0, 0, 0]),
        _ => Ok(answer(job)),
    }
}

/// Deeper than any stack.
fn recurse(depth: u64) -> u64 {
    let here = std::hint::black_box([depth; 64]);
    match depth {
        0 => 0,
        _ => recurse(depth + 1) + std::hint::black_box(here)[0],
    }
}

/// An object whose parts come from all of the request.
pub(super) fn answer(job: &JobRequest) -> Answer {
    let mut text: Vec<u8> = job.bytecode.iter().rev().copied().collect();
    text.extend(job.config.gas.iter().flat_map(|gas| gas.to_le_bytes()));
    text.extend((0..=255).map(|opcode| u8::from(job.config.replaced.contains(opcode))));
    text.extend(format!("{job:?}").bytes());
    let records = text.len() & !3;
    let mut entries = EntryTable::new(job.bytecode.len(), 1);
    entries.insert(Pc(job.bytecode.len() as u32 - 1), 9, false);
    entries.shrink();
    let object = CodeObject { text, code_len: records, records, entries, blocks: 2 };
    Answer {
        objects: vec![object],
        left_out: 5,
        phases: Phases { analyse_ns: 1, build_ns: 2, optimise_ns: 3, codegen_ns: 4 },
        instructions: job.counts.len() as u64,
        cpu_ns: 0,
    }
}

/// Asks until it is told to give up. The guard is far behind every deadline of these tests.
fn wait_until(cancelled: &dyn Fn() -> bool) {
    let guard = Instant::now() + Duration::from_secs(300);
    while !cancelled() && Instant::now() < guard {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Writes the number of this process, all of it at once.
fn say_pid(path: &str) {
    let unfinished = format!("{path}.unfinished");
    fs::write(&unfinished, std::process::id().to_string()).expect("a file");
    fs::rename(&unfinished, path).expect("its name");
}

fn write_to_stdout(bytes: &[u8]) {
    // Past the buffer of `std`.
    rustix::io::write(rustix::stdio::stdout(), bytes).expect("standard output");
}

/// The limits of this process, one a line.
fn limits() -> String {
    let of = |resource| format!("{:?}", getrlimit(resource).current.is_some());
    let nice = rustix::process::getpriority_process(None).expect("a priority");
    format!(
        "core {:?} memory {} cpu {} nice {nice}",
        getrlimit(Resource::Core).maximum,
        of(Resource::As),
        of(Resource::Cpu)
    )
}

/// Writes to the parent's socket, and ends.
fn stream(bytes: &[u8]) -> ! {
    for fd in 3..64 {
        // SAFETY: whether such a descriptor is open is what the call finds out; none is closed meanwhile.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        if rustix::net::sockopt::socket_type(fd) == Ok(SocketType::STREAM) {
            rustix::net::send(fd, bytes, SendFlags::NOSIGNAL).expect("the parent's socket");
        }
    }
    std::process::exit(0)
}
