//! What the recorder of the `metrics` crate gets.
