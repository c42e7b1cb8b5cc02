//! The child's side: serves one job after the other until its parent is gone.
//!
//! **Owns** the process: its standard streams, its limits, its end. **Callers guarantee** that
//! [`serve_if_worker`] is called before anything else used standard input. **Never** goes on with a stream
//! that is not in order, or after a panic.

use super::{
    ARGUMENT, Answer, JobError, JobRequest,
    assembler::Assembler,
    executable,
    limits::limit_cpu,
    regions::thread_cpu_ns,
    wire::{self, HELLO_BYTES_MAX, Hello, ToWorker, WireError},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
    process::Signal,
};
use std::{
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use thiserror::Error;

/// Bytes of stack a job has. LLVM recurses.
const STACK_BYTES: usize = 32 << 20;
/// Bytes of one message, whatever the parent wants.
const MESSAGE_BYTES_MAX: usize = 1 << 30;
/// Between two looks whether a job is left of a parent that is gone.
const ORPHAN_POLL: Duration = Duration::from_millis(20);
/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;

/// Why a worker gives up. It goes to standard error, which the parent reads.
#[derive(Debug, Error)]
pub(super) enum ServeError {
    #[error("the parent's stream: {0}")]
    Stream(#[from] Errno),
    #[error("from the parent: {0}")]
    Wire(#[from] WireError),
    #[error("no limit on {what}: {source}")]
    Limit { what: &'static str, source: io::Error },
    #[error("the parent is of another build")]
    Version,
}

/// Makes this process a worker, if it was started as one: serves jobs until the parent is gone, and exits.
/// Else returns at once, and workers of this process can be started from its own executable
/// ([`super::Executable::find`]).
///
/// To be called first thing in `main`: before anything reads standard input, starts a thread, or looks at
/// the arguments. `compile` is called for one job at a time, always on the same thread, which has 32 MiB of
/// stack. It asks its second argument often whether to give up: that is so when the time is over, the job was
/// called off, or the parent is gone. What it prints goes to standard error. If it panics, the process ends:
/// nothing is known of the state it left.
pub fn serve_if_worker<F>(compile: F)
where
    F: FnMut(&JobRequest, &dyn Fn() -> bool) -> Result<Answer, JobError> + Send + 'static,
{
    if std::env::args_os().nth(1).is_some_and(|argument| argument == ARGUMENT) {
        serve(compile)
    }
    executable::register();
}

fn serve<F>(compile: F) -> !
where
    F: FnMut(&JobRequest, &dyn Fn() -> bool) -> Result<Answer, JobError> + Send + 'static,
{
    let channel = match take_streams() {
        Ok(channel) => Arc::new(channel),
        Err(errno) => fail(&errno.into()),
    };
    // Only a name for tools.
    let _ = rustix::thread::set_name(c"kiln-tier1");
    let busy = Arc::new(AtomicBool::new(false));
    let server = Server {
        channel: Arc::clone(&channel),
        inbox: Assembler::new(HELLO_BYTES_MAX),
        answer_bytes_max: 0,
        busy: Arc::clone(&busy),
    };
    let thread = std::thread::Builder::new().name("kiln-tier1-jobs".into()).stack_size(STACK_BYTES);
    match thread.spawn(move || server.run(compile)) {
        Ok(_) => watch(&channel, &busy),
        Err(source) => fail(&ServeError::Limit { what: "threads", source }),
    }
}

/// Takes the parent's socket away from standard input, so that nothing else reads it, and what is printed
/// goes to standard error.
fn take_streams() -> Result<OwnedFd, Errno> {
    let channel = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(channel)
}

/// Ends the process when the parent is gone and a job is still running.
fn watch(channel: &OwnedFd, busy: &AtomicBool) -> ! {
    loop {
        // Without events it waits for the other end to be closed.
        let hung_up = poll(&mut [PollFd::new(channel, PollFlags::empty())], None);
        // Acquire: pairs with the release in `Server::run`; nothing else is read.
        if hung_up.is_ok() && busy.load(Ordering::Acquire) {
            // Not `exit`: destructors of libraries would run beside the job.
            let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
        }
        // Without a job the other thread finds the end of the stream.
        std::thread::sleep(ORPHAN_POLL);
    }
}

fn fail(error: &ServeError) -> ! {
    // If no one reads it there is no one to tell.
    let _ = writeln!(io::stderr(), "{error}");
    std::process::exit(1)
}

struct Server {
    channel: Arc<OwnedFd>,
    inbox: Assembler,
    answer_bytes_max: usize,
    /// Whether a job is running.
    busy: Arc<AtomicBool>,
}

impl Server {
    fn run<F>(mut self, compile: F) -> !
    where
        F: FnMut(&JobRequest, &dyn Fn() -> bool) -> Result<Answer, JobError>,
    {
        match catch_unwind(AssertUnwindSafe(|| self.greet().and_then(|()| self.jobs(compile)))) {
            Ok(Ok(())) => std::process::exit(0),
            Ok(Err(error)) => fail(&error),
            // The hook said why.
            Err(_) => std::process::exit(PANICKED),
        }
    }

    /// The hello is sent last: who gets it has a worker with all limits set.
    fn greet(&mut self) -> Result<(), ServeError> {
        let Some(hello) = self.receive()? else { return Ok(()) };
        let ours = super::identity();
        let theirs = wire::decode_hello(&hello)?;
        let is_same = matches!(theirs, Hello::Same(theirs) if theirs == *ours);
        if is_same {
            let Some(confine) = self.receive()? else { return Ok(()) };
            let confine = wire::decode_confine(&confine)?;
            confine.apply()?;
            let size = |bytes: u64| MESSAGE_BYTES_MAX.min(bytes.try_into().unwrap_or(usize::MAX));
            self.answer_bytes_max = size(confine.answer_bytes_max);
            self.inbox.set_max(size(confine.request_bytes_max));
        }
        // Also to one of another build: it is to know which one this is.
        self.send(&wire::encode_hello(ours)?)?;
        if is_same { Ok(()) } else { Err(ServeError::Version) }
    }

    fn jobs<F>(&mut self, mut compile: F) -> Result<(), ServeError>
    where
        F: FnMut(&JobRequest, &dyn Fn() -> bool) -> Result<Answer, JobError>,
    {
        let mut last = None;
        while let Some(message) = self.receive()? {
            let (id, request) = match wire::decode_to_worker(&message)? {
                ToWorker::Job(id, request) => (id, request),
                // It was answered before the parent said so.
                ToWorker::Cancel(id) if last == Some(id) => continue,
                ToWorker::Cancel(_) => return Err(WireError::Malformed("no such job").into()),
            };
            last = Some(id);
            limit_cpu(request.deadline_ms)?;
            // Release: pairs with the acquire in `watch`.
            self.busy.store(true, Ordering::Release);
            let (until, cpu) = (deadline(&request), thread_cpu_ns());
            let mut result =
                compile(&request, &|| Instant::now() >= until || is_readable(&self.channel));
            if let Ok(answer) = &mut result {
                answer.cpu_ns = thread_cpu_ns().saturating_sub(cpu);
            }
            let answer = self.encode(id, &request, &result)?;
            self.send(&answer)?;
            // Release: as above.
            self.busy.store(false, Ordering::Release);
        }
        Ok(())
    }

    /// What the parent would not take is a refusal: the worker is in order.
    fn encode(
        &self,
        id: u64,
        request: &JobRequest,
        result: &Result<Answer, JobError>,
    ) -> Result<Vec<u8>, WireError> {
        let max = self.answer_bytes_max;
        let encoded = wire::encode_answer(id, result, max);
        let checked = encoded.and_then(|frame| {
            // What it says does not matter, only that it can be read.
            let _ = wire::decode_answer(&frame[wire::HEADER..], (id, request), max)?;
            Ok(frame)
        });
        checked.or_else(|error| {
            let error = match &error {
                WireError::TooLong { .. } | WireError::Limit { .. } => {
                    JobError::TooLarge(error.to_string())
                }
                _ => JobError::Failed(error.to_string()),
            };
            wire::encode_answer(id, &Err(error), max)
        })
    }

    /// The next message; none at the end of the stream.
    fn receive(&mut self) -> Result<Option<Vec<u8>>, ServeError> {
        let mut bytes = [0; 16 << 10];
        loop {
            if let Some(message) = self.inbox.take()? {
                return Ok(Some(message));
            }
            match recv(&self.channel, &mut bytes[..], RecvFlags::empty()) {
                Ok((0, _)) if self.inbox.is_empty() => return Ok(None),
                Ok((0, _)) => return Err(WireError::Malformed("a part of a message").into()),
                Ok((len, _)) => self.inbox.push(&bytes[..len]),
                Err(Errno::INTR) => {}
                Err(Errno::CONNRESET) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn send(&self, mut frame: &[u8]) -> Result<(), ServeError> {
        while !frame.is_empty() {
            match send(&self.channel, frame, SendFlags::NOSIGNAL) {
                Ok(len) => frame = &frame[len..],
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn deadline(request: &JobRequest) -> Instant {
    Instant::now() + Duration::from_millis(request.deadline_ms.into())
}

/// Whether something came, or the end: during a job that is only to call it off.
fn is_readable(channel: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(channel, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready != 0)
}
