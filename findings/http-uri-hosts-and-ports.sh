#!/usr/bin/env bash
# The http crate refuses a valid host, and takes a port that is none for no port.
#
# Version    http 1.5.0 (http::Uri, used by hyper, axum, tonic). RFC 3986 3.2.2: a reg-name may have percent-encoded
#            octets; 3.2.3: a port is any digits, also none, and it is left to the scheme which are meaningful.
# Behaviour  "http://a%41.example/" is an error. "http://h:99999/" and "http://h:/" parse, and port_u16() gives None, as
#            for "http://h/". Other characters of a reg-name, such as "a!$&'()*+,;=", are taken.
# Guess      The other way round: an encoded host parses, since Uri only splits; 99999 is an error, or port() shows it.
# Matters    A client that takes None for "port 80 of the scheme" goes to another server than was written. Compare
#            authority() with host() before the default is used.

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
http = "=1.5.0"
END
cat >"$work/src/main.rs" <<'END'
fn main() {
    for text in [
        "http://h/",
        "http://a%41.example/",
        "http://a!$&'()*+,;=/",
        "http://h:99999/",
        "http://h:/",
        "http://h:080/",
    ] {
        match text.parse::<http::Uri>() {
            Ok(uri) => println!("{text} host {:?} port {:?}", uri.host(), uri.port_u16()),
            Err(error) => println!("{text} {error}"),
        }
    }
}
END
export CARGO_TARGET_DIR="$work/target"
seen=$(cargo run --quiet --manifest-path "$work/Cargo.toml")

expected=$(cat <<'END'
http://h/ host Some("h") port None
http://a%41.example/ invalid authority
http://a!$&'()*+,;=/ host Some("a!$&'()*+,;=") port None
http://h:99999/ host Some("h") port None
http://h:/ host Some("h") port None
http://h:080/ host Some("h") port Some(80)
END
)

printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || {
    printf 'changed; it was:\n%s\n' "$expected" >&2
    exit 1
}
