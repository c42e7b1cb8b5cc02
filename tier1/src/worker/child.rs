//! One worker process, as its parent sees it.
//!
//! **Owns** the process from its start until it is reaped, which dropping it does. **Callers guarantee** that
//! a job is given only to a worker that [`Worker::is_usable`]. **Never** uses a child again after anything but
//! a complete answer.

use super::{
    Answer, Executable, JobError, JobRequest, WorkerError,
    channel::{Channel, Stop, Wait},
    error::ended,
    limits::Confine,
    wire::{self, Hello, WireError},
};
use std::{
    os::{fd::OwnedFd, unix::net::UnixStream, unix::process::CommandExt as _},
    process::{Child, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// How long a child that closed its socket has until it ends; then it is killed.
const END_MAX: Duration = Duration::from_millis(200);

/// A job that is ready to be sent.
pub(super) struct Prepared<'a> {
    pub(super) id: u64,
    pub(super) request: &'a JobRequest,
    pub(super) frame: Vec<u8>,
}

/// What a worker is started with.
pub(super) struct Start<'a> {
    pub(super) executable: &'a Executable,
    pub(super) confine: Confine,
    /// Bytes of an answer, at most.
    pub(super) answer_bytes_max: usize,
    /// For the handshake.
    pub(super) wait: Wait<'a>,
}

pub(super) struct Worker {
    child: Child,
    channel: Channel,
    answer_bytes_max: usize,
    /// Jobs it answered.
    jobs: u64,
    /// Whether it waits for a job.
    idle: bool,
}

impl Worker {
    /// Starts a process and waits until it is ready.
    pub(super) fn start(start: &Start<'_>) -> Result<Self, WorkerError> {
        let (mut child, socket) = spawn(start.executable).map_err(WorkerError::Spawn)?;
        let mut worker = Self {
            channel: Channel::new(socket, child.stderr.take()),
            child,
            answer_bytes_max: start.answer_bytes_max,
            jobs: 0,
            idle: false,
        };
        worker.greet(start)?;
        worker.channel.set_message_bytes_max(start.answer_bytes_max);
        worker.idle = true;
        Ok(worker)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn jobs(&self) -> u64 {
        self.jobs
    }

    /// Whether it waits for a job, as far as can be seen.
    pub(super) fn is_usable(&mut self) -> bool {
        self.idle && self.channel.is_quiet() && matches!(self.child.try_wait(), Ok(None))
    }

    fn greet(&mut self, start: &Start<'_>) -> Result<(), WorkerError> {
        let ours = super::identity();
        for frame in [wire::encode_hello(ours), wire::encode_confine(&start.confine)] {
            self.channel.send(frame.map_err(|error| handshake(&error))?);
        }
        let hello = match self.channel.receive(start.wait) {
            Ok(hello) => hello,
            Err(Stop::Cancelled) => return Err(WorkerError::Cancelled),
            Err(stop) => return Err(self.no_worker(&stop)),
        };
        let theirs = match wire::decode_hello(&hello) {
            Ok(Hello::Same(theirs)) if theirs == *ours => return Ok(()),
            Ok(Hello::Same(theirs)) => format!("of {theirs}"),
            Ok(Hello::Other(protocol)) => format!("of protocol {protocol}"),
            Err(error) => return Err(handshake(&error)),
        };
        let ours = format!("of {ours}, protocol {}", wire::PROTOCOL);
        Err(WorkerError::Version { ours, theirs })
    }

    fn no_worker(&mut self, stop: &Stop) -> WorkerError {
        let why = match stop {
            Stop::Ended => {
                let status = self.end();
                format!("it ended, {}{}", ended(&status), self.channel.take_stderr())
            }
            Stop::Wire(error) => error.to_string(),
            Stop::Stream(errno) => errno.to_string(),
            Stop::Deadline | Stop::Cancelled => {
                format!("it did not answer in time; {}", self.channel.take_stderr())
            }
        };
        WorkerError::Handshake { why }
    }

    /// Has a job done. Past its deadline, or called off, the worker is told so, and has `grace` to say
    /// anything; then it is of no use any more.
    pub(super) fn run(
        &mut self,
        job: Prepared<'_>,
        grace: Duration,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Answer, WorkerError> {
        self.idle = false;
        let Prepared { id, request, frame } = job;
        self.channel.send(frame);
        let until = Instant::now() + Duration::from_millis(request.deadline_ms.into());
        let (message, called_off) = match self.channel.receive(Wait { until, cancelled }) {
            Ok(message) => (message, None),
            Err(Stop::Deadline) => (self.call_off(id, grace, WorkerError::Deadline)?, None),
            Err(Stop::Cancelled) => {
                (self.call_off(id, grace, WorkerError::Cancelled)?, Some(WorkerError::Cancelled))
            }
            Err(stop) => return Err(self.broken(stop)),
        };
        let result = wire::decode_answer(&message, (id, request), self.answer_bytes_max)
            .map_err(|error| WorkerError::Garbage { why: error.to_string() })?;
        self.jobs += 1;
        self.idle = true;
        // What it wrote belongs to this job, which went well.
        self.channel.take_stderr();
        match (result, called_off) {
            // No one wants it any more.
            (_, Some(called_off)) => Err(called_off),
            // It was there in time, or in the grace.
            (Ok(answer), None) => Ok(answer),
            // It was its own clock that said so, or ours.
            (Err(JobError::Cancelled), None) => Err(WorkerError::Deadline),
            (Err(error), None) => Err(WorkerError::Refused(error)),
        }
    }

    /// Calls a job off and waits for what the worker says; `else_why` if it says nothing.
    fn call_off(
        &mut self,
        id: u64,
        grace: Duration,
        else_why: WorkerError,
    ) -> Result<Vec<u8>, WorkerError> {
        // A worker that did not even read the job does not read this.
        if !self.channel.is_sent() {
            return Err(else_why);
        }
        let frame = wire::encode_cancel(id);
        self.channel.send(frame.map_err(|error| garbage(&error))?);
        let wait = Wait { until: Instant::now() + grace, cancelled: &|| false };
        match self.channel.receive(wait) {
            Ok(message) => Ok(message),
            Err(Stop::Wire(error)) => Err(garbage(&error)),
            Err(_) => Err(else_why),
        }
    }

    fn broken(&mut self, stop: Stop) -> WorkerError {
        match stop {
            Stop::Wire(WireError::TooLong { bytes, max }) => {
                WorkerError::TooLong { what: "answer", bytes, max }
            }
            Stop::Wire(error) => garbage(&error),
            Stop::Stream(errno) => WorkerError::Garbage { why: errno.to_string() },
            Stop::Ended | Stop::Deadline | Stop::Cancelled => {
                let status = self.end();
                WorkerError::Crashed { status, stderr: self.channel.take_stderr() }
            }
        }
    }

    /// Waits for the end of a child that closed its socket, which most often is over already.
    fn end(&mut self) -> Option<ExitStatus> {
        let until = Instant::now() + END_MAX;
        while Instant::now() < until {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(status) => return status,
                Err(_) => return None,
            }
        }
        // Nothing to be done where it is gone already.
        let _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone, and reaped, already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the process; its standard input is the other end of the socket.
fn spawn(executable: &Executable) -> std::io::Result<(Child, UnixStream)> {
    let (socket, theirs) = UnixStream::pair()?;
    let child = executable
        .command()?
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        // A signal from the terminal is for the parent, which may take its time to end.
        .process_group(0)
        .spawn()?;
    Ok((child, socket))
}

fn handshake(error: &WireError) -> WorkerError {
    WorkerError::Handshake { why: error.to_string() }
}

fn garbage(error: &WireError) -> WorkerError {
    WorkerError::Garbage { why: error.to_string() }
}
