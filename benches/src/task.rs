//! What servers are asked for beside hello, in `compare http --tasks`: JSON, files, a chain of middleware, compression.

use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What is asked of a server, in each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// 1 KiB of JSON to take in, with a parameter of the path, and to give back.
    Json,
    /// A file of 64 KiB.
    File,
    /// A file of 4 MiB.
    LargeFile,
    /// Hello, behind request ids, a timeout, a limit of concurrency, and metrics.
    Chain,
    /// 16 KiB of JSON, compressed by gzip.
    Gzip,
}

/// Files that the tasks ask for: names and lengths.
pub(crate) const FILES: [(&str, usize); 3] = [
    ("64k.bin", 64 << 10),
    ("4m.bin", 4 << 20),
    ("16k.json", 16 << 10),
];

impl Task {
    pub(crate) const ALL: [Self; 5] = [
        Self::Json,
        Self::File,
        Self::LargeFile,
        Self::Chain,
        Self::Gzip,
    ];

    /// The request, which is always the same.
    pub(crate) fn request(self, address: SocketAddr) -> Vec<u8> {
        let get = |path: &str, fields: &str| {
            format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n").into_bytes()
        };
        match self {
            Self::Json => {
                let body = note_of(1 << 10);
                let length = body.len();
                let fields = format!("Content-Type: application/json\r\nContent-Length: {length}");
                format!("POST /notes/7 HTTP/1.1\r\nHost: {address}\r\n{fields}\r\n\r\n{body}")
                    .into()
            }
            Self::File => get(FILES[0].0, ""),
            Self::LargeFile => get(FILES[1].0, ""),
            Self::Gzip => get(FILES[2].0, "Accept-Encoding: gzip\r\n"),
            Self::Chain => get("", ""),
        }
    }
}

/// What travels as JSON.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Note {
    pub(crate) id: u64,
    title: String,
    tags: Vec<String>,
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Line {
    number: u32,
    text: String,
    done: bool,
}

/// A note as JSON of about that length.
pub(crate) fn note_of(bytes: usize) -> String {
    let mut note = Note {
        id: 0,
        title: "What is to be done".to_owned(),
        tags: ["home", "work", "soon"].map(str::to_owned).to_vec(),
        lines: Vec::new(),
    };
    loop {
        let number = note.lines.len() as u32 + 1;
        note.lines.push(Line {
            number,
            text: format!("the {number}. thing that nobody should forget"),
            done: number.is_multiple_of(3),
        });
        let text = serde_json::to_string(&note).unwrap_or_default();
        if text.len() >= bytes {
            return text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_as_long_as_they_are_to_be() {
        for bytes in [1 << 10, 16 << 10] {
            let text = note_of(bytes);
            assert!((bytes..bytes + 100).contains(&text.len()), "{}", text.len());
            let note: Note = serde_json::from_str(&text).unwrap();
            assert_eq!(note.lines[2].number, 3);
        }
    }
}
