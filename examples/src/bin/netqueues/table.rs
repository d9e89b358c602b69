//! The tables: columns as ss(8) has them, and since when nothing has moved.

use std::fmt;

use maniple_examples::sockdiag::{Socket, State};

use crate::watch::Row;

/// The server's own sockets.
pub fn server(rows: &[Row]) -> String {
    let mut text = heading("Since");
    for row in rows {
        let since = row
            .since
            .map(|since| format!("{:.1} s", since.as_secs_f64()));
        line(&mut text, &row.socket, &OrDash(since).to_string());
    }
    text
}

/// The other ends, with no more than the kernel knows.
pub fn clients(sockets: &[Socket]) -> String {
    let mut sockets: Vec<_> = sockets.iter().collect();
    sockets.sort_by_key(|socket| socket.local);
    let mut text = heading("");
    for socket in sockets {
        line(&mut text, socket, "");
    }
    text
}

fn heading(since: &str) -> String {
    row([
        "State", "Recv-Q", "Send-Q", "Local", "Peer", "Window", since,
    ])
}

fn line(text: &mut String, socket: &Socket, since: &str) {
    let listening = socket.state == State::LISTEN;
    let connected = socket.info.filter(|_| !listening);
    text.push_str(&row([
        &socket.state.to_string(),
        &socket.recv_queue.to_string(),
        &socket.send_queue.to_string(),
        &socket.local.to_string(),
        &OrDash((!listening).then_some(socket.peer)).to_string(),
        &OrDash(connected.and_then(|info| info.peer_window)).to_string(),
        since,
    ]));
}

fn row([state, recv, send, local, peer, window, since]: [&str; 7]) -> String {
    let row =
        format!("{state:<10} {recv:>7} {send:>7}  {local:<21} {peer:<21} {window:>7}  {since}");
    format!("{}\n", row.trim_end())
}

struct OrDash<T>(Option<T>);

impl<T: fmt::Display> fmt::Display for OrDash<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("-"),
        }
    }
}
