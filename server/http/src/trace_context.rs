//! W3C Trace Context: which trace a request belongs to, in all of its log lines and its calls.

use std::{
    cell::RefCell,
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderName, HeaderValue};
use maniple::coroutine_local;

coroutine_local! {
    /// That of the request which the coroutine, or the one that spawned it, answers.
    static CURRENT: RefCell<Option<Arc<TraceContext>>> = RefCell::new(None), inherited;
}

/// A request's place in a trace (W3C Trace Context): as `traceparent` and `tracestate` say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext {
    trace_id: u128,
    parent_id: Option<u64>,
    span_id: u64,
    flags: u8,
    state: Option<HeaderValue>,
}

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Flags that level 2 knows: sampled, and a trace id that is random.
const SAMPLED: u8 = 0b01;
const RANDOM: u8 = 0b10;
const KNOWN: u8 = SAMPLED | RANDOM;

/// What is kept of `tracestate`: its members, and bytes in all (W3C Trace Context, 3.3.1.1 and 3.3.1.5).
const MOST_MEMBERS: usize = 32;
const MOST_STATE: usize = 512;

impl TraceContext {
    /// That of a request with these fields: of the trace that they name, or of a new one.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut said = headers.get_all(TRACEPARENT).iter();
        let parent = match (said.next(), said.next()) {
            (Some(one), None) => parse(one.as_bytes()),
            // Two are none.
            _ => None,
        };
        match parent {
            Some((trace_id, parent_id, flags)) => Self {
                trace_id,
                parent_id: Some(parent_id),
                span_id: fresh_id(),
                flags: flags & KNOWN,
                state: state(headers),
            },
            None => Self {
                trace_id: u128::from(fresh_id()) << 64 | u128::from(fresh_id()),
                parent_id: None,
                span_id: fresh_id(),
                flags: 0,
                state: None,
            },
        }
    }

    /// The trace's id: 32 hexadecimal digits.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    /// The id of this server's part in it: 16 hexadecimal digits.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span_id)
    }

    /// The id of who asked, if the trace was taken over.
    pub fn parent_id(&self) -> Option<String> {
        self.parent_id.map(|id| format!("{id:016x}"))
    }

    /// What who asked said as `traceparent`, if the trace was taken over, with the flags that level 2 knows; with
    /// [`state`](Self::state) it is what a span of OpenTelemetry takes for its parent.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Router, middleware::{Trace, trace_context}};
    ///
    /// let router = Router::new().with(Trace::new()).get("/", |_: &mut Request| {
    ///     trace_context().unwrap().parent().unwrap_or_default()
    /// });
    /// let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    /// let mut request = Request::for_test("GET", "/").with_header("traceparent", caller);
    /// assert_eq!(router.answer(&mut request).into_text().unwrap(), caller);
    /// ```
    pub fn parent(&self) -> Option<String> {
        let caller = Self {
            span_id: self.parent_id?,
            state: None,
            ..*self
        };
        Some(caller.to_string())
    }

    /// Whether who asked keeps what it records of the trace; a new one is not sampled.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// `tracestate` as it came, if the trace was taken over.
    pub fn state(&self) -> Option<&str> {
        self.state.as_ref()?.to_str().ok()
    }

    /// What a call to another service carries: the same trace, and an id of its own.
    pub(crate) fn for_call(&self) -> (HeaderValue, Option<HeaderValue>) {
        let call = Self {
            span_id: fresh_id(),
            ..self.clone()
        };
        let parent = HeaderValue::from_str(&call.to_string());
        (parent.expect("digits and hyphens"), call.state)
    }
}

/// As `traceparent`: `00-TRACE-SPAN-FLAGS`.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trace_id,
            span_id,
            flags,
            ..
        } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{flags:02x}")
    }
}

/// The trace of the request that this coroutine, or the one that spawned it, answers; `None` without a
/// [`Trace`](crate::middleware::Trace).
pub fn trace_context() -> Option<Arc<TraceContext>> {
    // Not made for a look: each coroutine that is spawned would have to inherit it.
    let current = CURRENT.with_made(|current| current.try_borrow().ok()?.clone());
    current.flatten()
}

/// Makes it the coroutine's own; the former comes back when this is dropped, since a coroutine answers one request after
/// the other.
pub(crate) struct Entered(Option<Arc<TraceContext>>);

impl Entered {
    pub(crate) fn into(context: TraceContext) -> Self {
        Self(CURRENT.replace(Some(Arc::new(context))))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// Trace, parent and flags (W3C Trace Context, 3.2.2). Of a later version what this one knows, if it is there whole.
fn parse(text: &[u8]) -> Option<(u128, u64, u8)> {
    let text = text.trim_ascii();
    let (known, rest) = text.split_at_checked(55)?;
    let [version, trace, parent, flags] =
        [&known[..2], &known[3..35], &known[36..52], &known[53..]];
    let hyphens = [2, 35, 52].map(|at| known[at]);
    let version = number(version)?;
    let is_whole = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => matches!(rest, [] | [b'-', ..]),
    };
    if hyphens != *b"---" || !is_whole {
        return None;
    }
    let (trace, parent) = (number(trace)?, number(parent)?);
    let flags = u8::try_from(number(flags)?).ok()?;
    match (trace, u64::try_from(parent).ok()?) {
        (0, _) | (_, 0) => None,
        (trace, parent) => Some((trace, parent, flags)),
    }
}

/// Hexadecimal digits in lower case; others are none.
fn number(digits: &[u8]) -> Option<u128> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !digits.iter().all(is_digit) {
        return None;
    }
    u128::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The fields of `tracestate` as one; as many members from its front as are allowed, none if one is malformed.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let fields = headers.get_all(TRACESTATE).iter();
    let members = fields
        .flat_map(|field| field.as_bytes().split(|&byte| byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty());
    let mut state: Vec<u8> = Vec::new();
    for (count, member) in members.enumerate() {
        if !is_member(member) || count >= MOST_MEMBERS {
            return None;
        }
        if state.len() + 1 + member.len() > MOST_STATE {
            break;
        }
        if !state.is_empty() {
            state.push(b',');
        }
        state.extend_from_slice(member);
    }
    let value = HeaderValue::from_bytes(&state).ok()?;
    (!state.is_empty()).then_some(value)
}

fn is_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else {
        return false;
    };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let is_key =
        |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-*/@".contains(byte);
    let is_value = |byte: &u8| (b' '..=b'~').contains(byte) && !b",=".contains(byte);
    (1..=256).contains(&key.len())
        && key.iter().all(is_key)
        && (1..=256).contains(&value.len())
        && value.iter().all(is_value)
}

/// An id that is not zero. Drawn by a keyed hash of a counter, so that they are spread evenly; they are not secret.
fn fresh_id() -> u64 {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let own = || KEY.hash_one(COUNT.fetch_add(1, Ordering::Relaxed));
        let id = maniple::sim::random().unwrap_or_else(own);
        if id != 0 {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(fields: &[(&'static str, &str)]) -> TraceContext {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        TraceContext::of(&headers)
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_taken_over_with_an_id_of_ones_own() {
        let context = of(&[("traceparent", GOOD), ("tracestate", "a=1,b=2")]);
        assert_eq!(context.trace_id(), TRACE);
        assert_eq!(context.parent_id().as_deref(), Some("00f067aa0ba902b7"));
        assert_eq!(context.parent().as_deref(), Some(GOOD));
        assert!(context.is_sampled());
        assert_eq!(context.state(), Some("a=1,b=2"));
        assert_ne!(context.span_id(), "00f067aa0ba902b7");
        let (call, state) = context.for_call();
        let call = call.to_str().unwrap();
        assert!(call.starts_with(&format!("00-{TRACE}-")) && call.ends_with("-01"));
        assert!(!call.contains(&context.span_id()), "each call has its own");
        assert_ne!(context.for_call().0, call);
        assert_eq!(state.unwrap(), "a=1,b=2");
    }

    #[test]
    fn what_is_invalid_begins_a_new_trace_and_loses_its_state() {
        let zeros = format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32));
        let orphan = format!("00-{TRACE}-{}-01", "0".repeat(16));
        let upper = GOOD.to_uppercase();
        for parent in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01x",
            "00_4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7_01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &zeros,
            &orphan,
            &upper,
        ] {
            let context = of(&[("traceparent", parent), ("tracestate", "a=1")]);
            assert_ne!(context.trace_id(), TRACE, "{parent}");
            assert_eq!((context.parent_id(), context.state()), (None, None));
            assert_eq!(context.parent(), None);
            assert!(!context.is_sampled());
        }
        let twice = of(&[("traceparent", GOOD), ("traceparent", GOOD)]);
        assert_ne!(twice.trace_id(), TRACE);
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        for parent in [
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more-to-come",
        ] {
            let context = of(&[("traceparent", parent)]);
            assert_eq!(context.trace_id(), TRACE);
            let told = context.to_string();
            assert!(told.starts_with("00-") && told.ends_with("-03"), "{told}");
            assert_eq!(context.flags, SAMPLED | RANDOM);
        }
    }

    #[test]
    fn state_is_handed_on_within_its_bounds() {
        let state = |lines: &[&str]| {
            let mut fields = vec![("traceparent", GOOD)];
            fields.extend(lines.iter().map(|line| ("tracestate", *line)));
            of(&fields).state().map(str::to_owned)
        };
        assert_eq!(
            state(&["a=1 , ,b@c=2", "d=x y"]).unwrap(),
            "a=1,b@c=2,d=x y"
        );
        for wrong in ["a", "A=1", "a=1,=2", "a=", "a=1=2"] {
            assert_eq!(state(&[wrong]), None, "{wrong}");
        }
        let many = |count: usize| (0..count).map(|n| format!("k{n}=1,")).collect::<String>();
        assert!(state(&[&many(32)]).is_some());
        assert_eq!(state(&[&many(33)]), None);
        let long = format!(
            "a={},b={},c={}",
            "x".repeat(250),
            "y".repeat(250),
            "z".repeat(250)
        );
        assert_eq!(state(&[&long]).unwrap().len(), 505);
    }
}
