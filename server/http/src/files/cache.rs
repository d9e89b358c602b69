//! Small files that are asked for often, kept in memory and looked at again when they are so old.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use maniple::{sync::Mutex, time::coarse_now};

use super::version::Version;

/// Which version of which file is asked for: the path, and what codings are taken, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) path: PathBuf,
    pub(super) is_directory: bool,
    pub(super) codings: u8,
}

/// In two generations: what is asked for moves to the young one, and when that is full, the old one is dropped.
#[derive(Debug)]
pub(super) struct Cache {
    age: Duration,
    most_bytes: usize,
    kept: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Kept>,
    old: HashMap<Key, Kept>,
    young_bytes: usize,
}

#[derive(Clone, Debug)]
struct Kept {
    version: Arc<Version>,
    until: Instant,
}

/// What an entry costs beside the file's bytes.
const ENTRY: usize = 1024;

impl Cache {
    pub(super) fn new(most_bytes: usize, age: Duration) -> Self {
        Self {
            age,
            most_bytes,
            kept: Mutex::default(),
        }
    }

    /// The largest file that is kept.
    pub(super) fn largest(&self) -> u64 {
        (self.most_bytes / 16) as u64
    }

    /// What is kept, and whether it may be used without another look.
    pub(super) fn find(&self, key: &Key) -> Option<(Arc<Version>, bool)> {
        let now = coarse_now();
        let mut kept = self.kept.lock();
        if let Some(found) = kept.young.get(key) {
            return Some((found.version.clone(), now < found.until));
        }
        let found = kept.old.remove(key)?;
        let result = (found.version.clone(), now < found.until);
        self.insert(&mut kept, key.clone(), found);
        Some(result)
    }

    /// Keeps what was just looked at.
    pub(super) fn keep(&self, key: Key, version: Arc<Version>) {
        let until = coarse_now() + self.age;
        let mut kept = self.kept.lock();
        self.insert(&mut kept, key, Kept { version, until });
    }

    fn insert(&self, kept: &mut Generations, key: Key, new: Kept) {
        let bytes = size(&key, &new);
        if bytes > self.most_bytes / 2 {
            return;
        }
        if kept.young_bytes + bytes > self.most_bytes / 2 {
            kept.old = std::mem::take(&mut kept.young);
            kept.young_bytes = 0;
        }
        kept.young_bytes += bytes;
        kept.old.remove(&key);
        if let Some(before) = kept.young.insert(key.clone(), new) {
            kept.young_bytes -= size(&key, &before);
        }
    }

    /// Drops what is there no longer.
    pub(super) fn forget(&self, key: &Key) {
        let mut kept = self.kept.lock();
        kept.old.remove(key);
        if let Some(before) = kept.young.remove(key) {
            kept.young_bytes -= size(key, &before);
        }
    }
}

fn size(key: &Key, kept: &Kept) -> usize {
    ENTRY + key.path.as_os_str().len() + kept.version.length as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::version::for_test;

    fn key(name: &str) -> Key {
        Key {
            path: name.into(),
            is_directory: false,
            codings: 0,
        }
    }

    #[test]
    fn it_keeps_what_is_asked_for_and_never_more_than_it_may() {
        let most = 64 * 1024;
        let cache = Cache::new(most, Duration::from_secs(3600));
        cache.keep(key("hot"), for_test(4000));
        for n in 0..200 {
            cache.keep(key(&n.to_string()), for_test(4000));
            assert!(cache.find(&key("hot")).is_some(), "after {n}");
            let kept = cache.kept.lock();
            let all = kept.young.iter().chain(&kept.old);
            let bytes: usize = all.map(|(key, kept)| size(key, kept)).sum();
            assert!(bytes <= most, "{bytes} after {n}");
            let young: usize = kept.young.iter().map(|(key, kept)| size(key, kept)).sum();
            assert_eq!(young, kept.young_bytes);
        }
        assert!(cache.find(&key("0")).is_none());
        cache.keep(key("large"), for_test(most));
        assert!(cache.find(&key("large")).is_none());
        cache.forget(&key("hot"));
        assert!(cache.find(&key("hot")).is_none());
    }

    #[test]
    fn what_is_old_is_found_and_said_to_be() {
        let cache = Cache::new(64 * 1024, Duration::ZERO);
        cache.keep(key("a"), for_test(10));
        assert!(matches!(cache.find(&key("a")), Some((_, false))));
    }
}
