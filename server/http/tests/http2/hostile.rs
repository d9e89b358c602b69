//! Servers that keep to no rule: what they can have a client do is bounded, and told.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{TcpListener, TcpStream},
};
use maniple_server::{Client, ClientError, Method, client::Phase, http2::LinkSettings};

use super::{
    raw::{
        ACK, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, block,
        frame,
    },
    run,
};

/// What a server has of a connection.
struct Peer(TcpStream);

impl Peer {
    /// One that a client has said hello to, and that has said hello.
    fn accept(listener: &TcpListener) -> Self {
        let (stream, _) = listener.accept().unwrap();
        let mut peer = Self(stream);
        peer.0.read_exact(&mut [0; 24]).unwrap();
        peer.say(&frame(SETTINGS, 0, 0, &[]));
        peer
    }

    /// Whether it can still be said.
    fn say(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }

    /// The next frame: its kind and its stream.
    fn hear(&mut self) -> Option<(u8, u32)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).ok()?;
        Some((head[3], u32::from_be_bytes(head[5..].try_into().unwrap())))
    }

    /// The stream of the next request.
    fn request(&mut self) -> Option<u32> {
        std::iter::from_fn(|| self.hear())
            .find(|(kind, _)| *kind == HEADERS)
            .map(|(_, stream)| stream)
    }

    /// Reads until the client has gone.
    fn hear_out(&mut self) {
        while self.hear().is_some() {}
    }
}

fn head(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

fn hello(stream: u32) -> Vec<u8> {
    let head = head(stream, 0, &[(":status", "200")]);
    [head, frame(DATA, END_STREAM, stream, b"hello")].concat()
}

/// A server of that behaviour, for each of so many connections.
fn serve(
    connections: usize,
    behave: impl Fn(usize, &mut Peer) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = maniple::spawn(move || {
        for number in 0..connections {
            behave(number, &mut Peer::accept(&listener));
        }
    });
    (url, serving)
}

fn client() -> Client {
    Client::builder().http2_prior_knowledge(true).build()
}

fn text(client: &Client, url: &str) -> Result<String, ClientError> {
    client.get(url)?.text()
}

#[test]
fn what_breaks_the_rules_is_malformed() {
    run(|| {
        type Says = fn(u32) -> Vec<u8>;
        let cases: [(&str, Says); 7] = [
            ("a body shorter than its length", |stream| {
                let fields = [(":status", "200"), ("content-length", "9")];
                [
                    head(stream, 0, &fields),
                    frame(DATA, END_STREAM, stream, b"short"),
                ]
                .concat()
            }),
            ("a body longer than its length", |stream| {
                let fields = [(":status", "200"), ("content-length", "2")];
                [
                    head(stream, 0, &fields),
                    frame(DATA, END_STREAM, stream, b"long"),
                ]
                .concat()
            }),
            ("no status", |stream| {
                head(stream, END_STREAM, &[("x-a", "b")])
            }),
            ("a field in capitals", |stream| {
                head(stream, END_STREAM, &[(":status", "200"), ("X-A", "b")])
            }),
            ("a field of one connection", |stream| {
                head(
                    stream,
                    END_STREAM,
                    &[(":status", "200"), ("connection", "close")],
                )
            }),
            ("other protocols", |stream| {
                head(stream, 0, &[(":status", "101")])
            }),
            ("interim answers without end", |stream| {
                head(stream, 0, &[(":status", "103")]).repeat(200)
            }),
        ];
        for (name, says) in cases {
            let (url, serving) = serve(1, move |_, peer| {
                let stream = peer.request().unwrap();
                peer.say(&says(stream));
                peer.hear_out();
            });
            let client = client();
            let error = text(&client, &url).expect_err(name);
            assert!(
                matches!(error, ClientError::Protocol { .. }),
                "{name}: {error}"
            );
            drop(client);
            serving.join().unwrap();
        }
    });
}

#[test]
fn lengths_near_two_to_the_64th_are_errors_at_once() {
    run(|| {
        for length in [
            "18446744073709551615",
            "18446744073709551616",
            "9223372036854775808",
        ] {
            let (url, serving) = serve(1, move |_, peer| {
                let stream = peer.request().unwrap();
                let fields = [(":status", "200"), ("content-length", length)];
                // Without an end.
                peer.say(&head(stream, 0, &fields));
                peer.say(&frame(DATA, 0, stream, b"some"));
                peer.hear_out();
            });
            let client = client();
            let told = maniple::timeout(Duration::from_secs(5), || text(&client, &url));
            assert!(
                told.unwrap().is_err_and(|error| !error.is_timeout()),
                "{length}"
            );
            drop(client);
            serving.join().unwrap();
        }
    });
}

#[test]
fn heads_are_bounded() {
    run(|| {
        let (url, serving) = serve(1, |_, peer| {
            let stream = peer.request().unwrap();
            let value = "x".repeat(5_000);
            peer.say(&head(
                stream,
                END_STREAM,
                &[(":status", "200"), ("x-a", &value)],
            ));
            peer.hear_out();
        });
        let small = LinkSettings::new().max_head_bytes(4_000);
        let client = Client::builder()
            .http2_prior_knowledge(true)
            .http2_settings(small)
            .build();
        assert!(client.get(&url).is_err());
        drop(client);
        serving.join().unwrap();
    });
}

#[test]
fn a_body_that_is_reset_is_an_error_and_the_link_goes_on() {
    // Also where the server says that nothing is wrong: the body has no end. So does Node where a stream is destroyed.
    const CODES: [u32; 3] = [2, 0, 8];
    run(|| {
        let (url, serving) = serve(1, |_, peer| {
            for code in CODES {
                let stream = peer.request().unwrap();
                peer.say(&head(stream, 0, &[(":status", "200")]));
                peer.say(&frame(DATA, 0, stream, b"begun"));
                peer.say(&frame(RST_STREAM, 0, stream, &code.to_be_bytes()));
            }
            let stream = peer.request().unwrap();
            peer.say(&hello(stream));
            peer.hear_out();
        });
        let client = client();
        for code in CODES {
            let error = text(&client, &url).unwrap_err();
            assert_eq!(error.phase(), Some(Phase::Body), "{code}: {error}");
        }
        assert_eq!(text(&client, &url).unwrap(), "hello");
        drop(client);
        serving.join().unwrap();
    });
}

#[test]
fn what_was_not_looked_at_is_asked_again_whatever_the_method() {
    run(|| {
        let (url, serving) = serve(2, |number, peer| {
            let stream = peer.request().unwrap();
            if number == 0 {
                // Refused, and asked again on the same link; then the server goes, with none of it.
                peer.say(&frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes()));
                peer.request().unwrap();
                peer.say(&frame(GOAWAY, 0, 0, &[0; 8]));
            } else {
                peer.say(&hello(stream));
            }
            peer.hear_out();
        });
        let client = client();
        let answer = client.post(&url).body("once").send().unwrap();
        assert_eq!(answer.text().unwrap(), "hello");
        drop(client);
        serving.join().unwrap();
    });
}

#[test]
fn what_may_have_been_looked_at_is_asked_again_only_if_that_is_safe() {
    run(|| {
        for (method, is_safe) in [(Method::GET, true), (Method::POST, false)] {
            let (url, serving) = serve(1 + usize::from(is_safe), |number, peer| {
                let stream = peer.request().unwrap();
                peer.say(&hello(stream));
                if number == 0 {
                    // Its end says nothing of the second request.
                    peer.request().unwrap();
                } else {
                    peer.hear_out();
                }
            });
            let client = client();
            assert_eq!(text(&client, &url).unwrap(), "hello");
            let answer = client.request(method.clone(), &url).send();
            match answer {
                Ok(answer) if is_safe => assert_eq!(answer.text().unwrap(), "hello"),
                Err(error) if !is_safe => assert_eq!(error.phase(), Some(Phase::Answer)),
                other => panic!("{method}: {other:?}"),
            }
            drop(client);
            serving.join().unwrap();
        }
    });
}

#[test]
fn a_server_that_refuses_for_ever_is_not_asked_for_ever() {
    run(|| {
        let (url, serving) = serve(1, |_, peer| {
            while let Some(stream) = peer.request() {
                peer.say(&frame(RST_STREAM, 0, stream, &7_u32.to_be_bytes()));
            }
        });
        let client = client();
        assert!(client.get(&url).unwrap_err().phase().is_some());
        drop(client);
        serving.join().unwrap();
    });
}

#[test]
fn frames_that_ask_for_nothing_and_frames_that_are_none_harm_nobody() {
    run(|| {
        let (url, serving) = serve(1, |_, peer| {
            let stream = peer.request().unwrap();
            for _ in 0..2_000 {
                peer.say(&frame(PING, 0, 0, &[0; 8]));
                peer.say(&frame(SETTINGS, ACK, 0, &[]));
                peer.say(&frame(0xbe, 0, 0, b"anything"));
            }
            peer.say(&hello(stream));
            peer.hear_out();
        });
        let client = client();
        // It ends either way, and soon.
        let ended = maniple::timeout(Duration::from_secs(30), || text(&client, &url));
        assert!(ended.is_ok());
        drop(client);
        serving.join().unwrap();

        let (url, serving) = serve(1, |_, peer| {
            peer.request().unwrap();
            peer.say(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
            peer.hear_out();
        });
        let client = self::client();
        assert!(client.get(&url).is_err());
        drop(client);
        serving.join().unwrap();
    });
}

#[test]
fn a_server_that_is_dead_is_found_out() {
    run(|| {
        let (url, serving) = serve(1, |_, peer| {
            // It reads, and says nothing any more.
            peer.hear_out();
        });
        let link =
            LinkSettings::new().keep_alive(Duration::from_millis(100), Duration::from_millis(100));
        let client = Client::builder()
            .http2_prior_knowledge(true)
            .http2_settings(link)
            .build();
        let error = client.post(&url).body("x").send().unwrap_err();
        assert_eq!(error.phase(), Some(Phase::Answer), "{error}");
        drop(client);
        serving.join().unwrap();
    });
}
