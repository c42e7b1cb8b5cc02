//! Frames from a stream of bytes.
//!
//! **Owns** the bytes that came and were not taken. **Never** holds more than a frame and one read: a length
//! over the limit is an error as soon as it is known.

use super::wire::{HEADER, WireError};

/// Puts frames together.
#[derive(Debug)]
pub(super) struct Assembler {
    bytes: Vec<u8>,
    /// Bytes of a payload, at most.
    max: usize,
}

impl Assembler {
    pub(super) fn new(max: usize) -> Self {
        Self { bytes: Vec::new(), max }
    }

    /// Another limit, from the next frame on.
    pub(super) fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The payload of the next frame, if all of it is there.
    ///
    /// # Errors
    /// If it is announced to be over the limit. Then nothing behind it can be read.
    pub(super) fn take(&mut self) -> Result<Option<Vec<u8>>, WireError> {
        let Some(header) = self.bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let len = u32::from_le_bytes(*header) as usize;
        if len > self.max {
            return Err(WireError::TooLong { bytes: len, max: self.max });
        }
        let Some(payload) = self.bytes.get(HEADER..HEADER + len) else { return Ok(None) };
        let payload = payload.to_vec();
        self.bytes.drain(..HEADER + len);
        if self.bytes.is_empty() {
            // An answer may be large, and the next one comes much later.
            self.bytes = Vec::new();
        }
        Ok(Some(payload))
    }
}
