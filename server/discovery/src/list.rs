//! The keys under a prefix, and the servers that they stand for.

use std::collections::BTreeMap;

use maniple::log_within;
use maniple_parts::endpoints::Endpoint;

use crate::{
    etcd::TROUBLE,
    rpc::{Event, KeyValue, event::EventType},
};

/// A list has at most so many keys, as a set has servers.
pub(crate) const MOST_KEYS: i64 = 10_000;

/// The keys under a prefix, as far as they name servers.
#[derive(Debug)]
pub(crate) struct List {
    prefix: String,
    /// By key, in whose order the list is.
    servers: BTreeMap<Vec<u8>, Endpoint>,
}

impl List {
    pub(crate) fn new(prefix: String) -> Self {
        Self {
            prefix,
            servers: BTreeMap::new(),
        }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The end of the range of the prefix, as etcd has it: the first key that is behind all with the prefix.
    pub(crate) fn range_end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone().into_bytes();
        // A prefix ends with a slash, so there is a byte to raise.
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        end
    }

    /// Takes all that there is in place of what there was.
    pub(crate) fn replace(&mut self, all: Vec<KeyValue>) {
        let before = std::mem::take(&mut self.servers);
        for pair in all {
            self.put(pair, &before);
        }
    }

    /// Takes one change.
    pub(crate) fn change(&mut self, event: Event) {
        let is_delete = event.r#type() == EventType::Delete;
        let Some(pair) = event.kv else {
            return;
        };
        let before = self.servers.remove_entry(&pair.key);
        if !is_delete {
            self.put(pair, &before.into_iter().collect());
        }
    }

    fn put(&mut self, pair: KeyValue, before: &BTreeMap<Vec<u8>, Endpoint>) {
        match self.parse(&pair) {
            Ok(server) => {
                self.servers.insert(pair.key, server);
            }
            // One that writes nonsense takes no others along.
            Err(reason) if !before.contains_key(&pair.key) => {
                let key = String::from_utf8_lossy(&pair.key);
                log_within!(TROUBLE, warn, "etcd: {key} is left out: {reason}");
            }
            Err(reason) => {
                let key = String::from_utf8_lossy(&pair.key);
                log_within!(
                    TROUBLE,
                    warn,
                    "etcd: {key} is left out from now on: {reason}"
                );
            }
        }
    }

    /// The server that a value names; without a value, that which the key does.
    fn parse(&self, pair: &KeyValue) -> Result<Endpoint, String> {
        let text = |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned);
        let wrong = |_| "it is no text".to_owned();
        let value = text(&pair.value).map_err(wrong)?;
        let named = match value.trim() {
            "" => {
                let name = pair.key.strip_prefix(self.prefix.as_bytes());
                text(name.unwrap_or_default()).map_err(wrong)?
            }
            value => value.to_owned(),
        };
        named
            .parse()
            .map_err(|error: maniple_parts::endpoints::EndpointError| error.to_string())
    }

    pub(crate) fn servers(&self) -> Vec<Endpoint> {
        self.servers.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(key: &str, value: &str) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
        }
    }

    fn event(r#type: EventType, key: &str, value: &str) -> Event {
        Event {
            r#type: r#type.into(),
            kv: Some(pair(key, value)),
        }
    }

    fn texts(list: &List) -> Vec<String> {
        list.servers().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_list_follows_its_changes() {
        let mut list = List::new("/s/".into());
        list.replace(vec![pair("/s/b", "h:2 weight=3"), pair("/s/a:1", "")]);
        assert_eq!(texts(&list), ["a:1", "h:2 weight=3"]);
        list.change(event(EventType::Put, "/s/c", " h:3 zone=x "));
        list.change(event(EventType::Delete, "/s/b", ""));
        list.change(event(EventType::Delete, "/s/never", ""));
        assert_eq!(texts(&list), ["a:1", "h:3 zone=x"]);
        list.replace(vec![]);
        assert!(list.servers().is_empty());
    }

    #[test]
    fn who_writes_nonsense_is_left_out_alone() {
        let mut list = List::new("/s/".into());
        let binary = KeyValue {
            key: b"/s/d".to_vec(),
            value: vec![0xff],
        };
        list.replace(vec![
            pair("/s/a", "h:1"),
            pair("/s/b", "h:2 colour=red"),
            binary,
        ]);
        assert_eq!(texts(&list), ["h:1"]);
        // What was a server and is none any more, too.
        list.change(event(EventType::Put, "/s/a", "h:1 weight=lots"));
        assert_eq!(texts(&list), [""; 0]);
    }

    #[test]
    fn a_range_ends_behind_all_keys_with_the_prefix() {
        let list = List::new("/s/".into());
        let end = list.range_end();
        assert!(*b"/s/\xff\xff".as_slice() < *end && *end <= *b"/s0".as_slice());
    }
}
