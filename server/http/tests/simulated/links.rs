//! The client's links of HTTP/2, over a network that loses, resets and throttles.

use std::{sync::Arc, time::Duration};

use maniple::{sim, sync::Mutex};
use maniple_server::{Client, Router};

use super::{no_answer_goes_to_another_call, serve, text, weather::what_is_acknowledged_was_done};

fn client() -> Client {
    Client::builder().http2_prior_knowledge(true).build()
}

#[test]
fn no_answer_goes_to_another_call_over_a_link() {
    no_answer_goes_to_another_call(client);
}

#[test]
fn what_is_acknowledged_was_done_over_links_that_reset() {
    what_is_acknowledged_was_done(client);
}

#[test]
fn a_link_that_is_idle_has_no_turn_until_it_ends() {
    const IDLE: Duration = Duration::from_secs(40);
    sim::check(sim::seeds(200), |world| {
        let handles = Arc::new(Mutex::new(Vec::new()));
        let left = handles.clone();
        let _api = world.host("api", move || {
            serve(
                Router::new().get("/{number}", |_: &mut _| "an answer"),
                &left,
            );
        });
        world.settle();
        let client = Client::builder()
            .http2_prior_knowledge(true)
            .idle_timeout(IDLE)
            .build();
        assert_eq!(text(&client, 1).as_deref(), Some("an answer"));
        // The server looks once, when the time for a head is over.
        world.quiet_for(IDLE * 5 / 8, IDLE);
        let handle = handles.lock()[0].clone();
        assert_eq!(handle.connections(), 1, "it is kept");
        maniple::sleep(IDLE / 2);
        assert_eq!(handle.connections(), 0, "it has ended");
    });
}
