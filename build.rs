//! How the function is linked.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address, as Go's functions are: what is relocated at each start is a twentieth of the zip otherwise.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo::rustc-link-arg-bin=bootstrap=-no-pie");
    }
}
