//! What the lock-free parts synchronise with. `tests/loom` compiles those files with loom's types in
//! place of these.

pub(super) use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
