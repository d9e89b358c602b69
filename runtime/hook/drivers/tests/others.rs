//! Clients of other protocols, against servers that others have written.

use std::{
    io::Read,
    process::Command,
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::spawn;
use maniple_drivers::{CALL, Cut, Server, at_once, at_once_by, on_one_worker};

const SHORT: Duration = Duration::from_millis(100);

fn url(server: &Server) -> String {
    format!("http://127.0.0.1:{}/slow", server.port)
}

#[test]
fn ureq_as_it_comes() {
    let server = Server::http();
    let url = url(&server);
    // One agent, whose connections are kept.
    let agent = ureq::Agent::new_with_defaults();
    at_once(move |_| {
        let told = agent
            .get(&url)
            .call()
            .unwrap()
            .body_mut()
            .read_to_string()
            .unwrap();
        assert_eq!(told, "/slow");
    });
}

#[test]
fn ureqs_pool_hands_out_no_connection_that_was_cut() {
    let server = Server::http();
    let (slow, quick) = (
        url(&server),
        format!("http://127.0.0.1:{}/quick", server.port),
    );
    on_one_worker(move || {
        let agent = ureq::Agent::new_with_defaults();
        for round in 0..4 {
            Cut::ALL[round % 2].after(SHORT, || agent.get(&slow).call());
            let told = agent
                .get(&quick)
                .call()
                .unwrap()
                .body_mut()
                .read_to_string()
                .unwrap();
            assert_eq!(told, "/quick");
        }
    });
}

#[test]
fn attohttpc_as_it_comes() {
    let server = Server::http();
    let url = url(&server);
    at_once(move |_| {
        assert_eq!(
            attohttpc::get(&url).send().unwrap().text().unwrap(),
            "/slow"
        )
    });
}

#[test]
fn minreq_as_it_comes() {
    let server = Server::http();
    let url = url(&server);
    at_once(move |_| assert_eq!(minreq::get(&url).send().unwrap().as_str().unwrap(), "/slow"));
}

#[test]
fn curl_as_it_comes() {
    let server = Server::http();
    let url = url(&server);
    at_once(move |_| {
        let mut told = Vec::new();
        let mut call = curl::easy::Easy::new();
        call.url(&url).unwrap();
        let mut transfer = call.transfer();
        let take = |bytes: &[u8]| {
            told.extend_from_slice(bytes);
            Ok(bytes.len())
        };
        transfer.write_function(take).unwrap();
        transfer.perform().unwrap();
        drop(transfer);
        assert_eq!(told, b"/slow");
    });
}

#[test]
fn curls_handle_does_not_use_a_connection_again_that_was_cut() {
    let server = Server::http();
    let base = format!("http://127.0.0.1:{}", server.port);
    on_one_worker(move || {
        let mut call = curl::easy::Easy::new();
        let told = Arc::new(Mutex::new(Vec::new()));
        let theirs = told.clone();
        let take = move |bytes: &[u8]| {
            theirs.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        };
        call.write_function(take).unwrap();
        for round in 0..4 {
            call.url(&format!("{base}/slow")).unwrap();
            Cut::ALL[round % 2].after(SHORT, || call.perform());
            // Whatever it had of that.
            told.lock().unwrap().clear();
            // Once by a new connection, and again by the same.
            for again in 0..2 {
                call.url(&format!("{base}/{round}-{again}")).unwrap();
                call.perform().unwrap();
                let told = std::mem::take(&mut *told.lock().unwrap());
                assert_eq!(told, format!("/{round}-{again}").as_bytes());
            }
        }
    });
}

mod lettre_crate {
    use super::*;
    use lettre::{Message, SmtpTransport, Transport};

    fn transport(server: &Server) -> SmtpTransport {
        SmtpTransport::builder_dangerous("127.0.0.1")
            .port(server.port)
            .build()
    }

    fn mail(to: &str, subject: &str) -> Message {
        let mail = Message::builder()
            .from("a@example.com".parse().unwrap())
            .to(to.parse().unwrap());
        mail.subject(subject).body("hello".to_owned()).unwrap()
    }

    /// What the server says of it: its subject.
    fn send(by: &SmtpTransport, mail: &Message) -> Result<String, lettre::transport::smtp::Error> {
        let told = by.send(mail)?;
        Ok(told.first_line().unwrap_or_default().to_owned())
    }

    #[test]
    fn mails_are_sent_at_once() {
        let server = Server::mail();
        let transport = transport(&server);
        at_once(move |n| {
            let subject = format!("number {n}");
            let told = send(&transport, &mail("slow@example.com", &subject)).unwrap();
            assert_eq!(told, subject);
        });
    }

    #[test]
    fn its_pool_hands_out_no_connection_that_was_cut() {
        let server = Server::mail();
        let transport = transport(&server);
        on_one_worker(move || {
            let quick = |subject: &str| send(&transport, &mail("b@example.com", subject)).unwrap();
            assert_eq!(quick("the first"), "the first");
            for round in 0..4 {
                let slow = mail("slow@example.com", "slow");
                Cut::ALL[round % 2].after(SHORT, || send(&transport, &slow));
                // Once by a new connection, and again by the same.
                for again in 0..2 {
                    let subject = format!("{round} {again}");
                    assert_eq!(quick(&subject), subject);
                }
            }
        });
    }
}

#[test]
fn tungstenite_as_it_comes_with_a_server_of_websockets() {
    let server = Server::websocket();
    let url = format!("ws://127.0.0.1:{}/", server.port);
    at_once(move |n| {
        let (mut socket, _) = tungstenite::connect(&url).unwrap();
        let text = format!("slow {n}");
        socket.send(text.clone().into()).unwrap();
        assert_eq!(socket.read().unwrap().to_text().unwrap(), text);
        socket.close(None).unwrap();
        while socket.read().is_ok() {}
    });
}

#[test]
fn tungstenite_as_it_comes_with_clients_of_websockets() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    on_one_worker(move || {
        let server = spawn(move || {
            let all: Vec<_> = listener
                .incoming()
                .take(20)
                .map(|stream| {
                    spawn(move || {
                        let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
                        while let Ok(message) = socket.read() {
                            if message.is_text() || message.is_binary() {
                                socket.send(message).unwrap();
                            }
                        }
                    })
                })
                .collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        });
        let told = Command::new(maniple_drivers::python())
            .args(["-c", include_str!("websocket_client.py")])
            .arg(port.to_string())
            .output()
            .unwrap();
        assert!(told.status.success(), "{told:?}");
        assert_eq!(String::from_utf8_lossy(&told.stdout).trim(), "80");
        server.join().unwrap();
    });
}

#[test]
fn tungstenite_as_it_comes_at_both_ends() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    on_one_worker(move || {
        let server = spawn(move || {
            for stream in listener.incoming().take(20) {
                spawn(move || {
                    let mut socket = tungstenite::accept(stream.unwrap()).unwrap();
                    while let Ok(message) = socket.read() {
                        if message.is_close() {
                            break;
                        }
                        std::thread::sleep(Duration::from_millis(5));
                        socket.send(message).unwrap();
                    }
                });
            }
        });
        let clients: Vec<_> = (0..20)
            .map(|n| {
                spawn(move || {
                    let url = format!("ws://{address}/");
                    let (mut socket, _) = tungstenite::connect(url).unwrap();
                    for round in 0..5 {
                        let text = format!("{n} {round}");
                        socket.send(text.clone().into()).unwrap();
                        assert_eq!(socket.read().unwrap().to_text().unwrap(), text);
                    }
                    socket.close(None).unwrap();
                    while socket.read().is_ok() {}
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.join().unwrap();
    });
}

/// Its connection belongs to threads of its own, for which callers park theirs.
#[allow(deprecated, reason = "it is the crate that waits, and has no other")]
#[test]
fn nats_goes_on_offload_and_on_a_thread_of_its_own() {
    let server = Server::nats();
    let address = format!("127.0.0.1:{}", server.port);
    on_one_worker(move || {
        let connection = maniple::offload(|| nats::connect(address))
            .unwrap()
            .unwrap();
        let theirs = connection.clone();
        let subscribe = move || {
            let news = theirs.subscribe("news")?;
            theirs.flush().map(|()| news)
        };
        let news = maniple::offload(subscribe).unwrap().unwrap();
        let (tell, told) = maniple::sync::mpsc::sync_channel(10);
        let thread = std::thread::spawn(move || {
            let mut messages = news.messages();
            messages.try_for_each(|message| tell.send(message.data).map_err(drop))
        });
        for n in 0..5_u8 {
            let theirs = connection.clone();
            maniple::offload(move || theirs.publish("news", [n]))
                .unwrap()
                .unwrap();
        }
        for n in 0..5_u8 {
            assert_eq!(told.recv().unwrap(), [n]);
        }
        maniple::offload(move || connection.close()).unwrap();
        drop(told);
        thread.join().unwrap().unwrap();
    });
}

#[test]
fn std_as_it_comes() {
    let port = maniple_drivers::lines(|line| format!("{line}\n")).unwrap();
    at_once_by(200, move |n| {
        use std::io::Write;
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(format!("{n}\n").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert_eq!(told, format!("{n}\n"));
    });
    assert!(CALL > SHORT);
}
