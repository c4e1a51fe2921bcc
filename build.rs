//! Tells the crate which Python it is built for, and the reader where it cannot be built.

use std::env;

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
}
