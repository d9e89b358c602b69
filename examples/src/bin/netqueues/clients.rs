//! The demo's clients: some that behave, and one for each way to hold a connection up.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use maniple::net::TcpStream;

use crate::watch::Stall;

/// What a client of the demo does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// Asks for a little, reads it, pauses, and so on.
    Behaves,
    /// Asks for much, and reads none of it.
    StopsReading,
    /// Sends half a request.
    StopsSending,
    /// Sends more requests while the server still thinks about the first.
    KeepsServerThinking,
}

impl Client {
    pub const ALL: [Client; 6] = [
        Client::Behaves,
        Client::Behaves,
        Client::Behaves,
        Client::StopsReading,
        Client::StopsSending,
        Client::KeepsServerThinking,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Client::Behaves => "behaves",
            Client::StopsReading => "stops reading",
            Client::StopsSending => "stops sending amid a request",
            Client::KeepsServerThinking => "sends while the server thinks",
        }
    }

    /// How the watch is to find its connection.
    pub fn stall(self) -> Option<Stall> {
        match self {
            Client::Behaves => None,
            Client::StopsReading => Some(Stall::PeerDoesNotRead),
            Client::StopsSending => Some(Stall::PeerDoesNotSend),
            Client::KeepsServerThinking => Some(Stall::WeDoNotRead),
        }
    }

    pub fn connect(self, server: SocketAddr) -> io::Result<(Client, TcpStream)> {
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        Ok((self, stream))
    }

    /// Does it until the scope is cancelled.
    pub fn run(self, mut stream: &TcpStream) -> io::Result<()> {
        match self {
            Client::Behaves => loop {
                stream.write_all(b"get 1000\n")?;
                stream.read_exact(&mut [0; 1000])?;
                maniple::sleep(Duration::from_millis(20));
            },
            // More than the kernel buffers at both ends together.
            Client::StopsReading => stream.write_all(b"get 1000000000\n")?,
            Client::StopsSending => stream.write_all(b"get 10")?,
            Client::KeepsServerThinking => {
                stream.write_all(b"think 3600000\n")?;
                // More than the server reads ahead.
                stream.write_all(&b"get 1\n".repeat(1000))?;
            }
        }
        // The connection is open for as long as its owner likes.
        Ok(())
    }
}
