//! A file as the graph needs it: its code without comments, texts and tests, its modules and its paths.

use std::collections::{BTreeMap, BTreeSet};

/// What a definition begins with.
const ITEMS: [&str; 10] = [
    "fn", "struct", "enum", "trait", "const", "static", "type", "union", "mod", "mut",
];

pub(crate) struct Code {
    /// The module that the file is, from the root.
    pub(crate) module: Vec<String>,
    /// What is left of the text.
    pub(crate) shipped: String,
    /// Modules in files of their own that are declared here; `true` for those of tests alone.
    pub(crate) children: BTreeMap<String, bool>,
    /// What is imported: the name here, the path from the root, whether it is handed on.
    pub(crate) uses: Vec<Use>,
}

pub(crate) struct Use {
    pub(crate) name: String,
    pub(crate) path: Vec<String>,
    pub(crate) is_public: bool,
}

/// The code without comments, tests, and what stands in texts.
pub(crate) fn shipped(text: &str) -> String {
    without_tests(&without_words(text), &mut BTreeMap::new())
}

/// Public enums, and structs whose fields are all public, that are not `#[non_exhaustive]`.
pub(crate) fn closed_types(code: &str) -> Vec<String> {
    let (mut found, mut last) = (Vec::new(), (0, ""));
    for (at, kind) in words(code) {
        let (before, previous) = std::mem::replace(&mut last, (at, kind));
        let is_public = previous == "pub" && code[before..at].trim_end() == "pub";
        if !is_public || !["enum", "struct"].contains(&kind) {
            continue;
        }
        let name = word(code[at + kind.len()..].trim_start());
        let attributes = code[..before]
            .rsplit([';', '{', '}'])
            .next()
            .unwrap_or_default();
        let is_meant = attributes.contains("non_exhaustive") || attributes.contains("doc(hidden)");
        let item = &code[at..at + end_of_item(&code[at..])];
        let body = item.split_once('{').map(|(_, body)| body);
        // Fields stand on lines of their own.
        let is_field = |line: &&str| line.contains(": ") && !line.starts_with('#');
        let is_built = |body: &str| {
            let mut fields = body.lines().map(str::trim).filter(is_field).peekable();
            fields.peek().is_some() && fields.all(|field| field.starts_with("pub "))
        };
        // One without a name is made by a macro.
        let is_named = !name.is_empty();
        if is_named && !is_meant && body.is_some_and(|body| kind == "enum" || is_built(body)) {
            found.push(name.to_owned());
        }
    }
    found
}

impl Code {
    pub(crate) fn read(name: &str, text: &str) -> Self {
        let module: Vec<String> = match name {
            "lib" | "main" => Vec::new(),
            _ => {
                let path = name.strip_suffix("/mod").unwrap_or(name);
                path.split('/').map(str::to_owned).collect()
            }
        };
        let clean = without_words(text);
        let mut children = BTreeMap::new();
        let mut shipped = without_tests(&clean, &mut children);
        inline_modules(&mut shipped);
        for (at, name) in words(&shipped) {
            if name == "mod" {
                let rest = shipped[at + 3..].trim_start();
                let child = word(rest);
                if !child.is_empty() && rest[child.len()..].trim_start().starts_with(';') {
                    children.entry(child.to_owned()).or_insert(false);
                }
            }
        }
        let mut code = Self {
            module,
            shipped,
            children,
            uses: Vec::new(),
        };
        code.take_uses();
        code
    }

    /// Takes the `use` items out of the code.
    fn take_uses(&mut self) {
        let mut rest = String::new();
        let mut from = 0;
        let shipped = std::mem::take(&mut self.shipped);
        for (at, name) in words(&shipped) {
            if name != "use" || at < from {
                continue;
            }
            let Some(length) = shipped[at..].find(';') else {
                continue;
            };
            let before = shipped[from..at]
                .rsplit([';', '{', '}'])
                .next()
                .unwrap_or_default();
            // `impl Trait + use<'a>` is none.
            if shipped[at + 3..].trim_start().starts_with('<') {
                continue;
            }
            let is_public = words(before).any(|(_, word)| word == "pub");
            for (path, alias) in tree(shipped[at + 3..at + length].trim()) {
                if let Some(path) = self.absolute(&path) {
                    let name = alias.unwrap_or_else(|| path.last().cloned().unwrap_or_default());
                    self.uses.push(Use {
                        name,
                        path,
                        is_public,
                    });
                }
            }
            rest.push_str(&shipped[from..at]);
            from = at + length + 1;
        }
        rest.push_str(&shipped[from..]);
        self.shipped = rest;
    }

    /// A path from the root, if it is one within the crate.
    pub(crate) fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let mut base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => {
                let mut parent = self.module.clone();
                parent.pop();
                parent
            }
            child if self.children.contains_key(child) => {
                let mut path = self.module.clone();
                path.push(child.to_owned());
                path
            }
            _ => return None,
        };
        for segment in rest {
            match segment.as_str() {
                "super" => _ = base.pop(),
                "self" => {}
                _ => base.push(segment.clone()),
            }
        }
        Some(base)
    }

    /// The paths in the code, outside `use` items: their segments.
    pub(crate) fn paths(&self) -> Vec<Vec<String>> {
        let code = &self.shipped;
        let mut found = Vec::new();
        for (at, first) in words(code) {
            let before = code[..at].trim_end();
            if before.ends_with("::") || before.ends_with('$') || before.ends_with('.') {
                continue;
            }
            let mut path = vec![first.to_owned()];
            let mut rest = &code[at + first.len()..];
            while let Some(next) = rest.strip_prefix("::") {
                let segment = word(next);
                if segment.is_empty() {
                    break;
                }
                path.push(segment.to_owned());
                rest = &next[segment.len()..];
            }
            // `pub(in super::super)` and the like name no item.
            if path.len() > 1
                && !path
                    .iter()
                    .all(|segment| segment == "super" || segment == "crate")
            {
                found.push(path);
            }
        }
        found
    }

    /// The words of the code that may name an item: neither methods and fields nor what is defined here.
    pub(crate) fn mentioned(&self) -> BTreeSet<&str> {
        let mut last = "";
        let may_name = |(at, found): (usize, &'_ str)| {
            let is_defined = ITEMS.contains(&std::mem::replace(&mut last, self.slice(at, found)));
            let is_member =
                self.shipped[..at].trim_end().ends_with('.') || self.shipped[..at].ends_with("::");
            (!is_defined && !is_member).then(|| self.slice(at, found))
        };
        words(&self.shipped).filter_map(may_name).collect()
    }

    fn slice(&self, at: usize, word: &str) -> &str {
        &self.shipped[at..at + word.len()]
    }

    /// Whether an item of that name is defined here.
    pub(crate) fn defines(&self, item: &str) -> bool {
        let mut last = "";
        words(&self.shipped).any(|(_, word)| {
            let is_defined = word == item && ITEMS.contains(&last);
            last = word;
            is_defined
        }) || self.defines_macro(item)
    }

    pub(crate) fn defines_macro(&self, item: &str) -> bool {
        let mut rest = self.shipped.as_str();
        while let Some(at) = rest.find("macro_rules!") {
            rest = rest[at + 12..].trim_start();
            if word(rest) == item {
                return true;
            }
        }
        false
    }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The word that the text begins with.
fn word(text: &str) -> &str {
    let end = text.find(|character| !is_word(character));
    &text[..end.unwrap_or(text.len())]
}

/// All words, with where they begin.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].find(is_word)?;
        let found = word(&text[at..]);
        let begin = at;
        at += found.len();
        Some((begin, found))
    })
}

/// The paths of a `use` item's tree, each with the name after `as`.
fn tree(text: &str) -> Vec<(Vec<String>, Option<String>)> {
    let text = text.trim();
    if let Some(open) = text.find('{') {
        let prefix: Vec<String> = text[..open]
            .split("::")
            .map(|segment| segment.trim().to_owned())
            .filter(|segment| !segment.is_empty())
            .collect();
        let inside = &text[open + 1..];
        let inside = &inside[..end_of_group(inside)];
        let mut found = Vec::new();
        for part in split_outside(inside) {
            for (path, alias) in tree(part) {
                found.push(([&prefix[..], &path[..]].concat(), alias));
            }
        }
        return found;
    }
    if text.is_empty() {
        return Vec::new();
    }
    let (path, alias) = match text.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (text, None),
    };
    let path = path
        .split("::")
        .map(|segment| segment.trim().to_owned())
        .collect();
    vec![(path, alias)]
}

/// Where the brace closes that was opened before.
fn end_of_group(inside: &str) -> usize {
    let mut depth = 0;
    for (at, character) in inside.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => return at,
            '}' => depth -= 1,
            _ => {}
        }
    }
    inside.len()
}

/// The parts between commas that stand in no braces.
fn split_outside(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// Without comments, and with texts and characters empty.
fn without_words(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let follows_word = code.ends_with(is_word);
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = raw_text(rest).filter(|_| !follows_word) {
            code.push_str("\"\"");
            length
        } else if first == '"' {
            code.push_str("\"\"");
            1 + closing(&rest[1..], '"')
        } else if first == '\'' && is_character(rest) {
            code.push_str("' '");
            1 + closing(&rest[1..], '\'')
        } else {
            code.push(first);
            first.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

/// The length of a raw text that begins here.
fn raw_text(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let inside = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let close = inside.find(&end)?;
    Some(text.len() - inside.len() + close + end.len())
}

/// Up to the mark that closes a text, and over it.
fn closing(text: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == mark => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// A character rather than a lifetime.
fn is_character(text: &str) -> bool {
    let mut characters = text.chars().skip(1);
    matches!(
        (characters.next(), characters.next()),
        (Some('\\'), _) | (Some(_), Some('\''))
    )
}

/// Where the item ends that begins here: behind its `;`, or its braces.
fn end_of_item(code: &str) -> usize {
    let mut depth = 0;
    for (at, character) in code.char_indices() {
        match character {
            '{' | '(' | '[' => depth += 1,
            '}' | ')' | ']' => {
                depth -= 1;
                if depth == 0 && character == '}' {
                    // `use a::{b};` ends with its semicolon.
                    let more = code[at + 1..].starts_with(';');
                    return at + 1 + usize::from(more);
                }
            }
            ';' if depth == 0 => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Without the items that tests alone compile; modules among them in files of their own are told to `children`.
fn without_tests(code: &str, children: &mut BTreeMap<String, bool>) -> String {
    let (mut shipped, mut rest) = (String::new(), code);
    while let Some(at) = [
        "#[cfg(test)]",
        "#[cfg(all(test",
        "#[cfg(all(loom, test",
        "#[test]",
    ]
    .iter()
    .filter_map(|mark| rest.find(mark))
    .min()
    {
        shipped.push_str(&rest[..at]);
        let mut item = &rest[at..];
        // Its attributes, and then itself.
        while item.trim_start().starts_with("#[") {
            let begin = item.len() - item.trim_start().len();
            let end = item[begin..]
                .find(']')
                .map_or(item.len(), |end| begin + end + 1);
            item = &item[end..];
        }
        for (at, name) in words(item) {
            if name == "mod" {
                let rest = item[at + 3..].trim_start();
                let child = word(rest);
                if rest[child.len()..].trim_start().starts_with(';') {
                    children.insert(child.to_owned(), true);
                }
            }
            if !["pub", "crate", "in", "super"].contains(&name) {
                break;
            }
        }
        rest = &item[end_of_item(item)..];
    }
    shipped.push_str(rest);
    shipped
}

/// In a module within the file, `super` is the file.
fn inline_modules(code: &mut String) {
    let mut from = 0;
    while let Some(at) = code[from..].find("mod ").map(|at| from + at) {
        from = at + 4;
        let rest = &code[from..];
        let name = word(rest);
        if code[..at].ends_with(is_word) || !rest[name.len()..].trim_start().starts_with('{') {
            continue;
        }
        let length = end_of_item(rest);
        let inner = rest[..length].replace("super::", "self::");
        code.replace_range(from..from + length, &inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uses(text: &str) -> Vec<String> {
        let code = Code::read("net/tcp", text);
        code.uses.iter().map(|used| used.path.join("::")).collect()
    }

    #[test]
    fn trees_of_uses_are_read_whole() {
        let text =
            "use crate::{a::{b, c::{D, E as F}}, g, h::*};\nuse super::{i, j::K};\nuse std::io;";
        let all = [
            "a::b",
            "a::c::D",
            "a::c::E",
            "g",
            "h::*",
            "net::i",
            "net::j::K",
        ];
        assert_eq!(uses(text), all);
    }

    #[test]
    fn comments_texts_and_tests_are_no_code() {
        let text = "// crate::a\nfn f() { \"crate::b\"; '\"'; r#\"crate::c\"#; } /* crate::d */
            #[cfg(test)]\nmod tests { use crate::e; fn g() {} }
            #[cfg(all(test, loom))]\n#[path = \"x.rs\"]\npub(crate) mod child;
            fn h(a: &'static str) { crate::i::j() }";
        let code = Code::read("net/mod", text);
        assert!(code.uses.is_empty());
        assert_eq!(code.children, BTreeMap::from([("child".to_owned(), true)]));
        let paths: Vec<String> = code.paths().iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["crate::i::j"]);
    }

    #[test]
    fn closed_are_enums_and_structs_to_build_without_a_mark() {
        let text = "pub enum A { B }\n#[non_exhaustive]\npub enum C { D }\npub(crate) enum E { F }
            pub struct G {\n    pub h: u8,\n}\npub struct I {\n    pub j: u8,\n    k: u8,\n}\npub struct L(pub u8);";
        assert_eq!(closed_types(text), ["A", "G"]);
    }

    #[test]
    fn within_a_file_super_is_the_file() {
        let code = Code::read(
            "a/b",
            "mod sealed { fn f() { super::g(); } }\nfn g() { super::h(); }",
        );
        let paths: Vec<_> = code
            .paths()
            .iter()
            .filter_map(|path| code.absolute(path))
            .collect();
        assert_eq!(paths, [vec!["a", "b", "g"], vec!["a", "h"]]);
    }
}
