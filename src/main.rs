//! kiln command
fn main() {}
