//! Cookies that servers have set, for the next requests to them.
//!
//! A cookie stays with the scheme, host and port that set it, whatever its `Domain` says: which domains are one owner's only a
//! list could tell (the public suffix list), and services that a program calls do not share logins by name.

use std::{collections::HashMap, time::UNIX_EPOCH};

use cookie::{Cookie, Expiration};
use http::{HeaderMap, HeaderValue, header::SET_COOKIE};
use maniple::sync::Mutex;

use super::url::Url;

/// Cookies by the origin that set them.
#[derive(Debug, Default)]
pub(super) struct Jar {
    origins: Mutex<HashMap<String, Kept>>,
}

#[derive(Debug, Default)]
struct Kept {
    cookies: Vec<Set>,
    /// When they were last sent or set, in seconds.
    used: u64,
}

#[derive(Debug)]
struct Set {
    name: String,
    value: String,
    path: String,
    /// In seconds; none ends with the client.
    until: Option<u64>,
}

/// A cookie's name and value; cookies of an origin; origins; bytes that are sent.
const MAX_COOKIE: usize = 4096;
const MAX_COOKIES: usize = 50;
const MAX_ORIGINS: usize = 256;
const MAX_SENT: usize = 16 * 1024;

impl Jar {
    /// What `Cookie` says in a request for that URL.
    pub(super) fn field(&self, url: &Url<'_>) -> Option<HeaderValue> {
        let now = seconds();
        let mut origins = self.origins.lock();
        let kept = origins.get_mut(&origin(url))?;
        kept.used = now;
        kept.cookies.retain(|set| !set.is_over(now));
        let path = path(url);
        let is_meant = |set: &&Set| set.is_for(&path);
        let mut meant: Vec<&Set> = kept.cookies.iter().filter(is_meant).collect();
        // The more particular first (RFC 6265, 5.4); of those alike, the elder.
        meant.sort_by_key(|set| std::cmp::Reverse(set.path.len()));
        let mut field = String::new();
        for set in meant {
            let separator = if field.is_empty() { "" } else { "; " };
            let pair = format!("{separator}{}={}", set.name, set.value);
            if field.len() + pair.len() <= MAX_SENT {
                field += &pair;
            }
        }
        let mut field = HeaderValue::try_from(field)
            .ok()
            .filter(|field| !field.is_empty())?;
        field.set_sensitive(true);
        Some(field)
    }

    /// Keeps what an answer from that URL sets.
    pub(super) fn keep(&self, url: &Url<'_>, headers: &HeaderMap) {
        for line in headers.get_all(SET_COOKIE) {
            let parsed = line.to_str().ok().and_then(|line| Cookie::parse(line).ok());
            if let Some(cookie) = parsed {
                self.set(url, &cookie);
            }
        }
    }

    fn set(&self, url: &Url<'_>, cookie: &Cookie<'_>) {
        let (name, value) = cookie.name_value();
        let is_secure = cookie.secure() == Some(true);
        let says_root = cookie.path() == Some("/");
        let is_allowed = !name.is_empty()
            && name.len() + value.len() <= MAX_COOKIE
            && HeaderValue::from_str(name).is_ok()
            && HeaderValue::from_str(value).is_ok()
            && (url.is_secure || !is_secure)
            && cookie
                .domain()
                .is_none_or(|domain| is_within(url.name(), domain))
            && (!name.starts_with("__Secure-") || is_secure)
            && (!name.starts_with("__Host-")
                || is_secure && says_root && cookie.domain().is_none());
        if !is_allowed {
            return;
        }
        let now = seconds();
        let until = match (cookie.max_age(), cookie.expires()) {
            // It is the stronger word of the two.
            (Some(age), _) => Some(now.saturating_add_signed(age.whole_seconds())),
            (None, Some(Expiration::DateTime(at))) => {
                Some(u64::try_from(at.unix_timestamp()).unwrap_or(0))
            }
            _ => None,
        };
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path.to_owned(),
            // The folder of what was asked for.
            _ => match path(url).rsplit_once('/') {
                Some((folder, _)) if !folder.is_empty() => folder.to_owned(),
                _ => "/".to_owned(),
            },
        };
        let set = Set {
            name: name.to_owned(),
            value: value.to_owned(),
            path,
            until,
        };
        let mut origins = self.origins.lock();
        let origin = origin(url);
        if origins.len() >= MAX_ORIGINS && !origins.contains_key(&origin) {
            // Of those of the same second, the same each time.
            let oldest = origins
                .iter()
                .min_by_key(|(origin, kept)| (kept.used, *origin));
            if let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) {
                origins.remove(&oldest);
            }
        }
        let kept = origins.entry(origin).or_default();
        kept.used = now;
        kept.cookies.retain(|other| !other.is_over(now));
        let same = |other: &Set| other.name == set.name && other.path == set.path;
        let before = kept.cookies.iter().position(same);
        match (before, set.is_over(now)) {
            (Some(at), true) => drop(kept.cookies.remove(at)),
            (Some(at), false) => kept.cookies[at] = set,
            (None, true) => {}
            (None, false) => {
                if kept.cookies.len() >= MAX_COOKIES {
                    kept.cookies.remove(0);
                }
                kept.cookies.push(set);
            }
        }
    }
}

impl Set {
    fn is_over(&self, now: u64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// Whether that path is the cookie's, or below it (RFC 6265, 5.1.4).
    fn is_for(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| {
            rest.is_empty() || self.path.ends_with('/') || rest.starts_with('/')
        })
    }
}

fn origin(url: &Url<'_>) -> String {
    let scheme = if url.is_secure { "https" } else { "http" };
    format!("{scheme}://{}", url.address()).to_ascii_lowercase()
}

fn path(url: &Url<'_>) -> String {
    let mut target = Vec::new();
    url.write_target(&mut target);
    let end = target.iter().position(|&byte| byte == b'?');
    target.truncate(end.unwrap_or(target.len()));
    String::from_utf8(target).unwrap_or_default()
}

/// Whether a host is of that domain, or is it.
fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.').to_ascii_lowercase();
    let rest = host.to_ascii_lowercase();
    let rest = rest.strip_suffix(&domain);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn seconds() -> u64 {
    let now = maniple::time::system_now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(from: &str, lines: &[&str]) -> Jar {
        let jar = Jar::default();
        add(&jar, from, lines);
        jar
    }

    fn add(jar: &Jar, from: &str, lines: &[&str]) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SET_COOKIE, HeaderValue::from_str(line).unwrap());
        }
        jar.keep(&Url::parse(from).unwrap(), &headers);
    }

    fn sent(jar: &Jar, to: &str) -> String {
        let field = jar.field(&Url::parse(to).unwrap());
        field.map_or(String::new(), |field| field.to_str().unwrap().to_owned())
    }

    #[test]
    fn cookies_stay_with_who_has_set_them() {
        let jar = jar(
            "http://a.test/",
            &["s=1", "wide=2; Domain=test", "odd=3; Domain=b.test"],
        );
        assert_eq!(sent(&jar, "http://a.test/"), "s=1; wide=2");
        assert_eq!(sent(&jar, "http://A.test:80/x"), "s=1; wide=2");
        for elsewhere in [
            "http://a.test:81/",
            "https://a.test/",
            "http://b.a.test/",
            "http://test/",
            "http://b.test/",
        ] {
            assert_eq!(sent(&jar, elsewhere), "", "{elsewhere}");
        }
    }

    #[test]
    fn cookies_are_for_paths_and_the_more_particular_comes_first() {
        let lines = [
            "all=1; Path=/",
            "deep=2; Path=/a/b",
            "own=3",
            "odd=4; Path=x",
        ];
        let jar = jar("http://h/a/page?q=/z", &lines);
        assert_eq!(sent(&jar, "http://h/"), "all=1");
        assert_eq!(sent(&jar, "http://h/ab"), "all=1");
        assert_eq!(sent(&jar, "http://h/a"), "own=3; odd=4; all=1");
        assert_eq!(
            sent(&jar, "http://h/a/b/c?d"),
            "deep=2; own=3; odd=4; all=1"
        );
    }

    #[test]
    fn cookies_end_and_are_replaced() {
        let jar = jar("http://h/", &["a=1", "b=2; Max-Age=1000", "c=3; Max-Age=0"]);
        assert_eq!(sent(&jar, "http://h/"), "a=1; b=2");
        let past = "b=; Expires=Thu, 01 Jan 1970 00:00:00 GMT";
        add(
            &jar,
            "http://h/",
            &["a=4", past, "d=5; Max-Age=-9223372036854775808"],
        );
        assert_eq!(sent(&jar, "http://h/"), "a=4");
        add(&jar, "http://h/", &["e=6; Max-Age=9223372036854775807"]);
        assert_eq!(sent(&jar, "http://h/"), "a=4; e=6");
    }

    #[test]
    fn promises_of_names_are_kept() {
        let lines = [
            "__Secure-a=1",
            "__Host-b=1; Secure; Path=/; Domain=h",
            "__Host-c=1; Secure; Path=/x",
            "__Host-d=1; Secure; Path=/",
            "e=1; Secure",
        ];
        assert_eq!(
            sent(&jar("https://h/", &lines), "https://h/x"),
            "__Host-d=1; e=1"
        );
        assert_eq!(sent(&jar("http://h/", &lines), "http://h/x"), "");
    }

    #[test]
    fn a_server_fills_its_own_shelf_and_no_other() {
        let all = jar("http://kept/", &["mine=1"]);
        let many: Vec<String> = (0..500)
            .map(|n| format!("c{n}={}", "x".repeat(1000)))
            .collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        add(&all, "http://greedy/", &many);
        let too_long = format!("long={}", "x".repeat(5000));
        add(&all, "http://greedy/", &[&too_long]);
        let field = sent(&all, "http://greedy/");
        assert!(field.len() <= MAX_SENT && !field.contains("long="));
        assert_eq!(
            all.origins.lock()["http://greedy:80"].cookies.len(),
            MAX_COOKIES
        );
        assert_eq!(sent(&all, "http://kept/"), "mine=1");
        for n in 0..1000 {
            add(&all, &format!("http://h{n}/"), &["a=1"]);
        }
        assert_eq!(all.origins.lock().len(), MAX_ORIGINS);
    }
}
