//! Where an answer sends a client to, and what of its request may go there (RFC 9110, 15.4).

use http::{
    HeaderMap, HeaderName, Method, StatusCode,
    header::{
        ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CACHE_CONTROL, EXPECT, LOCATION,
        RANGE, TE, TRAILER, TRANSFER_ENCODING, USER_AGENT,
    },
};

use super::{error::ClientError, url::Url};
use crate::http1::reference;

/// The request to make next.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) method: Method,
    pub(super) url: String,
    /// Whether the body goes there too.
    pub(super) keeps_body: bool,
    /// Whether that is another scheme, host or port.
    pub(super) is_elsewhere: bool,
}

/// Where the answer to `method` at `url` sends its client to, if anywhere.
///
/// # Errors
/// If it names no place that can be asked, or one that is less safe.
pub(super) fn next(
    status: StatusCode,
    headers: &HeaderMap,
    method: &Method,
    url: &str,
) -> Result<Option<Next>, ClientError> {
    let (method, keeps_body) = match status {
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND if *method == Method::POST => {
            (Method::GET, false)
        }
        StatusCode::SEE_OTHER if *method == Method::HEAD => (Method::HEAD, false),
        StatusCode::SEE_OTHER => (Method::GET, false),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => (method.clone(), true),
        _ => return Ok(None),
    };
    let mut named = headers.get_all(LOCATION).iter();
    let Some(location) = named.next() else {
        return Ok(None);
    };
    let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
    let refused = |reason: &str| ClientError::Redirect {
        url: url.to_owned(),
        location: location.clone(),
        reason: reason.to_owned(),
    };
    if named.any(|other| other.as_bytes() != location.as_bytes()) {
        return Err(refused("it names several places"));
    }
    let from = Url::parse(url)?;
    let target = resolve(&from, location.trim()).map_err(refused)?;
    let to = Url::parse(&target).map_err(|error| match error {
        ClientError::Url { reason, .. } => refused(&reason),
        error => error,
    })?;
    if from.is_secure && !to.is_secure {
        return Err(refused("it leads from https to http"));
    }
    let is_elsewhere =
        from.is_secure != to.is_secure || !from.address().eq_ignore_ascii_case(&to.address());
    Ok(Some(Next {
        method,
        keeps_body,
        is_elsewhere,
        url: target,
    }))
}

impl Next {
    /// Takes out of the fields of the request what may not go there, or has no meaning there.
    pub(super) fn keep_fields(&self, headers: &mut HeaderMap) {
        /// What says what a client can do, and nothing of who it is.
        const SAFE: [HeaderName; 8] = [
            ACCEPT,
            ACCEPT_CHARSET,
            ACCEPT_ENCODING,
            ACCEPT_LANGUAGE,
            CACHE_CONTROL,
            RANGE,
            TE,
            USER_AGENT,
        ];
        let of_body = |name: &HeaderName| {
            name.as_str().starts_with("content-")
                || [EXPECT, TRAILER, TRANSFER_ENCODING].contains(name)
        };
        let goes = |name: &HeaderName| match of_body(name) {
            true => self.keeps_body,
            false => !self.is_elsewhere || SAFE.contains(name),
        };
        let names = headers.keys().filter(|name| !goes(name));
        for name in names.cloned().collect::<Vec<_>>() {
            headers.remove(name);
        }
    }
}

/// The URL that a reference means in an answer from there (RFC 3986, 5.2), without its fragment.
fn resolve(from: &Url<'_>, reference: &str) -> Result<String, &'static str> {
    let reference = reference.split('#').next().unwrap_or(reference);
    let reference = reference::encoded(reference);
    let scheme_end = reference.find([':', '/', '?']);
    if let Some(at) = scheme_end.filter(|&at| reference[at..].starts_with(':')) {
        if !reference[at..].starts_with("://") {
            return Err("it leads to no host");
        }
        return Ok(with_plain_path(&reference));
    }
    let scheme = if from.is_secure { "https" } else { "http" };
    if reference.starts_with("//") {
        return Ok(with_plain_path(&format!("{scheme}:{reference}")));
    }
    let base = format!("{scheme}://{}", from.authority);
    let mut target = Vec::new();
    from.write_target(&mut target);
    let target = String::from_utf8(target).map_err(|_| "the URL was no text")?;
    let (path, _) = split_query(&target);
    let joined = match reference.as_bytes().first() {
        None => target,
        Some(b'/') => reference,
        Some(b'?') => format!("{path}{reference}"),
        Some(_) => {
            let folder = path.rfind('/').map_or("/", |at| &path[..=at]);
            format!("{folder}{reference}")
        }
    };
    Ok(with_plain_path(&(base + &joined)))
}

fn split_query(target: &str) -> (&str, &str) {
    target.split_at(target.find('?').unwrap_or(target.len()))
}

/// The URL with the dots of its path followed (RFC 3986, 5.2.4).
fn with_plain_path(url: &str) -> String {
    let after_scheme = url.find("://").map_or(0, |at| at + "://".len());
    let path_at = url[after_scheme..].find(['/', '?']);
    let Some(path_at) = path_at.map(|at| after_scheme + at) else {
        return url.to_owned();
    };
    let (host, target) = url.split_at(path_at);
    let (path, query) = split_query(target);
    let mut kept: Vec<&str> = Vec::new();
    let segments = path.split('/').skip(1);
    let mut ends_in_folder = false;
    for segment in segments {
        ends_in_folder = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if ends_in_folder {
        kept.push("");
    }
    format!("{host}/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn at(status: u16, method: Method, url: &str, location: &str) -> Result<Option<Next>, String> {
        let mut headers = HeaderMap::new();
        let location = HeaderValue::from_bytes(location.as_bytes()).unwrap();
        headers.insert(LOCATION, location);
        next(
            StatusCode::from_u16(status).unwrap(),
            &headers,
            &method,
            url,
        )
        .map_err(|error| error.to_string())
    }

    fn led_to(url: &str, location: &str) -> String {
        at(307, Method::GET, url, location).unwrap().unwrap().url
    }

    /// The examples of RFC 3986, 5.4, but for those that name no host and those of other schemes.
    #[test]
    fn references_mean_what_the_rfc_says() {
        for (reference, target) in [
            ("g", "/b/c/g"),
            ("./g", "/b/c/g"),
            ("g/", "/b/c/g/"),
            ("/g", "/g"),
            ("?y", "/b/c/d;p?y"),
            ("g?y", "/b/c/g?y"),
            ("#s", "/b/c/d;p?q"),
            ("g#s", "/b/c/g"),
            (";x", "/b/c/;x"),
            ("", "/b/c/d;p?q"),
            (".", "/b/c/"),
            ("./", "/b/c/"),
            ("..", "/b/"),
            ("../", "/b/"),
            ("../g", "/b/g"),
            ("../..", "/"),
            ("../../g", "/g"),
            ("../../../g", "/g"),
            ("/./g", "/g"),
            ("/../g", "/g"),
            ("g.", "/b/c/g."),
            ("..g", "/b/c/..g"),
            ("./g/.", "/b/c/g/"),
            ("g/./h", "/b/c/g/h"),
            ("g/../h", "/b/c/h"),
            ("g;x=1/../y", "/b/c/y"),
            ("g?y/../x", "/b/c/g?y/../x"),
            ("g#s/../x", "/b/c/g"),
        ] {
            let meant = led_to("http://a/b/c/d;p?q", reference);
            assert_eq!(meant, format!("http://a{target}"), "{reference}");
        }
        for (url, reference, meant) in [
            ("http://a/b", "//g", "http://g"),
            ("https://a/b", "//g/x?y", "https://g/x?y"),
            ("http://a:81/b", "HTTP://g:82/../x", "HTTP://g:82/x"),
            ("http://a", "b", "http://a/b"),
            ("http://a?q", "?r", "http://a/?r"),
            ("http://[::1]:9/", "x:y", ""),
            (
                "http://a/",
                "/a b/ä?c[]=\"",
                "http://a/a%20b/%C3%A4?c[]=%22",
            ),
            ("http://a/", "  /padded ", "http://a/padded"),
            ("http://a/b//c", "d", "http://a/b//d"),
        ] {
            if meant.is_empty() {
                assert!(at(307, Method::GET, url, reference).is_err());
            } else {
                assert_eq!(led_to(url, reference), meant, "{url} {reference}");
            }
        }
    }

    #[test]
    fn methods_and_bodies_go_as_status_and_method_say() {
        for (status, method, then, keeps_body) in [
            (301, Method::POST, Method::GET, false),
            (302, Method::POST, Method::GET, false),
            (303, Method::POST, Method::GET, false),
            (307, Method::POST, Method::POST, true),
            (308, Method::POST, Method::POST, true),
            (301, Method::PUT, Method::PUT, true),
            (302, Method::DELETE, Method::DELETE, true),
            (303, Method::PUT, Method::GET, false),
            (303, Method::HEAD, Method::HEAD, false),
            (301, Method::HEAD, Method::HEAD, true),
        ] {
            let next = at(status, method.clone(), "http://a/", "/b").unwrap();
            let next = next.unwrap();
            let found = (next.method, next.keeps_body);
            assert_eq!(found, (then, keeps_body), "{status} {method}");
        }
        for status in [200, 201, 300, 304, 305, 404] {
            assert_eq!(
                at(status, Method::GET, "http://a/", "/b"),
                Ok(None),
                "{status}"
            );
        }
        let nowhere = next(
            StatusCode::FOUND,
            &HeaderMap::new(),
            &Method::GET,
            "http://a/",
        );
        assert!(nowhere.unwrap().is_none());
    }

    #[test]
    fn what_cannot_be_followed_safely_is_an_error_that_says_why() {
        for (url, location, reason) in [
            ("https://a/", "http://a/", "https to http"),
            ("http://a/", "ftp://a/", "only http"),
            ("http://a/", "mailto:b@a", "no host"),
            ("http://a/", "//", "no host"),
            ("http://a/", "http://u:p@b/", "user information"),
            ("http://a/", "/100%", "%25"),
        ] {
            let error = at(302, Method::GET, url, location).unwrap_err();
            assert!(
                error.contains(reason) && error.contains(location),
                "{error}"
            );
        }
        let mut headers = HeaderMap::new();
        headers.append(LOCATION, HeaderValue::from_static("/a"));
        headers.append(LOCATION, HeaderValue::from_static("/b"));
        let error = next(StatusCode::FOUND, &headers, &Method::GET, "http://a/").unwrap_err();
        assert!(error.to_string().contains("several"), "{error}");
    }

    #[test]
    fn another_scheme_host_or_port_is_elsewhere_and_is_told_no_secrets() {
        for (url, location, is_elsewhere) in [
            ("http://a/", "/b", false),
            ("http://a/", "http://A:80/b", false),
            ("https://a:443/", "https://a/", false),
            ("http://a/", "https://a/", true),
            ("http://a/", "http://a:81/", true),
            ("http://a/", "http://b.a/", true),
        ] {
            let next = at(308, Method::PUT, url, location).unwrap().unwrap();
            assert_eq!(next.is_elsewhere, is_elsewhere, "{url} {location}");
        }
        let fields = || {
            let names = [
                "authorization",
                "cookie",
                "x-api-key",
                "accept",
                "host",
                "content-type",
                "expect",
            ];
            let named = |name| (HeaderName::from_static(name), HeaderValue::from_static("v"));
            names.map(named).into_iter().collect::<HeaderMap>()
        };
        let left = |status, method, location| {
            let next = at(status, method, "http://a/", location).unwrap().unwrap();
            let mut fields = fields();
            next.keep_fields(&mut fields);
            let mut names: Vec<_> = fields.keys().map(|name| name.to_string()).collect();
            names.sort();
            names.join(" ")
        };
        let all = "accept authorization content-type cookie expect host x-api-key";
        assert_eq!(left(307, Method::PUT, "/b"), all);
        assert_eq!(
            left(307, Method::PUT, "http://b/"),
            "accept content-type expect"
        );
        assert_eq!(
            left(303, Method::PUT, "/b"),
            "accept authorization cookie host x-api-key"
        );
        assert_eq!(left(303, Method::PUT, "http://b/"), "accept");
    }
}
