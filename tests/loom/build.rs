//! Only this crate is built for loom: as a flag for all of rustc it would reach loom's own
//! dependencies.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(loom)");
    println!("cargo::rustc-cfg=loom");
    println!("cargo::rerun-if-changed=build.rs");
}
