//! `SOURCE`: a digest of this crate's sources.

fn main() -> std::io::Result<()> {
    kiln_source::emit()
}
