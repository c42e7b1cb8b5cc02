//! Compilers that fail in every way, full queues, floods of events, clears and shutdown at every
//! moment: each is counted, costs what it must and no more, and execution goes on exactly.

mod compilers;
mod control;
mod queues;
mod support;
