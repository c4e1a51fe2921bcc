//! Tells the crate which Python it is built for.

fn main() {
    // Otherwise any file in the package that changes, a test or an example, builds it anew.
    println!("cargo:rerun-if-changed=build.rs");
    pyo3_build_config::use_pyo3_cfgs();
}
