#!/usr/bin/env bash
# matchit takes a suffix beside a parameter, and refuses a parameter beside a catch-all.
#
# Version    matchit 0.9.2 (the router inside axum and others).
# Behaviour  /{id} and /{id}.json live side by side, the longer one first. /{id} and /{*rest} are a conflict, and so are
#            /files/{id}/meta and /files/{*path}, though a fixed /files/list beside the latter is fine, and /{a}/x goes
#            with /{b}/y. A catch-all does not match the empty rest.
# Guess      The more specific route wins everywhere, as fixed text before a parameter does; two patterns in one segment
#            are what would be refused.
# Matters    "Everything else" under a prefix that also has parameters must be a fallback outside the router. As the
#            error comes when the routes are added, only a test that builds the whole table shows it.

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
matchit = "=0.9.2"
END
cat >"$work/src/main.rs" <<'END'
fn main() {
    for routes in [
        ["/{id}", "/{id}.json"],
        ["/{a}/x", "/{b}/y"],
        ["/list", "/{id}"],
        ["/files/list", "/files/{*path}"],
        ["/{id}", "/{*rest}"],
        ["/files/{id}/meta", "/files/{*path}"],
    ] {
        let mut router = matchit::Router::new();
        let verdict = routes.iter().try_for_each(|route| router.insert(*route, ()));
        let verdict = if verdict.is_ok() { "side by side" } else { "conflict" };
        println!("{} {}: {verdict}", routes[0], routes[1]);
    }
    let mut router = matchit::Router::new();
    router.insert("/files/{*path}", ()).unwrap();
    println!("/files/{{*path}} matches /files/: {}", router.at("/files/").is_ok());
}
END
export CARGO_TARGET_DIR="$work/target"
seen=$(cargo run --quiet --manifest-path "$work/Cargo.toml")

expected=$(cat <<'END'
/{id} /{id}.json: side by side
/{a}/x /{b}/y: side by side
/list /{id}: side by side
/files/list /files/{*path}: side by side
/{id} /{*rest}: conflict
/files/{id}/meta /files/{*path}: conflict
/files/{*path} matches /files/: false
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
