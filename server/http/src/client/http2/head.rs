//! Heads of requests and answers, as HTTP/2 has them.

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Uri, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
        UPGRADE,
    },
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::{
    client::{
        error::ClientError,
        head::{Outgoing, expects_body, time_left},
        manner::Manner,
    },
    trace_context::{TRACEPARENT, TRACESTATE, trace_context},
};

/// The head of a request. Fields that are for one connection of HTTP/1.1 stay behind (RFC 9113, 8.2.2).
pub(super) fn of_request(
    request: &Outgoing<'_>,
    manner: &Manner,
) -> Result<Request<()>, ClientError> {
    let mut head = Request::new(());
    *head.method_mut() = request.method.clone();
    *head.version_mut() = Version::HTTP_2;
    *head.uri_mut() = uri_of(request)?;
    let fields = head.headers_mut();
    fields.reserve(request.headers.len() + 4);
    for (name, value) in request.headers {
        if !is_left_out(name, request.headers) {
            fields.append(name, value.clone());
        }
    }
    let takes_trailers = |value: &HeaderValue| {
        let mut items = value.as_bytes().split(|&byte| byte == b',');
        items.any(|item| item.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    };
    if request.headers.get_all(TE).iter().any(takes_trailers) {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(name) = &manner.deadline
        && !fields.contains_key(name)
        && let Some(left) = time_left(request.until)
    {
        fields.insert(name, HeaderValue::from(left));
    }
    if !fields.contains_key(TRACEPARENT)
        && let Some(context) = trace_context()
    {
        let (parent, state) = context.for_call();
        fields.insert(TRACEPARENT, parent);
        if let Some(state) = state.filter(|_| !request.headers.contains_key(TRACESTATE)) {
            fields.insert(TRACESTATE, state);
        }
    }
    if request.expect.is_some() {
        fields.insert(EXPECT, HeaderValue::from_static("100-continue"));
    }
    let length = match request.streamed {
        Some(length) => length,
        None if !request.body.is_empty() || expects_body(request.method) => {
            Some(request.body.len() as u64)
        }
        None => None,
    };
    if let Some(length) = length {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(head)
}

fn uri_of(request: &Outgoing<'_>) -> Result<Uri, ClientError> {
    let bad_host = || ClientError::Header {
        name: HOST.to_string(),
    };
    let authority = match request.headers.get(HOST) {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(|_| bad_host())?,
        None => Authority::try_from(request.url.authority).map_err(|error| url(request, &error))?,
    };
    let mut target = Vec::new();
    request.url.write_target(&mut target);
    let target = PathAndQuery::try_from(target).map_err(|error| url(request, &error))?;
    let scheme = match request.url.is_secure {
        true => Scheme::HTTPS,
        false => Scheme::HTTP,
    };
    let uri = Uri::builder().scheme(scheme).authority(authority);
    let uri = uri.path_and_query(target).build();
    uri.map_err(|error| url(request, &error))
}

fn url(request: &Outgoing<'_>, error: &dyn std::error::Error) -> ClientError {
    ClientError::Url {
        url: request.url.origin.to_owned(),
        reason: error.to_string(),
    }
}

/// Whether a field is for the connection, or is said otherwise.
fn is_left_out(name: &HeaderName, headers: &HeaderMap) -> bool {
    const OWN: [HeaderName; 10] = [
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        HOST,
        HeaderName::from_static("keep-alive"),
        PROXY_AUTHORIZATION,
        HeaderName::from_static("proxy-connection"),
        TE,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    if OWN.contains(name) {
        return true;
    }
    let named = headers.get_all(CONNECTION).iter();
    let mut named = named.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    named.any(|item| {
        item.trim_ascii()
            .eq_ignore_ascii_case(name.as_str().as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Method;

    use super::*;
    use crate::client::url::Url;

    #[test]
    fn what_is_for_one_connection_stays_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-hop"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip, trailers"),
            ("x-hop", "1"),
            ("x-end", "2"),
            ("host", "other.test"),
            ("cookie", "a=1; b=2"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let request = Outgoing {
            method: &Method::POST,
            url: Url::parse("https://h:8443?q").unwrap(),
            headers: &headers,
            body: &Bytes::from_static(b"four"),
            streamed: None,
            expect: None,
            until: None,
            key: None,
        };
        let head = of_request(&request, &Manner::default()).unwrap();
        assert_eq!(head.uri(), "https://other.test/?q");
        let mut fields: Vec<_> = head
            .headers()
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        fields.sort();
        let expected = [
            "content-length: 4",
            "cookie: a=1; b=2",
            "te: trailers",
            "x-end: 2",
        ];
        assert_eq!(fields, expected);
    }
}
