//! The code objects of an answer.
//!
//! **Owns** how many there may be, and how large; what must hold of each is `kiln_ir::sent`'s. **Callers guarantee**
//! nothing. **Never** allocates more than the limit it was given.

use super::{JobRequest, wire::WireError};
use kiln_abi::CodeObject;
use kiln_ir::{
    sent::{Sent, SentFor, table_bytes_max},
    ssa::INSTRUCTIONS_MAX,
};

/// What may still come of an answer.
pub(super) struct Budget<'a> {
    of: SentFor<'a>,
    code_len: usize,
    objects_left: usize,
    bytes_left: usize,
    text_bytes_max: usize,
}

impl<'a> Budget<'a> {
    /// For the answer to a request, of so many bytes in all.
    ///
    /// # Errors
    /// If the request's code is too long for any object.
    pub(super) fn new(request: &'a JobRequest, bytes_max: usize) -> Result<Self, WireError> {
        Ok(Self {
            of: SentFor::new(&request.bytecode)?,
            code_len: request.bytecode.len(),
            objects_left: request.choice.regions_max,
            bytes_left: bytes_max,
            text_bytes_max: request.limits.text_bytes_max(INSTRUCTIONS_MAX as usize),
        })
    }

    /// Takes an object.
    ///
    /// # Errors
    /// If something of it can not be, or it is over a limit.
    pub(super) fn take(&mut self, sent: Sent<'_>) -> Result<CodeObject, WireError> {
        let Some(objects_left) = self.objects_left.checked_sub(1) else {
            return Err(WireError::Malformed("more objects than regions"));
        };
        self.objects_left = objects_left;
        if sent.text.len() > self.text_bytes_max {
            return Err(WireError::Limit { what: "text", max: self.text_bytes_max });
        }
        let bytes = sent.text.len() + table_bytes_max(self.code_len, sent.entries.len());
        let Some(bytes_left) = self.bytes_left.checked_sub(bytes) else {
            return Err(WireError::Limit { what: "objects", max: self.bytes_left });
        };
        self.bytes_left = bytes_left;
        Ok(self.of.object(sent)?)
    }
}
