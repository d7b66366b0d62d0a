//! How the function is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address, as Go's functions are: what is relocated at each start is a twentieth of the zip otherwise.
    println!("cargo::rustc-link-arg-bin=bootstrap=-no-pie");
}
