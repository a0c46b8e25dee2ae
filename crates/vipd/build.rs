//! How the programs are linked.

fn main() {
    // Relocations in an eighth of the space (DT_RELR, glibc 2.36): each page of them stays in memory for
    // having been read once.
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    println!("cargo::rerun-if-changed=build.rs");
}
