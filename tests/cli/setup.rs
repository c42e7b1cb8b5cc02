//! `scripts/setup.sh` and `scripts/llvm.sh` on systems that lack what they look for. Nothing is installed: all
//! that is on PATH is made up, but for a few tools of the shell's.

use super::{Ran, repository};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};
use tempfile::TempDir;

/// Tools that the scripts use.
const TOOLS: [&str; 8] = ["bash", "env", "cat", "dirname", "mktemp", "rm", "tr", "touch"];

/// An `apt-get` that notes what it was asked for, and "installs" LLVM if it is to be had.
const APT: &str = r#"echo "apt-get $*" >> "$ROOT/log"
case $1 in
    update) touch "$ROOT/updated" ;;
    install) if [ -e "$ROOT/offers" ]; then touch "$ROOT/installed"; else exit 100; fi ;;
esac
"#;
/// Packages are known once `apt-get update` ran.
const APT_CACHE: &str = r#"[ -e "$ROOT/updated" ] && [ -e "$ROOT/offers" ]"#;
const LLVM_CONFIG: &str = r#"[ -e "$ROOT/installed" ] || exit 127
case $* in
    --version) echo 22.1.8 ;;
    --libdir) echo /usr/lib/llvm-22/lib ;;
    *--libnames) echo libLLVM-22.so ;;
    --cflags) echo -I/usr/lib/llvm-22/include ;;
esac
"#;

/// A system.
struct System(TempDir);

impl System {
    /// With cargo, a C compiler, and apt as root; LLVM is to be had, and not installed.
    fn new() -> Self {
        let system = Self(tempfile::tempdir().expect("a folder"));
        fs::create_dir(system.path().join("bin")).expect("a folder");
        for tool in TOOLS {
            let places = ["/usr/bin", "/bin"].map(|folder| Path::new(folder).join(tool));
            let place = places.into_iter().find(|place| place.exists());
            let place = place.unwrap_or_else(|| panic!("{tool} is on every Linux"));
            symlink(place, system.path().join("bin").join(tool)).expect("a link");
        }
        system.tool("cargo", "").tool("cc", "cat > /dev/null").tool("id", "echo 0");
        system
            .tool("apt-get", APT)
            .tool("apt-cache", APT_CACHE)
            .tool("llvm-config-22", LLVM_CONFIG);
        system.has("offers")
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Puts a program on PATH.
    fn tool(&self, name: &str, script: &str) -> &Self {
        let path = self.path().join("bin").join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n")).expect("writable");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
        self
    }

    fn without(self, tool: &str) -> Self {
        fs::remove_file(self.path().join("bin").join(tool)).expect("it was there");
        self
    }

    fn has(self, file: &str) -> Self {
        fs::write(self.path().join(file), "").expect("writable");
        self
    }

    /// Runs a script with arguments and variables.
    fn run(&self, script: &str, arguments: &[&str], vars: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(repository("scripts").join(script));
        command.args(arguments).env_clear().env("ROOT", self.path()).envs(vars.iter().copied());
        command.env("PATH", self.path().join("bin"));
        command.output().expect("the script starts").into()
    }

    fn setup(&self, arguments: &[&str]) -> Ran {
        self.run("setup.sh", arguments, &[])
    }

    /// What `apt-get` was asked for.
    fn log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path().join("log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

const INSTALL: &str = "apt-get install -y --no-install-recommends llvm-22-dev build-essential";

#[test]
fn llvm_is_installed_where_it_is_missing() {
    let system = System::new();
    let ran = system.setup(&["--require-llvm"]).exits(0);
    assert_eq!(system.log(), ["apt-get update", INSTALL]);
    assert_eq!(ran.stderr, "");
    // And only there.
    system.setup(&[]).exits(0);
    assert_eq!(system.log().len(), 2);
    system.run("llvm.sh", &[], &[]).exits(0).prints(&["llvm-config-22"]);
}

#[test]
fn a_dry_run_runs_nothing() {
    let system = System::new();
    let ran = system.setup(&["--dry-run"]).exits(0);
    assert!(ran.stdout.contains(INSTALL), "{}", ran.stdout);
    assert!(system.log().is_empty());
}

#[test]
fn without_root_it_asks_sudo() {
    let system = System::new();
    system.tool("id", "echo 1000").tool("sudo", r#"echo sudo >> "$ROOT/log"; "$@""#);
    system.setup(&["--require-llvm"]).exits(0);
    assert_eq!(system.log(), ["sudo", "apt-get update", "sudo", INSTALL]);
}

/// Asserts that it goes on without LLVM, unless that is required, and says what to do.
fn says(system: &System, parts: &[&str]) {
    system.setup(&[]).exits(0).complains(parts).complains(&["going on WITHOUT TIER 1"]);
    let ran = system.setup(&["--require-llvm"]).exits(2);
    ran.complains(parts).complains(&["LLVM_SYS_221_PREFIX"]).complains(&["KILN_NO_LLVM=1"]);
}

#[test]
fn where_it_can_not_be_had_it_says_what_to_do() {
    says(&System::new().without("apt-get"), &["the system's package manager"]);
    let system = System::new();
    system.tool("id", "echo 1000");
    says(&system, &["As root: apt-get update", "llvm-22-dev"]);
    assert!(system.log().is_empty());

    let system = System::new();
    fs::remove_file(system.path().join("offers")).expect("it was there");
    says(&system, &["https://apt.llvm.org"]);
    assert_eq!(system.log(), ["apt-get update", "apt-get update"]);

    // Known, but not to be had: once more behind an update.
    let system = System::new().has("updated");
    system.tool("apt-cache", "");
    fs::remove_file(system.path().join("offers")).expect("it was there");
    says(&system, &["could not be installed", "apt-get install"]);
    assert_eq!(system.log()[..3], [INSTALL, "apt-get update", INSTALL]);

    // Installed, but nothing links to it.
    let system = System::new().has("installed");
    system.tool("cc", "echo 'cannot find -lstdc++' >&2; exit 1");
    says(&system, &["does not link", "cannot find -lstdc++"]);
}

#[test]
fn it_can_be_left_out() {
    let system = System::new();
    let vars = [("KILN_NO_LLVM", "1")];
    let ran = system.run("setup.sh", &["--require-llvm"], &vars).exits(0);
    ran.complains(&["KILN_NO_LLVM", "WITHOUT TIER 1", "not tested"]);
    assert!(system.log().is_empty());
    let system = system.has("installed");
    system.run("llvm.sh", &[], &vars).exits(1);
}

#[test]
fn another_version_is_none() {
    let system = System::new().without("llvm-config-22").without("apt-get");
    for (version, told) in [("14.0.6", "no llvm-config of LLVM 22"), ("23.0.0", "23.0.0, not 22")] {
        system.tool("llvm-config", &format!("echo {version}"));
        system.run("llvm.sh", &[], &[]).exits(1).complains(&[told]);
        says(&system, &["tier 1 needs LLVM 22", told]);
    }
    // A folder that is named is the only one that is looked at.
    let system = System::new().has("installed");
    let vars = [("LLVM_SYS_221_PREFIX", "/no/where")];
    system.run("llvm.sh", &[], &vars).exits(1).complains(&["/no/where/bin"]);
}

#[test]
fn without_a_compiler_nothing_goes() {
    let system = System::new().without("cc");
    // The compiler that is "installed" is not there: LLVM is not looked for.
    fs::remove_file(system.path().join("offers")).expect("it was there");
    system.setup(&[]).exits(2).complains(&["build-essential"]);
    let system = System::new().without("cc").without("apt-get");
    system.setup(&[]).exits(2).complains(&["package manager"]);
    let system = System::new().without("cargo");
    system.setup(&[]).exits(2).complains(&["rustup"]);
    System::new().setup(&["--what"]).exits(2).complains(&["usage"]);
}
