//! A server and its clients over a network that resets, throttles and drops by rules.

use std::{collections::BTreeMap, sync::Arc};

use maniple::{
    sim::{self, PacketKind},
    sync::Mutex,
};
use maniple_server::{Client, Method, Request, Router};

use super::{MILLI, serve};

#[test]
fn what_is_acknowledged_was_done_and_no_answer_is_anothers_over_links_that_reset() {
    what_is_acknowledged_was_done(Client::new);
}

pub(super) fn what_is_acknowledged_was_done(client: fn() -> Client) {
    sim::check(sim::seeds(200), move |world| {
        let done = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
        let (theirs, handles) = (done.clone(), Arc::new(Mutex::new(Vec::new())));
        let left = handles.clone();
        let _api = world.host("api", move || {
            let done = theirs.clone();
            let router = Router::new().post("/{number}", move |request: &mut Request| {
                let number = request.param("number").unwrap_or_default().to_owned();
                *done.lock().entry(number.clone()).or_default() += 1;
                number
            });
            serve(router, &left);
        });
        world.settle();
        let link = world.link("scenario", "api").latency(MILLI..9 * MILLI);
        drop(link.loss(0.02).resets(0.02).bandwidth(200_000));
        let rule = world.rule(|packet| packet.of(PacketKind::Data).sometimes(0.02).then_drop());
        let client = client();
        maniple::group(|g| {
            for caller in 0..3 {
                let (client, done) = (&client, &done);
                g.spawn(move || {
                    for call in 0..5 {
                        let number = (caller * 100 + call).to_string();
                        let url = format!("http://api/{number}");
                        let asked = maniple::timeout(2000 * MILLI, || {
                            let answer = client.request(Method::POST, &url).send();
                            answer.and_then(|answer| answer.text())
                        });
                        if let Ok(Ok(answer)) = &asked {
                            sim::always!(*answer == number, "{answer} for {number}");
                            sim::always!(
                                done.lock().contains_key(&number),
                                "{number} was not done"
                            );
                        }
                        sim::sometimes!(matches!(asked, Ok(Ok(_))));
                        sim::sometimes!(!matches!(asked, Ok(Ok(_))));
                    }
                });
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        drop((rule, client));
        // Nothing of POST is sent a second time by itself.
        assert!(done.lock().values().all(|times| *times == 1), "{done:?}");
        let handle = handles.lock()[0].clone();
        handle.drain();
        let drained = maniple::timeout(120_000 * MILLI, || {
            while !handle.is_drained() {
                maniple::sleep(MILLI);
            }
        });
        assert!(drained.is_ok(), "the drain ends");
        assert_eq!(
            handle.connections(),
            0,
            "nothing is left of connections that were reset"
        );
    });
}
