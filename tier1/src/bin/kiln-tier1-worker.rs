//! The worker process, for applications that do not serve as one themselves. It is started by them.

use std::process::ExitCode;

fn main() -> ExitCode {
    kiln_tier1::worker::serve_if_worker(kiln_tier1::worker::compile_with_llvm);
    // Reached only when it was started by hand.
    ExitCode::FAILURE
}
