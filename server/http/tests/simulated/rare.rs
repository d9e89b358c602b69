//! Rare ways that the server takes on purpose, without any weather.

use std::sync::Arc;

use maniple::{sim, sync::Mutex};
use maniple_server::Client;

use super::{MILLI, serve, slow_echo};

#[test]
fn a_server_ends_a_connection_behind_any_answer_and_no_call_fails() {
    sim::check(sim::seeds(200), |world| {
        let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
        let _api = world.host("api", move || serve(slow_echo(&own), &handles));
        world.link("scenario", "api").latency(MILLI..2 * MILLI);
        world.settle();
        let client = Client::new();
        for number in 0..8 {
            let answer = client.get(&format!("http://api/{number}")).unwrap();
            let ends = answer.header("connection").is_some_and(|it| it == "close");
            sim::sometimes!(ends);
            assert_eq!(answer.text().unwrap(), number.to_string());
        }
    });
}
