#!/usr/bin/env bash
# A derived struct is read from a JSON array too; with defaults, from an empty one.
#
# Version    serde 1.0.229, serde_json 1.0.154 (the derived visit_seq; serde.rs shows it for formats like bincode).
# Behaviour  struct Control { #[serde(default)] delay: u32, #[serde(default)] fail: bool } reads [] as {}, and [5] as
#            {"delay":5}: fields in the order of the source. deny_unknown_fields does not change that, nor does [5,true]
#            fail. serde(flatten) on any field does: then an array is an error.
# Guess      A type error: "invalid type: sequence, expected a map", as for a HashMap.
# Matters    An API accepts bodies that its documentation rules out, and two fields swapped in the source change what
#            those mean. A client that sends [] by mistake (PHP's empty array) resets everything to the defaults, with
#            200.

set -euo pipefail
[ "${BOUNDED-}" ] || BOUNDED=1 exec timeout --kill-after=5 500 bash "$0"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/src"
cat >"$work/Cargo.toml" <<'END'
[package]
name = "probe"
version = "0.0.0"
edition = "2021"
[dependencies]
serde = { version = "=1.0.229", features = ["derive"] }
serde_json = "=1.0.154"
END
cat >"$work/src/main.rs" <<'END'
use std::collections::HashMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[derive(Default)]
#[allow(dead_code)]
struct Control {
    delay: u32,
    fail: bool,
}

#[derive(Debug, Deserialize)]
#[allow(dead_code)]
struct Flat {
    #[serde(default)]
    delay: u32,
    #[serde(flatten)]
    rest: HashMap<String, bool>,
}

fn show<T: std::fmt::Debug>(name: &str, json: &str, read: serde_json::Result<T>) {
    match read {
        Ok(value) => println!("{name} from {json}: {value:?}"),
        Err(error) => println!("{name} from {json}: {error}"),
    }
}

fn main() {
    for json in ["{}", "[]", "[5]", "[5,true]"] {
        show("struct", json, serde_json::from_str::<Control>(json));
    }
    show("flattened", "[]", serde_json::from_str::<Flat>("[]"));
    show("HashMap", "[]", serde_json::from_str::<HashMap<String, u32>>("[]"));
}
END
export CARGO_TARGET_DIR="$work/target"
seen=$(cargo run --quiet --manifest-path "$work/Cargo.toml")

expected=$(cat <<'END'
struct from {}: Control { delay: 0, fail: false }
struct from []: Control { delay: 0, fail: false }
struct from [5]: Control { delay: 5, fail: false }
struct from [5,true]: Control { delay: 5, fail: true }
flattened from []: invalid type: sequence, expected struct Flat at line 1 column 0
HashMap from []: invalid type: sequence, expected a map at line 1 column 0
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
