//! Files of a directory, as answers.

mod answer;
mod cache;
mod content;
mod media;
mod open;
pub(crate) mod place;
mod settings;
mod version;

use std::{
    collections::HashMap,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{
    HeaderValue, Method, StatusCode,
    header::{ALLOW, LOCATION},
};
use maniple::{log_limit::LogLimit, log_within};

use self::{
    cache::{Cache, Key},
    place::{Place, below, place},
    settings::Settings,
    version::{Looked, Version, look},
};
use crate::{
    http1::accepted::{Accepted, Coding},
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
    router::handler::Handler,
};

/// Answers with the files of a directory: a handler for [`Router::files`](crate::Router::files), which gives it all paths
/// below a prefix.
///
/// **Which files.** A path leads to what is below the directory and nowhere else: `..`, `%2f`, `%5c` and NUL are answered 404, and
/// so are symbolic links that lead out or are absolute (`openat2` with `RESOLVE_BENEATH`; where the kernel has
/// not that, no link is followed). The directory itself may be a link, which is looked at anew each time, so that a deployment may
/// turn it. Names that begin with `.` are 404, but for `/.well-known/`; so are FIFOs, sockets and devices. A directory is
/// answered with its `index.html`, and without a `/` at its end with a redirection. What the process may not read is 403.
///
/// **What of them.** `GET` and `HEAD`; other methods are 405. One range or up to 16 (`multipart/byteranges`), `If-Range`, 206 and
/// 416; with more ranges, ranges that overlap more than once or are longer than the whole, all is sent. `ETag` and
/// `Last-Modified` with the four conditions on them. The tag is of time and length, and weak as long as the file was changed less
/// than two seconds ago; times of 0 and 1, as builds that can be repeated give, and times to come are not told.
///
/// **How.** Opening and reading are done on the pool for [files](maniple::fs). The kernel sends large files by itself
/// (sendfile(2)); over TLS they are read 256 KiB at a time. A file that becomes shorter while it is sent breaks the connection
/// off. Files of up to 1 MiB are kept in memory, 16 MiB of them in all, and looked at again after a second: until then a change
/// is not seen. See [`Files::cache`].
///
/// # Examples
/// ```
/// use maniple_server::{Files, Request, Router};
/// # let dir = std::env::temp_dir().join(format!("maniple-files-{}", std::process::id()));
/// # std::fs::create_dir_all(&dir).unwrap();
/// std::fs::write(dir.join("hello.txt"), "hello, you").unwrap();
///
/// let router = Router::new().files("/static", Files::new(&dir).cache_control("max-age=3600"));
/// let ask = Request::for_test("GET", "/static/hello.txt").with_header("range", "bytes=0-4");
/// let answer = router.answer(&mut { ask });
/// assert_eq!(answer.status(), 206);
/// assert_eq!(answer.header("content-range"), Some("bytes 0-4/10"));
/// assert_eq!(answer.into_text().unwrap(), "hello");
/// # std::fs::remove_dir_all(&dir).unwrap();
/// ```
#[derive(Clone)]
pub struct Files {
    settings: Arc<Settings>,
    cache: Option<Arc<Cache>>,
}

/// Bytes of files in memory by default.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// How long they are used without another look, by default.
const CACHE_AGE: Duration = Duration::from_secs(1);

/// Files up to this are read whole, if there is no cache.
const SMALL: u64 = 64 * 1024;

impl Files {
    /// The files below a directory. It need not be there yet.
    pub fn new(directory: impl AsRef<Path>) -> Self {
        Self::of(directory.as_ref(), false)
    }

    /// One file, whatever the path is: a handler for [`Router::get`](crate::Router::get).
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Files, Router};
    /// let router = Router::new().get("/favicon.ico", Files::file("public/icons/small.ico"));
    /// # let _ = router;
    /// ```
    pub fn file(path: impl AsRef<Path>) -> Self {
        Self::of(path.as_ref(), true)
    }

    fn of(root: &Path, is_file: bool) -> Self {
        let settings = Settings {
            root: root.to_owned(),
            is_file,
            index: Some("index.html".into()),
            hidden: false,
            siblings: false,
            cache_control: None,
            types: HashMap::new(),
        };
        Self {
            settings: Arc::new(settings),
            cache: None,
        }
        .cache(CACHE_BYTES, CACHE_AGE)
    }

    fn settings(&mut self) -> &mut Settings {
        Arc::make_mut(&mut self.settings)
    }

    /// Answers a directory with the file of that name in it.
    ///
    /// # Panics
    /// If it is no name: empty, or with a `/`.
    #[track_caller]
    pub fn index(mut self, name: &str) -> Self {
        let is_name = !name.is_empty() && !name.contains(['/', '\0']) && name != "..";
        assert!(is_name, "not a file's name: {name:?}");
        self.settings().index = Some(name.into());
        self
    }

    /// Answers directories with 404.
    pub fn no_index(mut self) -> Self {
        self.settings().index = None;
        self
    }

    /// Whether names that begin with `.` are answered too: `.git` and `.env` are in many directories. By default not.
    pub fn hidden(mut self, answered: bool) -> Self {
        self.settings().hidden = answered;
        self
    }

    /// Whether a file `app.js.br`, `app.js.zst` or `app.js.gz` is sent in place of `app.js`, which must be there too, to clients
    /// that take it (`Accept-Encoding`). By default not.
    ///
    /// Their order is the client's, then this one. Whether they are of the same contents is not looked at: make them anew when
    /// the file changes.
    pub fn precompressed(mut self, looked_for: bool) -> Self {
        self.settings().siblings = looked_for;
        self
    }

    /// Sets `Cache-Control`, such as `max-age=3600` or `no-cache`. By default there is none, and browsers guess.
    ///
    /// # Panics
    /// If the value is not allowed in a header.
    #[track_caller]
    pub fn cache_control(mut self, value: &str) -> Self {
        let value = HeaderValue::from_str(value)
            .unwrap_or_else(|_| panic!("not a header value: {value:?}"));
        self.settings().cache_control = Some(value);
        self
    }

    /// Sets the type of files whose name ends with `.` and `ending`, in any case. What has no type here, and is not usual on the
    /// web, is `application/octet-stream`.
    ///
    /// # Panics
    /// If the type is not allowed in a header.
    #[track_caller]
    pub fn media_type(mut self, ending: &str, media_type: &str) -> Self {
        let value = HeaderValue::from_str(media_type)
            .unwrap_or_else(|_| panic!("not a header value: {media_type:?}"));
        let ending = ending.to_ascii_lowercase();
        self.settings().types.insert(ending, value);
        self
    }

    /// Keeps up to so many bytes of files in memory, none larger than a sixteenth of that, and uses them for `age` without
    /// another look at the file. By default 16 MiB and one second.
    ///
    /// After that a file is opened and looked at, and read again if it has changed. `Duration::ZERO` has that done for
    /// each request.
    pub fn cache(mut self, bytes: usize, age: Duration) -> Self {
        self.cache = Some(Arc::new(Cache::new(bytes, age)));
        self
    }

    /// Keeps nothing in memory.
    pub fn no_cache(mut self) -> Self {
        self.cache = None;
        self
    }

    fn answer(&self, request: &Request) -> Response {
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            let mut response = problem.into_response();
            let allowed = HeaderValue::from_static("GET, HEAD");
            response.headers_mut().insert(ALLOW, allowed);
            return response;
        }
        let Some(place) = self.place(request) else {
            return refused(&io::ErrorKind::NotFound.into());
        };
        match self.find(request, place) {
            Ok(Some(version)) => answer::answer(request, &version),
            Ok(None) => to_directory(request),
            Err(error) => refused(&error),
        }
    }

    fn place(&self, request: &Request) -> Option<Place> {
        if self.settings.is_file {
            return Some(Place {
                path: PathBuf::new(),
                is_directory: false,
            });
        }
        let path = request.path();
        let below = match request.route() {
            Some(template) => below(path, template),
            None => path.strip_prefix('/')?,
        };
        let mut place = place(below, self.settings.hidden)?;
        place.is_directory = path.ends_with('/');
        Some(place)
    }

    /// The version to send; `None` if it is a directory that was asked for without its `/`.
    fn find(&self, request: &Request, place: Place) -> io::Result<Option<Arc<Version>>> {
        let codings = match self.settings.siblings {
            true => {
                let accepted = Accepted::of(request.header_values("accept-encoding"));
                accepted.taken(&Coding::ALL, |coding| coding)
            }
            false => Vec::new(),
        };
        let Some(cache) = &self.cache else {
            return match self.look(place, codings, None, SMALL)? {
                Looked::New(version) => Ok(Some(version)),
                Looked::Directory | Looked::Same => Ok(None),
            };
        };
        let key = Key {
            path: place.path.clone(),
            is_directory: place.is_directory,
            codings: codings
                .iter()
                .fold(0, |number, &coding| number * 4 + coding as u8 + 1),
        };
        let kept = match cache.find(&key) {
            Some((version, true)) => return Ok(Some(version)),
            Some((version, false)) => Some(version),
            None => None,
        };
        // A version whose tag is weak because of its age alone is made anew, until it is strong.
        let lasting = kept.as_ref().filter(|version| version.is_sure);
        let known = lasting.map(|version| version.identity);
        let looked = self.look(place, codings, known, cache.largest());
        match (looked, kept) {
            (Ok(Looked::Same), Some(version)) => {
                cache.keep(key, version.clone());
                Ok(Some(version))
            }
            (Ok(Looked::New(version)), _) => {
                match version.is_settled && version.length <= cache.largest() {
                    true => cache.keep(key, version.clone()),
                    false => cache.forget(&key),
                }
                Ok(Some(version))
            }
            (Ok(Looked::Same | Looked::Directory), _) => Ok(None),
            (Err(error), _) => {
                cache.forget(&key);
                Err(error)
            }
        }
    }

    fn look(
        &self,
        place: Place,
        codings: Vec<Coding>,
        known: Option<open::Identity>,
        keep: u64,
    ) -> io::Result<Looked> {
        let settings = self.settings.clone();
        if maniple::sim::is_inside() {
            return look(&settings, &place, &codings, known, keep);
        }
        maniple::fs::reading(move || look(&settings, &place, &codings, known, keep))
    }
}

impl Handler for Files {
    fn call(&self, request: &mut Request) -> Response {
        self.answer(request)
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("root", &self.settings.root)
            .finish_non_exhaustive()
    }
}

/// Relative, so that it holds behind a proxy that takes a prefix off, and leads to no other host.
fn to_directory(request: &Request) -> Response {
    let path = request.path();
    let name = path.rsplit('/').next().unwrap_or("");
    let query = request.query().map(|query| format!("?{query}"));
    let location = format!("./{name}/{}", query.unwrap_or_default());
    let Ok(location) = HeaderValue::try_from(location) else {
        return refused(&io::ErrorKind::NotFound.into());
    };
    let mut response = Response::new(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(LOCATION, location);
    response
}

#[cold]
fn refused(error: &io::Error) -> Response {
    use io::ErrorKind::{NotFound, PermissionDenied, TimedOut, WouldBlock};
    static RATE: LogLimit = LogLimit::new(1);
    let (status, reason) = match error.kind() {
        NotFound => (StatusCode::NOT_FOUND, "not found"),
        PermissionDenied => (StatusCode::FORBIDDEN, "not to be read"),
        kind => {
            log_within!(RATE, warn, "a file could not be sent: {error}");
            match maniple::cancel::is_cancelled_error(error)
                || [TimedOut, WouldBlock].contains(&kind)
            {
                true => (StatusCode::SERVICE_UNAVAILABLE, "not now"),
                false => (StatusCode::INTERNAL_SERVER_ERROR, "internal server error"),
            }
        }
    };
    Problem::new(status, reason).into_response()
}
