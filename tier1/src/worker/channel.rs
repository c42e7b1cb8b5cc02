//! The parent's end of a worker's streams.
//!
//! **Owns** the socket and the standard error of one child, what is to be sent and what came. **Callers
//! guarantee** that one thread uses it at a time. **Never** waits longer than it is told, nor for a child that
//! does not read what it is sent or does not stop to write.

use super::{
    assembler::Assembler,
    wire::{HELLO_BYTES_MAX, WireError},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SendFlags, recv, send},
};
use std::{
    io::Read as _,
    os::unix::net::UnixStream,
    process::ChildStderr,
    time::{Duration, Instant},
};

/// Between two looks whether the caller called off.
pub(super) const CANCEL_POLL: Duration = Duration::from_millis(5);
/// Bytes of standard error that are kept: the first ones, which most often say what happened, and the last
/// ones. Between them there may be a backtrace, or chatter.
const STDERR_FIRST: usize = 1 << 10;
const STDERR_LAST: usize = 3 << 10;
/// Bytes of standard error that are read after a child's end: a pipe's, by default.
const STDERR_LEFT: usize = 64 << 10;

/// Why nothing was received.
#[derive(Debug)]
pub(super) enum Stop {
    /// The time is over.
    Deadline,
    /// The caller called off.
    Cancelled,
    /// The child closed its end.
    Ended,
    /// What came is no frame.
    Wire(WireError),
    /// The stream is broken on this side.
    Stream(Errno),
}

/// How long to wait.
#[derive(Clone, Copy)]
pub(super) struct Wait<'a> {
    pub(super) until: Instant,
    pub(super) cancelled: &'a dyn Fn() -> bool,
}

impl Wait<'_> {
    /// Time to sleep until the next look.
    fn next(&self) -> Result<Duration, Stop> {
        if (self.cancelled)() {
            return Err(Stop::Cancelled);
        }
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(Stop::Deadline),
            left => Ok(left.min(CANCEL_POLL)),
        }
    }
}

pub(super) struct Channel {
    socket: UnixStream,
    /// Until the child closes it.
    stderr: Option<ChildStderr>,
    stderr_first: Vec<u8>,
    stderr_last: Vec<u8>,
    inbox: Assembler,
    outbox: Vec<u8>,
    sent: usize,
}

impl Channel {
    pub(super) fn new(socket: UnixStream, stderr: Option<ChildStderr>) -> Self {
        Self {
            socket,
            stderr,
            stderr_first: Vec::new(),
            stderr_last: Vec::new(),
            inbox: Assembler::new(HELLO_BYTES_MAX),
            outbox: Vec::new(),
            sent: 0,
        }
    }

    /// Bytes of a message from the child, at most.
    pub(super) fn set_message_bytes_max(&mut self, max: usize) {
        self.inbox.set_max(max);
    }

    /// Adds a frame to what is to be sent, which [`Channel::receive`] does.
    pub(super) fn send(&mut self, frame: Vec<u8>) {
        if self.is_sent() {
            (self.outbox, self.sent) = (frame, 0);
        } else {
            self.outbox.extend(frame);
        }
    }

    /// Whether all that was to be sent is.
    pub(super) fn is_sent(&self) -> bool {
        self.sent == self.outbox.len()
    }

    /// Whether nothing came that was not asked for, the end included.
    pub(super) fn is_quiet(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&now));
        self.inbox.is_empty() && self.is_sent() && ready == Ok(0)
    }

    /// Sends what is to be sent, and waits for a message.
    pub(super) fn receive(&mut self, wait: Wait<'_>) -> Result<Vec<u8>, Stop> {
        loop {
            if let Some(message) = self.inbox.take().map_err(Stop::Wire)? {
                return Ok(message);
            }
            let [socket, stderr] = self.poll(wait.next()?)?;
            if stderr {
                self.read_stderr();
            }
            if socket {
                self.write()?;
                self.read()?;
            }
        }
    }

    /// Whether there is something to do for socket and standard error.
    fn poll(&self, timeout: Duration) -> Result<[bool; 2], Stop> {
        let mut events = PollFlags::IN;
        if !self.is_sent() {
            events |= PollFlags::OUT;
        }
        let socket = PollFd::new(&self.socket, events);
        // Twice the socket, asked for nothing, where there is no standard error any more.
        let stderr = match &self.stderr {
            Some(stderr) => PollFd::new(stderr, PollFlags::IN),
            None => PollFd::new(&self.socket, PollFlags::empty()),
        };
        let mut fds = [socket, stderr];
        let timeout =
            Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(fds.map(|fd| !fd.revents().is_empty())),
            Err(errno) => Err(Stop::Stream(errno)),
        }
    }

    fn write(&mut self) -> Result<(), Stop> {
        while !self.is_sent() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &self.outbox[self.sent..], flags) {
                Ok(len) => self.sent += len,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                // What it sent before it ended is still to be read.
                Err(Errno::PIPE | Errno::CONNRESET) => break,
                Err(errno) => return Err(Stop::Stream(errno)),
            }
        }
        (self.outbox, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    fn read(&mut self) -> Result<(), Stop> {
        let mut bytes = [0; 16 << 10];
        match recv(&self.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((0, _)) | Err(Errno::CONNRESET) => Err(Stop::Ended),
            Ok((len, _)) => {
                self.inbox.push(&bytes[..len]);
                Ok(())
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(()),
            Err(errno) => Err(Stop::Stream(errno)),
        }
    }

    /// Reads once; it is known not to wait. Answers how much came.
    fn read_stderr(&mut self) -> usize {
        let mut bytes = [0; STDERR_LAST];
        let len = self.stderr.as_mut().map_or(0, |stderr| stderr.read(&mut bytes).unwrap_or(0));
        if len == 0 {
            self.stderr = None;
        }
        let (first, last) = bytes[..len].split_at(len.min(STDERR_FIRST - self.stderr_first.len()));
        self.stderr_first.extend_from_slice(first);
        self.stderr_last.extend_from_slice(last);
        let old = self.stderr_last.len().saturating_sub(STDERR_LAST);
        self.stderr_last.drain(..old);
        len
    }

    /// The first and the last of what the child wrote to its standard error, and forgets it.
    pub(super) fn take_stderr(&mut self) -> String {
        let mut left = STDERR_LEFT;
        while let Some(stderr) = &self.stderr
            && left > 0
        {
            let now = Timespec { tv_sec: 0, tv_nsec: 0 };
            if poll(&mut [PollFd::new(stderr, PollFlags::IN)], Some(&now)) != Ok(1) {
                break;
            }
            left = left.saturating_sub(self.read_stderr());
        }
        let mut text = std::mem::take(&mut self.stderr_first);
        text.append(&mut self.stderr_last);
        String::from_utf8_lossy(&text).trim().into()
    }
}
