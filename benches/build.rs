//! Tells the binary which compiler built it, for what and how: figures are worth little without.

use std::{env, process::Command};

fn main() {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .map(|output| output.stdout);
    let version = version.unwrap_or_default();
    println!(
        "cargo::rustc-env=BENCH_RUSTC_VERSION={}",
        String::from_utf8_lossy(&version).trim()
    );
    let of = |name: &str| env::var(name).unwrap_or_default();
    println!("cargo::rustc-env=BENCH_TARGET={}", of("TARGET"));
    // Its flags are separated by a character that no flag has.
    let flags = of("CARGO_ENCODED_RUSTFLAGS").replace('\u{1f}', " ");
    println!("cargo::rustc-env=BENCH_RUSTFLAGS={flags}");
    // It reads no file; changed flags have it run again anyway.
    println!("cargo::rerun-if-env-changed=RUSTC");
}
