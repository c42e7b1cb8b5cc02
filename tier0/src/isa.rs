//! The code generator's settings.
//!
//! **Owns** the flags stencils and regions are made with. **Callers guarantee** nothing. **Never** enables
//! a CPU feature the host does not have, nor AVX: its encodings are longer than SSE's.

use crate::LibraryError;
use cranelift_codegen::{
    isa::{self, OwnedTargetIsa},
    settings::{self, Configurable},
};

/// Shared flags. `preserve_frame_pointers` is what `return_call` needs; without `is_pic`, a symbol
/// that is not colocated becomes an explicit 8-byte relocation, not a load from a global offset table.
const FLAGS: [(&str, &str); 8] = [
    ("opt_level", "speed"),
    ("preserve_frame_pointers", "true"),
    ("is_pic", "false"),
    ("unwind_info", "false"),
    ("enable_probestack", "false"),
    ("enable_heap_access_spectre_mitigation", "false"),
    ("enable_table_access_spectre_mitigation", "false"),
    ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
];

/// Flags of regions besides. Their frames may be larger than a guard page, so each page is touched.
const REGION_FLAGS: [(&str, &str); 2] =
    [("enable_probestack", "true"), ("probestack_strategy", "inline")];

/// The code generator of stencils for the CPU this runs on.
pub(crate) fn host() -> Result<OwnedTargetIsa, LibraryError> {
    with(&[])
}

/// The code generator of regions for the CPU this runs on.
pub(crate) fn regions() -> Result<OwnedTargetIsa, LibraryError> {
    with(&REGION_FLAGS)
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn with(more: &[(&str, &str)]) -> Result<OwnedTargetIsa, LibraryError> {
    let settings = |error: settings::SetError| LibraryError::Settings(error.to_string());
    let mut flags = settings::builder();
    for (name, value) in FLAGS.iter().chain(more) {
        flags.set(name, value).map_err(settings)?;
    }
    let mut isa = isa::lookup_by_name("x86_64-unknown-linux-gnu")
        .map_err(|error| LibraryError::Settings(error.to_string()))?;
    let features = [
        ("has_sse3", std::is_x86_feature_detected!("sse3")),
        ("has_ssse3", std::is_x86_feature_detected!("ssse3")),
        ("has_sse41", std::is_x86_feature_detected!("sse4.1")),
        ("has_sse42", std::is_x86_feature_detected!("sse4.2")),
        ("has_popcnt", std::is_x86_feature_detected!("popcnt")),
        ("has_lzcnt", std::is_x86_feature_detected!("lzcnt")),
        ("has_bmi1", std::is_x86_feature_detected!("bmi1")),
        ("has_bmi2", std::is_x86_feature_detected!("bmi2")),
    ];
    for (name, present) in features {
        if present {
            isa.enable(name).map_err(settings)?;
        }
    }
    isa.finish(settings::Flags::new(flags))
        .map_err(|error| LibraryError::Settings(error.to_string()))
}

/// There is no code generator for this target.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
fn with(_: &[(&str, &str)]) -> Result<OwnedTargetIsa, LibraryError> {
    let _ = FLAGS;
    Err(LibraryError::Unsupported)
}
