//! The `kiln` command.
//!
//! **Owns** the command line: arguments, tables, JSON, exit codes. **Never** knows what the library
//! does not export.

mod cli;

fn main() -> std::process::ExitCode {
    kiln::serve_if_worker();
    cli::main()
}
