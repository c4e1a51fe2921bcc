//! Tells the crate which Python it is built for and what it is built with, and the reader where it
//! cannot be built.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

fn main() {
    // Otherwise any file in the package that changes, a test or an example, builds it anew.
    println!("cargo::rerun-if-changed=build.rs");
    let system = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    if system != "linux" {
        println!(
            "cargo::error=tokioloop runs on Linux only (its loop is built on epoll, timerfd and \
             pidfd), and this build is for {system}. Use it in a Linux container or virtual \
             machine, on Windows in WSL. A project for other systems too keeps asyncio's loop there \
             and depends on: tokioloop; sys_platform == 'linux'"
        );
        return;
    }
    pyo3_build_config::use_pyo3_cfgs();
    // Each segment of the extension at the address of its place in the file: profilers that unwind
    // stacks from outside (py-spy) take the one for the other. lld packs them more tightly.
    if env::var_os("CARGO_ZIGBUILD_TARGET").is_none() {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,separate-code");
    }
    println!("cargo::rustc-env=TOKIOLOOP_RUSTC={}", compiler().as_deref().unwrap_or("unknown"));
    for name in ["TARGET", "PROFILE"] {
        println!("cargo::rustc-env=TOKIOLOOP_{name}={}", env::var(name).unwrap_or_default());
    }
    let lock = locked_versions();
    for name in ["tokio", "pyo3"] {
        let version = lock.as_deref().and_then(|lock| version_in(lock, name)).unwrap_or("unknown");
        println!("cargo::rustc-env=TOKIOLOOP_{}={version}", name.to_uppercase());
    }
}

/// The compiler's version: the second word of `rustc 1.88.0 (...)`.
fn compiler() -> Option<String> {
    let said = Command::new(env::var_os("RUSTC")?).arg("--version").output().ok()?.stdout;
    Some(String::from_utf8(said).ok()?.split(' ').nth(1)?.to_owned())
}

/// The lock file of this crate. One that depends on it has its own, which a build script cannot find.
fn locked_versions() -> Option<String> {
    let path = Path::new(&env::var_os("CARGO_MANIFEST_DIR")?).join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", path.display());
    fs::read_to_string(path).ok()
}

fn version_in<'a>(lock: &'a str, name: &str) -> Option<&'a str> {
    let (_, entry) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    entry.split('"').next()
}
