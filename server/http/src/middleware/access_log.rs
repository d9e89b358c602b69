//! A line in the log for each request.

use std::{
    fmt::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use super::{
    chain::{Middleware, Next},
    refused::Refused,
};
use crate::{request::Request, response::Response, transport::Peer};

/// Logs a line for each request, through the `log` crate: level `info`, target `access`.
///
/// Put it around everything, as the first [`Router::with`](crate::Router::with). It sees an answer before it is sent:
/// the bytes that it tells are those of the answer's body, and `-` where the body is made while it is sent. The time is
/// UTC, and that at which the request was taken up. What unwinds, by a panic or a cancellation, is told with 500.
///
/// What the server refused before it was a request ([`Refused`]) has a line too: with its first line as it came, and `-` for
/// what is not known. In JSON that is `time`, `peer`, `line`, `status` and `reason`.
///
/// What a client sent is told so that it can neither end a line nor command a terminal: quotes, backslashes, control
/// characters and bytes beyond ASCII are written as `\xhh`, in JSON as `\u00hh`.
///
/// A line is made only where the logger takes it ([`log::log_enabled!`]), and a logger that panics costs that line and
/// nothing else.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::AccessLog};
/// let router = Router::new().with(AccessLog::combined()).get("/", |_: &mut Request| "hello");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct AccessLog {
    format: Format,
}

#[derive(Clone, Copy, Debug)]
enum Format {
    Common,
    Combined,
    Json,
}

/// The target of its lines.
const TARGET: &str = "access";

impl AccessLog {
    /// The Common Log Format of NCSA and Apache: `peer - - [time] "GET /path HTTP/1.1" status bytes`.
    pub fn common() -> Self {
        Self {
            format: Format::Common,
        }
    }

    /// The common format, and behind it `"referer" "user-agent"` and the seconds that the answer took.
    ///
    /// The seconds are beyond Apache's format, at the end, where readers of logs leave out what they do not know.
    pub fn combined() -> Self {
        Self {
            format: Format::Combined,
        }
    }

    /// A JSON object: `time` (RFC 3339), `peer`, `method`, `target`, `version`, `route`, `status`, `bytes`, `seconds`,
    /// `referer`, `user_agent`; without those that are not known.
    pub fn json() -> Self {
        Self {
            format: Format::Json,
        }
    }
}

impl Middleware for AccessLog {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        if !log::log_enabled!(target: TARGET, log::Level::Info) {
            return next.run(request);
        }
        let mut entry = Entry {
            format: self.format,
            taken_up: maniple::time::system_now(),
            began: maniple::time::now(),
            // The request is the handler's until it has answered, and gone if that unwinds.
            said: Said::of(request),
            route: request.route(),
            status: 500,
            bytes: None,
        };
        let response = next.run(request);
        entry.status = response.status().as_u16();
        entry.bytes = response.body.bytes().map(<[u8]>::len);
        response
    }

    fn refused(&self, refused: &Refused<'_>) {
        if !log::log_enabled!(target: TARGET, log::Level::Info) {
            return;
        }
        let now = maniple::time::system_now();
        match self.format {
            Format::Json => log::info!(target: TARGET, "{}", refused_json(refused, now)),
            format => log::info!(target: TARGET, "{}", refused_line(refused, format, now)),
        }
    }
}

/// What a client said that is told.
struct Said {
    peer: String,
    method: String,
    target: String,
    version: &'static str,
    referer: Option<String>,
    user_agent: Option<String>,
}

impl Said {
    fn of(request: &Request) -> Self {
        let field = |name| request.header(name).map(escaped);
        let target = match request.query() {
            Some(query) => format!("{}?{query}", request.path()),
            None => request.path().to_owned(),
        };
        Self {
            peer: name(request.peer()),
            method: request.method().to_string(),
            target: target.escape_default().to_string().replace("\\'", "'"),
            version: match request.version() {
                http::Version::HTTP_10 => "HTTP/1.0",
                http::Version::HTTP_2 => "HTTP/2.0",
                _ => "HTTP/1.1",
            },
            referer: field("referer"),
            user_agent: field("user-agent"),
        }
    }
}

/// Who sent it, without the port.
fn name(peer: &Peer) -> String {
    match peer {
        Peer::Tcp(address) => address.ip().to_string(),
        other => other.to_string(),
    }
}

fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace("\\'", "'")
}

/// As of a request, as far as it came.
fn refused_line(refused: &Refused<'_>, format: Format, now: SystemTime) -> String {
    let (peer, time) = (name(refused.peer()), Clf(now));
    let request = match refused.line() {
        [] => "-".to_owned(),
        line => escaped(line),
    };
    let status = refused.status().as_u16();
    let rest = match format {
        Format::Combined => " \"-\" \"-\" 0.000000",
        _ => "",
    };
    format!("{peer} - - [{time}] \"{request}\" {status} -{rest}")
}

fn refused_json(refused: &Refused<'_>, now: SystemTime) -> serde_json::Value {
    serde_json::json!({
        "time": Rfc3339(now).to_string(),
        "peer": name(refused.peer()),
        "line": escaped(refused.line()),
        "status": refused.status().as_u16(),
        "reason": refused.reason(),
    })
}

/// A request that is being answered; its line is logged when it is dropped.
struct Entry {
    format: Format,
    taken_up: SystemTime,
    began: Instant,
    said: Said,
    route: Option<&'static str>,
    status: u16,
    bytes: Option<usize>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let took = maniple::time::now().saturating_duration_since(self.began);
        maniple::panics::catch(|| match self.format {
            Format::Json => log::info!(target: TARGET, "{}", self.json(took)),
            _ => log::info!(target: TARGET, "{}", self.line(took)),
        });
    }
}

impl Entry {
    fn line(&self, took: Duration) -> String {
        let Said {
            peer,
            method,
            target,
            version,
            referer,
            user_agent,
        } = &self.said;
        let mut line = format!(
            "{peer} - - [{}] \"{method} {target} {version}\" {} ",
            Clf(self.taken_up),
            self.status
        );
        let _infallible = match self.bytes {
            Some(bytes) => write!(line, "{bytes}"),
            None => line.write_char('-'),
        };
        if let Format::Combined = self.format {
            let or_dash = |text: &'_ Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            let _infallible = write!(
                line,
                " \"{}\" \"{}\" {:.6}",
                or_dash(referer),
                or_dash(user_agent),
                took.as_secs_f64()
            );
        }
        line
    }

    fn json(&self, took: Duration) -> serde_json::Value {
        let said = &self.said;
        let mut object = serde_json::json!({
            "time": Rfc3339(self.taken_up).to_string(),
            "peer": said.peer,
            "method": said.method,
            "target": said.target,
            "version": said.version,
            "status": self.status,
            "seconds": took.as_secs_f64(),
        });
        let optional = [
            ("route", self.route.map(Into::into)),
            ("bytes", self.bytes.map(Into::into)),
            ("referer", said.referer.clone().map(Into::into)),
            ("user_agent", said.user_agent.clone().map(Into::into)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                object[name] = value;
            }
        }
        object
    }
}

/// A time as in `10/Oct/2000:13:55:36 +0000`.
struct Clf(SystemTime);

impl fmt::Display for Clf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As in `Tue, 10 Oct 2000 13:55:36 GMT`.
        let date = httpdate::fmt_http_date(self.0);
        let (day, month, year) = (&date[5..7], &date[8..11], &date[12..16]);
        write!(f, "{day}/{month}/{year}:{} +0000", &date[17..25])
    }
}

/// A time as in `2000-10-10T13:55:36Z`.
struct Rfc3339(SystemTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        let date = httpdate::fmt_http_date(self.0);
        let month = MONTHS.find(&date[8..11]).map_or(0, |at| at / 3 + 1);
        let (day, year) = (&date[5..7], &date[12..16]);
        write!(f, "{year}-{month:02}-{day}T{}Z", &date[17..25])
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn entry(format: Format, request: &Request) -> Entry {
        Entry {
            format,
            taken_up: UNIX_EPOCH + Duration::from_secs(971_186_136),
            began: maniple::time::now(),
            said: Said::of(request),
            route: Some("/users/{id}"),
            status: 200,
            bytes: Some(2326),
        }
    }

    #[test]
    fn lines_are_as_readers_of_logs_expect_them() {
        let request = Request::for_test("GET", "/users/7?q=a").with_header("user-agent", "curl/8");
        let peer = request.peer().to_string();
        let common = format!(
            "{peer} - - [10/Oct/2000:13:55:36 +0000] \"GET /users/7?q=a HTTP/1.1\" 200 2326"
        );
        let took = Duration::from_millis(5);
        assert_eq!(entry(Format::Common, &request).line(took), common);
        assert_eq!(
            entry(Format::Combined, &request).line(took),
            common + " \"-\" \"curl/8\" 0.005000"
        );
        let json = entry(Format::Json, &request).json(took);
        assert_eq!(json["time"], "2000-10-10T13:55:36Z");
        assert_eq!(json["route"], "/users/{id}");
        assert_eq!(json["bytes"], 2326);
        assert_eq!(json.get("referer"), None);
    }

    #[test]
    fn what_a_client_sent_can_neither_end_a_line_nor_command_a_terminal() {
        let request = Request::for_test("GET", "/").with_header("user-agent", "\"a\tb\u{9b}\\");
        let line = entry(Format::Combined, &request).line(Duration::ZERO);
        assert!(line.contains(r#" "\"a\tb\xc2\x9b\\" "#), "{line}");
        assert!(line.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }

    #[test]
    fn what_was_no_request_is_told_as_far_as_it_came() {
        let at = UNIX_EPOCH + Duration::from_secs(971_186_136);
        let refused = |line: &'static [u8]| {
            Refused::new(
                &Peer::Memory,
                http::StatusCode::BAD_REQUEST,
                "invalid method",
                line,
            )
        };
        let peer = Peer::Memory.to_string();
        assert_eq!(
            refused_line(&refused(b"G\x1b[2J\"T /\r\nA: b"), Format::Common, at),
            format!(r#"{peer} - - [10/Oct/2000:13:55:36 +0000] "G\x1b[2J\"T /" 400 -"#)
        );
        assert_eq!(
            refused_line(&refused(b""), Format::Combined, at),
            format!(r#"{peer} - - [10/Oct/2000:13:55:36 +0000] "-" 400 - "-" "-" 0.000000"#)
        );
        let json = refused_json(&refused(b"GE T /"), at);
        assert_eq!(json["line"], "GE T /");
        assert_eq!(json["reason"], "invalid method");
        assert_eq!(json["status"], 400);
    }

    #[test]
    fn months_have_their_numbers() {
        for (days, date) in [
            (0, "1970-01-01"),
            (364, "1970-12-31"),
            (11_016, "2000-02-29"),
        ] {
            let time = UNIX_EPOCH + Duration::from_secs(days * 86_400);
            assert_eq!(Rfc3339(time).to_string(), format!("{date}T00:00:00Z"));
        }
    }
}
