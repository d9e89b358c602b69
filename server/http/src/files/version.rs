//! One version of a file as it is sent: its bytes and the fields that go with them.

use std::{
    io,
    path::Path,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use http::{
    HeaderMap, HeaderValue,
    header::{
        ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LAST_MODIFIED, VARY,
    },
};

use super::{
    content::Content,
    media::media_type,
    open::{Found, Identity, Opened, below, file},
    place::Place,
    settings::Settings,
};
use crate::{http1::accepted::Coding, validators::Validators};

/// What the name of a sibling in that coding ends with.
fn suffix(coding: Coding) -> &'static str {
    match coding {
        Coding::Brotli => ".br",
        Coding::Zstd => ".zst",
        Coding::Gzip => ".gz",
    }
}

/// A version of a file.
#[derive(Debug)]
pub(super) struct Version {
    pub(super) identity: Identity,
    pub(super) content: Content,
    pub(super) length: u64,
    pub(super) validators: Validators,
    /// Whether the date alone tells this version from others.
    pub(super) date_is_sure: bool,
    /// Whether its tag is strong.
    pub(super) is_sure: bool,
    /// Whether a later change would be seen in its identity.
    pub(super) is_settled: bool,
    pub(super) fields: HeaderMap,
}

/// What is at a place.
pub(super) enum Looked {
    /// A directory, and the path did not end with `/`.
    Directory,
    /// The version that is known already.
    Same,
    New(Arc<Version>),
}

/// Younger changes may be followed by another that has the same time (RFC 9110, 8.8.2.2).
const SURE: Duration = Duration::from_secs(2);

/// The kernel's clock for files goes in steps of up to 10 ms.
const SETTLED: Duration = Duration::from_millis(100);

/// Attempts to read a file that changes meanwhile.
const ATTEMPTS: usize = 3;

/// Looks at a place: files up to `keep` bytes are read into memory.
pub(super) fn look(
    settings: &Settings,
    place: &Place,
    codings: &[Coding],
    known: Option<Identity>,
    keep: u64,
) -> io::Result<Looked> {
    let open = |path: &Path| match settings.is_file {
        true => file(path),
        false => below(&settings.root, path),
    };
    let mut path = place.path.clone();
    let mut found = open(match settings.is_file {
        true => &settings.root,
        false => &path,
    })?;
    match (&found, place.is_directory && !settings.is_file) {
        (Found::Directory, false) if settings.is_file => return Err(missing()),
        (Found::Directory, false) => return Ok(Looked::Directory),
        (Found::File(..), true) => return Err(missing()),
        (Found::File(..), false) => {}
        (Found::Directory, true) => {
            path.push(settings.index.as_ref().ok_or_else(missing)?);
            found = open(&path)?;
        }
    }
    let name = match settings.is_file {
        true => settings.root.clone(),
        false => path,
    };
    let mut coding = None;
    for one in codings {
        let mut sibling = name.clone().into_os_string();
        sibling.push(suffix(*one));
        if let Ok(Found::File(file, identity)) = open(Path::new(&sibling)) {
            found = Found::File(file, identity);
            coding = Some(*one);
            break;
        }
    }
    let Found::File(file, identity) = found else {
        return Err(missing());
    };
    if known == Some(identity) {
        return Ok(Looked::Same);
    }
    let version = take(settings, &name, file, identity, coding, keep)?;
    Ok(Looked::New(Arc::new(version)))
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn take(
    settings: &Settings,
    name: &Path,
    file: Opened,
    mut identity: Identity,
    coding: Option<Coding>,
    keep: u64,
) -> io::Result<Version> {
    let mut in_memory = None;
    let mut is_steady = true;
    if identity.length <= keep || matches!(file, Opened::World(_)) {
        for attempt in 1.. {
            let mut bytes = vec![0; identity.length as usize];
            let read = file.read_exact_at(&mut bytes, 0);
            let now = file.identity()?;
            is_steady = now == identity;
            match read {
                Ok(()) => {
                    in_memory = Some(bytes);
                    break;
                }
                // It has become shorter.
                Err(error) if attempt == ATTEMPTS || now.length > keep => return Err(error),
                Err(_) => identity = now,
            }
        }
    }
    let content = match (in_memory, file) {
        (Some(bytes), _) => Content::Memory(bytes.into()),
        (None, Opened::Disk(file)) => Content::Disk(Arc::new(file)),
        (None, Opened::World(_)) => return Err(missing()),
    };
    let age = |(seconds, nanos): (i64, i64)| {
        let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
        let at = UNIX_EPOCH.checked_add(since)?;
        maniple::time::system_now().duration_since(at).ok()
    };
    let modified = age(identity.modified);
    let changed = age(identity.changed);
    // Builds that can be repeated give all files the time 0 or 1: that tells nothing. Nor does one that is yet to come.
    let is_dated = identity.modified.0 > 1 && modified.is_some();
    let date_is_sure = is_dated && modified.is_some_and(|age| age >= SURE);
    let is_sure = changed.is_some_and(|age| age >= SURE);
    let validators = Validators {
        exists: true,
        tag: Some(tag(&identity, coding, is_dated, is_sure)),
        modified: is_dated.then_some(identity.modified.0 as u64),
    };
    Ok(Version {
        identity,
        length: identity.length,
        date_is_sure,
        is_sure,
        is_settled: is_steady && changed.is_some_and(|age| age >= SETTLED),
        fields: fields(settings, name, coding, &validators),
        validators,
        content,
    })
}

/// Of time and length, as servers side by side have them; of a file whose time tells nothing, of what this machine knows.
fn tag(identity: &Identity, coding: Option<Coding>, is_dated: bool, is_sure: bool) -> HeaderValue {
    let weak = if is_sure { "" } else { "W/" };
    let coding = coding.map_or("", suffix);
    let (length, (seconds, nanos)) = (identity.length, identity.modified);
    let tag = match is_dated {
        true => format!("{weak}\"{seconds:x}.{nanos:x}-{length:x}{coding}\""),
        false => {
            let (inode, (changed, nanos)) = (identity.inode, identity.changed);
            format!("{weak}\"{inode:x}-{changed:x}.{nanos:x}-{length:x}{coding}\"")
        }
    };
    HeaderValue::from_str(&tag).expect("a tag has digits, quotes and a suffix")
}

fn fields(
    settings: &Settings,
    name: &Path,
    coding: Option<Coding>,
    validators: &Validators,
) -> HeaderMap {
    let mut fields = HeaderMap::with_capacity(8);
    let ending = name.extension().and_then(|ending| ending.to_str());
    let own = ending.and_then(|ending| settings.types.get(&ending.to_ascii_lowercase()));
    let media = own
        .cloned()
        .unwrap_or_else(|| HeaderValue::from_static(media_type(name)));
    fields.insert(CONTENT_TYPE, media);
    fields.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    if let Some(coding) = coding {
        fields.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.name()));
    }
    if settings.siblings {
        fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
    if let Some(cache_control) = &settings.cache_control {
        fields.insert(CACHE_CONTROL, cache_control.clone());
    }
    validators.add_to(&mut fields);
    debug_assert!(fields.contains_key(ETAG) || fields.contains_key(LAST_MODIFIED));
    fields
}

/// A version of so many bytes.
#[cfg(test)]
pub(super) fn for_test(length: usize) -> Arc<Version> {
    let metadata = std::fs::metadata("/proc/self/exe").unwrap();
    Arc::new(Version {
        identity: Identity::of(&metadata),
        content: Content::Memory(vec![b'x'; length].into()),
        length: length as u64,
        validators: Validators::new(),
        date_is_sure: true,
        is_sure: true,
        is_settled: true,
        fields: HeaderMap::new(),
    })
}
