//! `#[test]` for tests that run over each driver: over the kernel as they stand, or in a simulated world.
//!
//! With `#[macro_use] extern crate maniple_driven;` at the root of a test program, all its `#[test]` mean this one. The
//! program says in `driven::test(name, body)` how a body is run; the name has the test's module in front.

use proc_macro::{Delimiter, Group, Punct, Spacing, TokenStream, TokenTree};

/// A test whose body goes to `crate::driven::test`, below its name.
#[proc_macro_attribute]
pub fn test(_: TokenStream, function: TokenStream) -> TokenStream {
    let mut tokens: Vec<TokenTree> = function.into_iter().collect();
    let is_fn =
        |token: &TokenTree| matches!(token, TokenTree::Ident(word) if word.to_string() == "fn");
    let name = tokens
        .iter()
        .position(is_fn)
        .map(|at| tokens[at + 1].to_string());
    let (Some(name), Some(TokenTree::Group(body))) = (name, tokens.pop()) else {
        return parsed("compile_error!(\"a test is a function with a body\");");
    };
    let mut arguments = parsed(&format!("concat!(module_path!(), \"::{name}\"), ||"));
    arguments.extend([TokenTree::Group(body.clone())]);
    let mut call = parsed("crate::driven::test");
    call.extend([TokenTree::Group(Group::new(
        Delimiter::Parenthesis,
        arguments,
    ))]);
    let mut called = Group::new(Delimiter::Brace, call);
    called.set_span(body.span());
    tokens.push(TokenTree::Group(called));
    let mut whole = attribute();
    whole.extend(tokens);
    whole
}

/// The attribute that this one stands in for.
fn attribute() -> TokenStream {
    let path = parsed("::core::prelude::v1::test");
    let hash = TokenTree::Punct(Punct::new('#', Spacing::Alone));
    let brackets = Group::new(Delimiter::Bracket, path);
    [hash, TokenTree::Group(brackets)].into_iter().collect()
}

fn parsed(code: &str) -> TokenStream {
    code.parse().expect("it is Rust")
}
