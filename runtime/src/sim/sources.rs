//! Which claims a check makes, by its source: so that one which no seed comes by is noticed.
//!
//! A claim that is never run says nothing of itself. But tests are run where their sources are, and those say which
//! claims stand in the call of a check, and in the functions of the same file that are named there. Where the source is
//! not to be found, nothing is asked.

use std::{fs, panic::Location, path::Path};

/// The lines of claims in the call at that place.
pub(super) fn claims_of(call: &Location<'_>) -> Vec<u32> {
    source(call.file()).map_or_else(Vec::new, |text| {
        claims_in(&text, call.line(), call.column())
    })
}

/// A path in a panic's place begins where the compiler was called, which is above the package whose tests run there.
fn source(file: &str) -> Option<String> {
    let here = std::env::current_dir().ok()?;
    here.ancestors()
        .find_map(|above| fs::read_to_string(above.join(Path::new(file))).ok())
}

fn claims_in(text: &str, line: u32, column: u32) -> Vec<u32> {
    let tokens = tokens(text);
    let begins = tokens
        .iter()
        .position(|token| (token.line, token.column) >= (line, column));
    let call = begins.and_then(|at| enclosed(&tokens, at, "(", ")"));
    let functions = functions(&tokens);
    let mut found = Vec::new();
    let mut known: Vec<&str> = Vec::new();
    let mut to_read: Vec<(usize, usize)> = call.into_iter().collect();
    while let Some((from, to)) = to_read.pop() {
        for at in from..to {
            let text = tokens[at].text;
            let next = tokens.get(at + 1).map_or("", |token| token.text);
            if text == "sometimes" && next == "!" {
                found.push(tokens[path_start(&tokens, at)].line);
            }
            if matches!(next, "(" | ")" | "," | "::") && !known.contains(&text) {
                let named = functions.iter().filter(|(name, _)| *name == text);
                to_read.extend(named.map(|(_, body)| *body));
                known.push(text);
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// Where the path that ends there begins.
fn path_start(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at >= 2 && tokens[at - 1].text == "::" {
        at -= 2;
    }
    at
}

/// What stands within the first pair of these from there on.
fn enclosed(tokens: &[Token<'_>], from: usize, open: &str, close: &str) -> Option<(usize, usize)> {
    let begin = from + tokens[from..].iter().position(|token| token.text == open)?;
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(begin) {
        if token.text == open {
            depth += 1;
        } else if token.text == close {
            depth -= 1;
            if depth == 0 {
                return Some((begin + 1, at));
            }
        }
    }
    None
}

/// Functions and methods, by name, with their bodies.
fn functions<'a>(tokens: &[Token<'a>]) -> Vec<(&'a str, (usize, usize))> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        if token.text != "fn" {
            continue;
        }
        let Some(name) = tokens.get(at + 1).filter(|name| is_word(name.text)) else {
            continue;
        };
        let Some((_, after)) = enclosed(tokens, at, "(", ")") else {
            continue;
        };
        let ends = |token: &Token<'_>| matches!(token.text, "{" | ";");
        let Some(begin) = tokens[after..].iter().position(ends) else {
            continue;
        };
        if tokens[after + begin].text == "{"
            && let Some(body) = enclosed(tokens, after + begin, "{", "}")
        {
            found.push((name.text, body));
        }
    }
    found
}

#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    line: u32,
    column: u32,
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c == '_' || c.is_alphanumeric())
}

/// Words, `::` and single signs; comments and literals of text are left out.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let (mut line, mut column) = (1, 1);
    while let Some(first) = rest.chars().next() {
        let (length, is_told) = match first {
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            _ if rest.starts_with("/*") => (comment(rest), false),
            '"' => (quoted(rest, 0), false),
            '\'' => (character(rest), false),
            _ if rest.starts_with("::") => (2, true),
            _ if is_word(rest) => {
                let end = rest.find(|c: char| c != '_' && !c.is_alphanumeric());
                let word = end.unwrap_or(rest.len());
                match &rest[..word] {
                    "r" | "br" | "cr" | "b" | "c" if literal_follows(&rest[word..]) => {
                        (word + raw_or_quoted(&rest[..word], &rest[word..]), false)
                    }
                    _ => (word, true),
                }
            }
            first => (first.len_utf8(), !first.is_whitespace()),
        };
        let (taken, left) = rest.split_at(length);
        if is_told {
            tokens.push(Token {
                text: taken,
                line,
                column,
            });
        }
        for c in taken.chars() {
            match c {
                '\n' => (line, column) = (line + 1, 1),
                _ => column += 1,
            }
        }
        rest = left;
    }
    tokens
}

/// Whether text follows what may be its prefix: a raw name, as `r#fn`, is none.
fn literal_follows(rest: &str) -> bool {
    rest.trim_start_matches('#').starts_with('"')
}

fn raw_or_quoted(prefix: &str, rest: &str) -> usize {
    if !prefix.ends_with('r') {
        return quoted(rest, 0);
    }
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = hashes + 1;
    let found = rest[begin..].find(&end);
    found.map_or(rest.len(), |at| begin + at + end.len())
}

/// The length of text in quotes, which begins at `at`.
fn quoted(rest: &str, at: usize) -> usize {
    let mut is_escaped = false;
    for (offset, c) in rest[at + 1..].char_indices() {
        match c {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => return at + 1 + offset + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character, or of the mark of a lifetime.
fn character(rest: &str) -> usize {
    let mut after = rest[1..].char_indices();
    match after.next() {
        Some((_, '\\')) => {
            after.next();
            let end = after.find(|&(_, c)| c == '\'');
            end.map_or(1, |(at, _)| 1 + at + 1)
        }
        Some((_, c)) if after.next().is_some_and(|(_, quote)| quote == '\'') => 2 + c.len_utf8(),
        _ => 1,
    }
}

/// The length of a comment, in which others may be.
fn comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const TEXT: &str = r##"
fn helped(world: &World) { sometimes!(true); }
fn other<'a>(c: char) -> [u8; 3] { let _ = ('\'', '"', "sometimes!("); sim::sometimes!(a) }
/* sim::check(|| sometimes!(no)); /* inner */ */
#[test]
fn test() {
    sim::check(0..3, |world| {
        // sometimes!(not this)
        let text = r#"sometimes!(")"#;
        sim::sometimes!(world.now() > (1, 2));
        maniple
            ::sim::sometimes!(x);
        helped(world);
        if false { nested() }
    });
    sim::sometimes!(beyond);
}
fn nested() { world.host("a", third); }
fn third() { sometimes!(deep) }
trait T { fn declared(&self); fn given() {} }
"##;

    #[test]
    fn the_claims_of_a_call_are_those_within_and_in_what_it_names() {
        assert_eq!(claims_in(TEXT, 7, 5), [2, 10, 11, 19]);
    }

    #[test]
    fn claims_elsewhere_are_not_its_own() {
        assert_eq!(claims_in(TEXT, 16, 5), [0; 0]);
        assert_eq!(claims_in("", 1, 1), [0; 0]);
        assert_eq!(claims_in("check(", 1, 1), [0; 0]);
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        let whole = include_str!("sources.rs");
        for at in (0..whole.len())
            .step_by(7)
            .filter(|&at| whole.is_char_boundary(at))
        {
            tokens(&whole[at..]);
            functions(&tokens(&whole[..at]));
        }
    }

    #[test]
    fn a_source_that_is_not_there_has_no_claims() {
        assert_eq!(source("no/such/file.rs"), None);
    }
}
