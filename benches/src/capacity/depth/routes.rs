//! What handlers do, from nothing to speak of to a deep recursion.

use std::{
    fmt::Write,
    hint::black_box,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use clap::ValueEnum;
use maniple_server::{Client, Request, Router, StatusCode};
use serde::{Deserialize, Serialize};

use crate::capacity::quantity::Bytes;

/// A kind of handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Route {
    /// A constant.
    Text,
    /// Parses a document by serde_json, and writes it again.
    Json,
    /// Asks three backends at once, in a group.
    Fanout,
    /// Renders a page of a table with fifty rows.
    Template,
    /// Calls itself as deep as `--recurse` says.
    Recurse,
    /// Panics, and catches that.
    Panic,
}

/// A router that answers `/` like this.
pub(super) fn router(route: Route, recurse: Bytes, backends: Vec<String>) -> Router {
    let router = Router::new();
    match route {
        Route::Text => router.get("/", |_: &mut Request| "Hello, World!"),
        Route::Json => router.get("/", |_: &mut Request| json()),
        Route::Fanout => {
            let client = Client::builder().max_idle_per_host(IDLE).build();
            let backends: Arc<[String]> = backends.into();
            router.get("/", move |_: &mut Request| fan_out(&client, &backends))
        }
        Route::Template => router.get("/", |_: &mut Request| page()),
        Route::Recurse => router.get("/", move |_: &mut Request| descend(recurse.0).to_string()),
        Route::Panic => router.get("/", |_: &mut Request| caught()),
    }
}

/// Connections to a backend that are kept.
const IDLE: usize = 1024;

fn json() -> String {
    let order: serde_json::Value = serde_json::from_str(black_box(ORDER)).unwrap_or_default();
    order.to_string()
}

const ORDER: &str = r#"{"order":17,"customer":{"name":"Ada","tags":["new","net 30"]},"lines":[
    {"item":"bolt","count":400,"price":0.12,"options":{"thread":{"pitch":1.25,"left":false}}},
    {"item":"nut","count":400,"price":0.05,"options":null}],"note":"to the back door"}"#;

fn fan_out(client: &Client, backends: &[String]) -> Result<String, (StatusCode, String)> {
    let parts = maniple::group(|group| -> anyhow::Result<String> {
        let calls: Vec<_> = backends
            .iter()
            .map(|url| group.spawn(move || client.get(url)?.text()))
            .collect();
        let mut parts = String::new();
        for call in calls {
            parts += &call.join()??;
        }
        Ok(parts)
    });
    parts.map_err(|error| (StatusCode::BAD_GATEWAY, format!("{error:#}")))
}

fn page() -> String {
    let mut page = String::from("<table>");
    for row in 0..50 {
        let name = escaped(&format!("<item & {row}>"));
        let price = f64::from(row) * 1.25;
        // A string takes whatever is written.
        let _ = write!(
            page,
            "<tr><td>{row:>4}</td><td>{name}</td><td>{price:.2}</td></tr>"
        );
    }
    page.push_str("</table>");
    page
}

fn escaped(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        match letter {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            _ => escaped.push(letter),
        }
        escaped
    })
}

/// Uses at least so many bytes of stack.
#[inline(never)]
fn descend(bytes: u64) -> u64 {
    let mut frame = [0_u8; FRAME];
    black_box(&mut frame);
    let below = match bytes.checked_sub(FRAME as u64) {
        None | Some(0) => 0,
        Some(left) => descend(left),
    };
    black_box(&mut frame);
    below + 1
}

const FRAME: usize = 1024;

fn caught() -> &'static str {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let refused = black_box(17);
        panic!("order {refused} is refused");
    }));
    match outcome {
        Ok(()) => "no panic",
        Err(_) => "caught",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers_do_what_they_say() {
        assert!(json().contains(r#""pitch":1.25"#));
        let page = page();
        assert_eq!(page.matches("<tr>").count(), 50);
        assert!(page.contains("&lt;item &amp; 49&gt;</td><td>61.25"));
        assert_eq!(caught(), "caught");
    }

    #[test]
    fn a_recursion_has_as_many_frames_as_its_bytes_take() {
        for (bytes, frames) in [(0, 1), (1024, 1), (1025, 2), (40 << 10, 40)] {
            assert_eq!(descend(bytes), frames, "{bytes}");
        }
    }
}
