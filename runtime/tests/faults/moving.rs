//! Bytes on their way from one side to the other: what a cut loses is what was taken up, and nothing mixes.

use std::io::{self, Read, Write};

use maniple::{
    cancel::{cancel_at, is_cancelled_error},
    net::UnixStream,
};

use super::at_every_suspension;

/// What may be taken up and not yet laid down.
const PART: usize = 64 << 10;

/// More than fits into the kernel's buffers, with a period that no buffer has.
fn stuff() -> Vec<u8> {
    (0..=250).cycle().take(700_000).collect()
}

fn read_all(mut stream: &UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    if let Err(error) = stream.read_to_end(&mut all) {
        // The other end was closed with something unread in it.
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    all
}

/// Holds that `laid` and `left` are the ends of `all`, and that at most a part between them is missing.
fn accounted(all: &[u8], laid: &[u8], left: &[u8]) {
    assert!(all.starts_with(laid) && all.ends_with(left));
    let lost = all.len().checked_sub(laid.len() + left.len());
    assert!(lost.is_some_and(|lost| lost <= PART), "{lost:?}");
}

fn a_cut_move_loses_what_it_has_taken_up(carry: fn(&UnixStream, &UnixStream) -> io::Result<u64>) {
    let all = stuff();
    let points = at_every_suspension(|after| {
        let (source, from) = UnixStream::pair().unwrap();
        let (to, sink) = UnixStream::pair().unwrap();
        let struck = maniple::group(|g| {
            let all = &all;
            g.spawn(move || (&source).write_all(all).unwrap());
            let laid = g.spawn(move || read_all(&sink));
            let (carried, struck) = cancel_at(after, || carry(&from, &to));
            match carried {
                Ok(Ok(bytes)) => assert_eq!(bytes, all.len() as u64),
                Ok(Err(error)) => assert!(struck && is_cancelled_error(&error), "{error}"),
                Err(_) => panic!("it has an error to return"),
            }
            drop(to);
            let left = read_all(&from);
            accounted(all, &laid.join().unwrap(), &left);
            Ok::<_, ()>(struck)
        });
        // What was taken up comes out nowhere else.
        let (source, from) = UnixStream::pair().unwrap();
        let (to, sink) = UnixStream::pair().unwrap();
        (&source).write_all(b"next").unwrap();
        drop(source);
        assert_eq!(carry(&from, &to).unwrap(), 4);
        drop(to);
        assert_eq!(read_all(&sink), b"next", "cut at {after}");
        struck.unwrap()
    });
    assert!(points >= 6, "{points}");
}

#[test]
fn a_cut_splice_loses_what_it_has_taken_up_and_no_more() {
    a_cut_move_loses_what_it_has_taken_up(maniple::io::splice);
}

#[test]
fn a_cut_copy_loses_what_it_has_taken_up_and_no_more() {
    a_cut_move_loses_what_it_has_taken_up(|mut from, mut to| maniple::io::copy(&mut from, &mut to));
}

#[test]
fn a_cut_proxy_ends_both_ways() {
    let all = stuff();
    let points = at_every_suspension(|after| {
        let (client, near) = UnixStream::pair().unwrap();
        let (far, server) = UnixStream::pair().unwrap();
        let struck = maniple::group(|g| {
            let (all, client, server) = (&all, &client, &server);
            let talk = |end: &'static str, mut stream: &UnixStream| {
                // The proxy may be gone.
                let said = stream.write_all(all);
                _ = stream.shutdown(maniple::net::Shutdown::Write);
                (end, said.is_ok())
            };
            let said = [("client", client), ("server", server)]
                .map(|(end, stream)| g.spawn(move || talk(end, stream)));
            let heard = [client, server].map(|stream| g.spawn(move || read_all(stream)));
            let (carried, struck) =
                cancel_at(after, || maniple::io::copy_bidirectional(&near, &far));
            let whole = match carried {
                Ok(Ok(bytes)) => bytes == (all.len() as u64, all.len() as u64),
                Ok(Err(error)) => {
                    assert!(struck && is_cancelled_error(&error), "{error}");
                    false
                }
                Err(_) => panic!("it has an error to return"),
            };
            drop((near, far));
            for said in said {
                let (end, whole_said) = said.join().unwrap();
                assert!(whole_said || struck, "{end} at {after}");
            }
            for heard in heard {
                let heard = heard.join().unwrap();
                assert!(all.starts_with(&heard) && (!whole || heard.len() == all.len()));
            }
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 6, "{points}");
}
