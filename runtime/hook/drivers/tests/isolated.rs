//! Crates with threads or a runtime of their own inside: what coroutines get from them as they come, and an adapter for
//! each, which the book shows.

use std::{
    error::Error,
    panic,
    sync::Mutex,
    time::{Duration, Instant},
};

use maniple::{offload, spawn, sync::mpsc, task, time};
use maniple_drivers::{CALL, Cut, Server, at_once_by, on_one_worker, stalls};
use r2d2_postgres::PostgresConnectionManager;
use rumqttc::{ConnectionError, Event, MqttOptions, QoS};

/// Within it no slow call comes to its end.
const SHORT: Duration = Duration::from_millis(100);

// ANCHOR: postgres
/// A pool, of which each caller has a connection for the time of one job.
#[derive(Clone)]
struct Database(r2d2::Pool<PostgresConnectionManager<postgres::NoTls>>);

impl Database {
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut postgres::Client) -> Result<T, postgres::Error> + Send + 'static,
    ) -> Result<T, Box<dyn Error + Send + Sync>> {
        let pool = self.0.clone();
        let job = move || Ok(question(&mut *pool.get()?)?);
        offload(job)?
    }
}
// ANCHOR_END: postgres

// ANCHOR: reqwest
/// One client for all; each call is a job, which knows how long its caller has.
fn fetch(
    client: &reqwest::blocking::Client,
    url: &str,
) -> Result<String, Box<dyn Error + Send + Sync>> {
    let call = client.get(url);
    let job = move || match time::remaining() {
        Some(left) => call.timeout(left).send()?.error_for_status()?.text(),
        None => call.send()?.error_for_status()?.text(),
    };
    Ok(offload(job)??)
}
// ANCHOR_END: reqwest

// ANCHOR: rumqttc
/// A client whose connection has a thread of its own, which ends some time after `told` is dropped.
struct Mqtt {
    client: rumqttc::Client,
    /// Connects anew after an error, if it is received from again.
    told: mpsc::Receiver<Result<Event, ConnectionError>>,
}

impl Mqtt {
    fn new(options: MqttOptions) -> Self {
        let (client, mut connection) = rumqttc::Client::new(options, 10);
        let (tell, told) = mpsc::sync_channel(10);
        std::thread::spawn(move || connection.iter().try_for_each(|event| tell.send(event)));
        Self { client, told }
    }

    /// On `offload`, since it waits while ten others do, as they do when the broker is away.
    fn publish(&self, topic: &str, bytes: Vec<u8>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (client, topic) = (self.client.clone(), topic.to_owned());
        let job = move || client.publish(topic, QoS::AtLeastOnce, false, bytes);
        Ok(offload(job)??)
    }
}
// ANCHOR_END: rumqttc

/// Runs both in coroutines of one worker, the second while the first waits; the second panics as a runtime does that is
/// started within another, and that is told by the line of that crate.
fn panics_beside(
    first: impl FnOnce() + Send + 'static,
    second: impl FnOnce() + Send + 'static,
    of: &str,
) {
    static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());
    panic::set_hook(Box::new(|panic| {
        TOLD.lock().unwrap().push(panic.to_string());
    }));
    let join = on_one_worker(|| {
        let first = spawn(first);
        time::sleep(SHORT);
        let second = spawn(second).join();
        first.join().unwrap();
        second
    });
    drop(panic::take_hook());
    const SAID: &str = "Cannot start a runtime from within a runtime";
    let told = std::mem::take(&mut *TOLD.lock().unwrap());
    let is_it = |told: &String| told.contains(SAID) && told.contains(of);
    assert!(told.iter().any(is_it), "{told:#?}");
    let join = join.unwrap_err().to_string();
    assert!(join.contains(SAID), "{join}");
}

mod reqwest_crate {
    use super::*;
    use reqwest::blocking::Client;

    fn urls(server: &Server) -> [String; 2] {
        ["slow", "quick"].map(|path| format!("http://127.0.0.1:{}/{path}", server.port))
    }

    #[test]
    fn on_offload_its_calls_are_at_once() {
        let server = Server::http();
        let [slow, quick] = urls(&server);
        let client = Client::new();
        let theirs = client.clone();
        at_once_by(8, move |_| {
            assert_eq!(fetch(&theirs, &slow).unwrap(), "/slow")
        });
        let [slow, _] = urls(&server);
        on_one_worker(|| {
            for cut in Cut::ALL {
                cut.after(SHORT, || fetch(&client, &slow));
                assert_eq!(fetch(&client, &quick).unwrap(), "/quick");
            }
        });
    }

    /// It parks the thread: right, one after another, and the watch names who keeps the worker, and where.
    #[test]
    fn as_it_comes_each_of_its_calls_keeps_the_worker_and_is_named() {
        let server = Server::http();
        let [slow, _] = urls(&server);
        let client = Client::new();
        on_one_worker(|| {
            let began = Instant::now();
            let told = stalls(|| {
                let all: Vec<_> = (0..3)
                    .map(|_| {
                        let call = client.get(&slow);
                        let named = task::Builder::new().name("fetch");
                        named
                            .spawn(move || call.send().unwrap().text().unwrap())
                            .unwrap()
                    })
                    .collect();
                for one in all {
                    assert_eq!(one.join().unwrap(), "/slow");
                }
            });
            let took = began.elapsed();
            assert!(took >= 3 * CALL, "one after another: {took:?}");
            // All of them, unless it is still busy with the one before.
            let parts = ["\"fetch\"", "reqwest::blocking", file!()];
            let is_named = |told: &String| parts.iter().all(|part| told.contains(part));
            assert!(told.iter().any(is_named), "{told:#?}");
        });
    }
}

mod postgres_crate {
    use super::*;
    use postgres::{Client, NoTls};

    fn url(server: &Server) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", server.port)
    }

    fn slow(client: &mut Client, n: i32) -> Result<i32, postgres::Error> {
        let asked = format!("SELECT $1::INT FROM pg_sleep({})", CALL.as_secs_f64());
        Ok(client.query_one(&asked, &[&n])?.get(0))
    }

    #[test]
    fn on_offload_its_calls_are_at_once() {
        let server = Server::postgres();
        let manager = PostgresConnectionManager::new(url(&server).parse().unwrap(), NoTls);
        let pool = r2d2::Pool::builder().max_size(8).build(manager).unwrap();
        let database = Database(pool);
        let theirs = database.clone();
        at_once_by(8, move |n| {
            let n = n as i32;
            assert_eq!(theirs.ask(move |client| slow(client, n)).unwrap(), n);
        });
        on_one_worker(|| {
            for cut in Cut::ALL {
                cut.after(SHORT, || database.ask(|client| slow(client, 100)));
                let told = database.ask(|client| client.query_one("SELECT 7", &[]));
                assert_eq!(told.unwrap().get::<_, i32>(0), 7);
            }
            let wrong = database.ask(|client| client.batch_execute("nonsense"));
            assert!(wrong.unwrap_err().is::<postgres::Error>());
        });
    }

    #[test]
    fn as_it_comes_a_second_call_of_a_worker_panics() {
        let server = Server::postgres();
        let (first, second) = (url(&server), url(&server));
        panics_beside(
            move || {
                let mut client = Client::connect(&first, NoTls).unwrap();
                assert_eq!(slow(&mut client, 7).unwrap(), 7);
            },
            move || _ = Client::connect(&second, NoTls),
            "/postgres-",
        );
    }
}

mod rumqttc_crate {
    use super::*;
    use rumqttc::{Client, Packet};

    fn options(server: &Server, name: &str) -> MqttOptions {
        MqttOptions::new(name, "127.0.0.1", server.port)
    }

    #[test]
    fn with_a_thread_of_its_own_messages_are_published_and_received() {
        let server = Server::mosquitto();
        on_one_worker(|| {
            let all: Vec<_> = (0..4_u8)
                .map(|own| {
                    let mqtt = Mqtt::new(options(&server, &format!("test-{own}")));
                    spawn(move || {
                        let topic = format!("news/{own}");
                        mqtt.client.subscribe(&topic, QoS::AtLeastOnce).unwrap();
                        let mut next = || match mqtt.told.recv().unwrap().unwrap() {
                            Event::Incoming(packet) => Some(packet),
                            Event::Outgoing(_) => None,
                        };
                        while !matches!(next(), Some(Packet::SubAck(_))) {}
                        for n in 0..5 {
                            mqtt.publish(&topic, vec![own, n]).unwrap();
                        }
                        for n in 0..5 {
                            let got =
                                std::iter::repeat_with(&mut next).find_map(|packet| match packet {
                                    Some(Packet::Publish(message)) => Some(message.payload),
                                    _ => None,
                                });
                            assert_eq!(got.unwrap()[..], [own, n]);
                        }
                    })
                })
                .collect();
            all.into_iter().for_each(|one| one.join().unwrap());
        });
    }

    #[test]
    fn a_broker_that_is_away_keeps_no_worker() {
        let mut server = Server::mosquitto();
        on_one_worker(move || {
            let mqtt = Mqtt::new(options(&server, "test"));
            mqtt.told.recv().unwrap().unwrap();
            offload(move || server.kill()).unwrap();
            while mqtt.told.recv().unwrap().is_ok() {}
            let cut = maniple::timeout(SHORT, || -> Result<(), Box<dyn Error + Send + Sync>> {
                loop {
                    mqtt.publish("news", vec![0])?;
                }
            });
            assert!(!matches!(cut, Ok(Ok(()))));
        });
    }

    #[test]
    fn as_it_comes_a_second_connection_of_a_worker_panics() {
        let server = Server::mosquitto();
        let connections = ["first", "second"].map(|name| Client::new(options(&server, name), 10));
        let [(_client, mut first), (_other, mut second)] = connections;
        panics_beside(
            move || {
                while first.recv_timeout(CALL).is_ok() {}
            },
            move || {
                second.iter().next();
            },
            "/rumqttc-",
        );
    }
}
