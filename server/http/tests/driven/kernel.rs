//! Which tests need the real kernel, other programs or several workers, and so do not run in a simulated world; and which
//! need its time.

/// The beginnings of tests' names, with their program and module, below why they do.
const NEEDS: &[(&str, &[&str])] = &[
    (
        "files of the kernel's",
        &[
            "served::compressing::files_are_compressed_whole_and_not_in_parts",
            "served::files::",
            "served::uploads::a_form_with_files_comes_as_it_was_put_together",
        ],
    ),
    (
        "other programs",
        &[
            "http2::peers::",
            "http2::secure::",
            "http2::servers::",
            "served::compressing::curl_decodes_what_it_is_sent",
            "served::counting::promtool_has_nothing_to_object_to",
            "served::programs::",
            "served::redirecting::curl_and_python_follow_what_handlers_answer",
            "websocket::clients::",
        ],
    ),
    (
        "sockets with options, or bound before they connect",
        &[
            "served::disconnecting::a_reset_cuts_them_whatever_else_counts",
            "served::leaving::",
            "served::limiting::one_address_may_ask_so_often_over_any_of_its_connections",
            "served::limiting::one_address_may_have_so_many_connections_and_others_have_their_own",
        ],
    ),
    (
        "the kernel's registry of sockets, a full backlog, or a descriptor that is inherited",
        &[
            "served::phases::the_address_that_answers_is_taken_and_the_one_that_does_not_costs_a_moment",
            "served::queueing::an_idle_connection_to_another_host_makes_room",
            "served::queueing::hosts_that_are_asked_by_many_share_a_few_connections",
            "served::through::a_proxy_that_says_nothing_is_waited_for_as_long_as_for_a_connection",
            "served::transports::a_server_takes_a_descriptor_that_it_inherited",
        ],
    ),
    (
        "what is sent has arrived at once",
        &["lifecycle::a_drain_answers_pipelined_requests_that_had_arrived"],
    ),
    (
        "room in buffers for all that is sent while nobody reads",
        &["served::disconnecting::what_nobody_has_read_does_not_hide_that_a_client_has_gone"],
    ),
    (
        "addresses of IPv6",
        &["served::secure::a_certificate_that_does_not_hold_is_told_by_its_fault"],
    ),
    (
        "kept connections that are not lost on purpose, as they are in worlds",
        &[
            "http2::proxied::a_server_that_speaks_http1_is_asked_over_the_tunnel_that_found_it_out",
            "served::balancing::where_one_has_too_much_to_do_another_answers_and_where_all_have_that_is_said",
            "served::pooling::connections_that_their_peers_close_are_closed_while_the_client_rests",
            "served::queueing::a_connection_is_not_used_beyond_its_age",
        ],
    ),
    (
        "several workers, or plain threads beside them",
        &[
            "served::compressing::a_neighbour_on_the_worker_has_its_turn_while_bodies_are_compressed",
            "served::pooling::the_end_of_a_runtime_closes_what_its_keeper_kept_and_the_client_goes_on",
            "served::secure::certificates_are_read_again_under_load_and_no_request_is_lost",
            "served::secure::handshakes_that_are_made_at_once_leave_their_places_to_others",
            "served::standby::a_worker_that_is_held_keeps_no_connection_waiting",
            "websocket::conformance::",
        ],
    ),
];

/// Whether a test does.
pub(super) fn is_needed(test: &str) -> bool {
    let mut names = NEEDS.iter().flat_map(|(_, names)| *names);
    names.any(|name| test.starts_with(name))
}

/// Tests that run in a world in any case: each tells a time limit that passes from something that is to come before it, and
/// for as short a limit as nobody minds to wait for, a busy machine may be late with that.
const TIMED: &[&str] = &[
    "http2::bodies::a_writer_waits_for_the_clients_window_and_for_no_longer_than_a_stall",
    "http2::faults::a_handler_ends_in_time_whatever_its_client_does",
    "http2::limits::a_connection_that_asks_for_nothing_is_told_and_ended",
    "http2::limits::a_connection_that_is_too_old_ends_with_its_requests_if_they_take_too_long",
    "http2::limits::a_window_that_is_never_opened_holds_an_answer_no_longer_than_the_idle_time",
    "http2::limits::what_has_begun_must_come_in_time",
    "lifecycle::a_client_that_reads_nothing_is_given_up",
    "lifecycle::an_idle_connection_is_closed_in_time_also_after_a_body_that_came_out_even",
    "served::handover::timeouts_of_http_do_not_hold_after_the_switch_and_own_ones_do",
    "served::limiting::a_route_may_take_longer_than_its_router_says",
    "served::phases::a_body_that_is_sent_for_longer_than_the_answer_may_take_is_answered",
    "served::phases::a_request_has_a_time_of_its_own_up_to_the_end_of_the_body",
    "served::phases::the_callers_deadline_says_what_it_cut_too",
    "served::protocol::slow_heads_get_408_and_silent_connections_are_closed",
    "served::refusing::a_head_that_has_no_end_in_time_is_heard_of",
    "served::secure::who_does_not_shake_hands_in_time_is_closed",
    "served::uploads::a_request_cut_in_the_middle_leaves_no_connection_behind",
    "websocket::serving::a_client_connects_as_another_client_does",
    "websocket::serving::a_silent_client_is_pinged_and_is_gone_if_it_stays_silent",
];

/// Whether a test does.
pub(super) fn is_timed(test: &str) -> bool {
    TIMED.iter().any(|name| test.starts_with(name))
}
