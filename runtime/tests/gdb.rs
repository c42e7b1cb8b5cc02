//! Programs under a debugger: gdb, where it is installed, sees their names while they live.

#![cfg(all(target_arch = "x86_64", target_os = "linux", not(miri)))]
#![allow(clippy::print_stderr)]

mod common;

use common::{code, engine};
use kiln_runtime::{Backend, Config};
use revm::{interpreter::instructions::gas_table_spec, primitives::hardfork::SpecId};
use std::{
    env,
    hint::black_box,
    io,
    process::{Command, Stdio},
};

const CHILD: &str = "KILN_TEST_GDB_CHILD";

/// Where gdb stops.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn kiln_test_stop_here(step: u32) {
    black_box(step);
}

/// What runs under gdb; without it, it has nothing to do.
#[test]
fn child() {
    let sum = code("6002600301 50 00");
    let spec = SpecId::CANCUN;
    let replaced = kiln_ir::OpcodeSet::EMPTY;
    let baked = kiln_ir::Config { spec, gas: gas_table_spec(spec), replaced };
    let engine = engine(Config { backend: Backend::Native, gdb: true, ..Config::eager() });
    let program = engine.compile(&sum, sum.hash_slow(), &baked).unwrap();
    assert_eq!(program.regions(), 1);
    if env::var_os(CHILD).is_none() {
        return;
    }
    kiln_test_stop_here(1);
    engine.clear();
    drop(program);
    kiln_test_stop_here(2);
}

#[test]
fn gdb_sees_programs_while_they_live() {
    let list = "info functions kiln:";
    let commands = [
        "set debuginfod enabled off",
        "set breakpoint pending on",
        "break kiln_test_stop_here",
        "run",
        "echo [[first]]\\n",
        list,
        "continue",
        "echo [[second]]\\n",
        list,
        "kill",
    ];
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch"]);
    for command in commands {
        gdb.args(["-ex", command]);
    }
    let test = env::current_exe().unwrap();
    gdb.arg("--args").arg(test).args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    let output = match gdb.env(CHILD, "1").stdin(Stdio::null()).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("skipped: gdb is not installed");
            return;
        }
        output => output.unwrap(),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    if errors.contains("ptrace") {
        eprintln!("skipped: gdb may not debug here: {errors}");
        return;
    }
    let (_, rest) = text.split_once("[[first]]").unwrap_or_else(|| panic!("{text}\n{errors}"));
    let (first, second) = rest.split_once("[[second]]").expect("both stops");
    let digits = &code("6002600301 50 00").hash_slow().to_string()[2..10];
    let name = format!("kiln:tier0:{digits}@Cancun");
    assert!(first.contains(&name) && first.contains("kiln:trampoline"), "{text}\n{errors}");
    assert!(!second.contains(&name) && second.contains("kiln:trampoline"), "{text}\n{errors}");
}
