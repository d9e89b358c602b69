//! What stands before the first request of a connection: the PROXY protocol's header, from those who are trusted.

use std::{io, sync::Arc, time::Instant};

use super::state::Connection;
use crate::{
    proxied::header::{MOST_BYTES, Malformed, Read, read},
    transport::{Peer, Policy},
};

/// Reads the header if the peer is to send one, and nothing behind it. An error if it does not come by then.
#[cold]
pub(super) fn read_proxy_header(
    connection: &Connection,
    policy: &Arc<Policy>,
    peer: &Peer,
    until: Instant,
) -> io::Result<()> {
    if !policy.proxy_protocol || !policy.trusts(peer) {
        return Ok(());
    }
    let mut buffer = [0; MOST_BYTES];
    let mut filled = 0;
    let header = maniple::deadline(until, || -> io::Result<_> {
        loop {
            let wanted = match read(&buffer[..filled]) {
                Ok(Read::Whole(header, _)) => return Ok(header),
                Ok(Read::AtLeast(wanted)) => wanted,
                Err(Malformed(why)) => {
                    let text = format!("no PROXY header: {why}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            };
            match connection
                .transport
                .below_tls()
                .read(&mut buffer[filled..wanted])?
            {
                0 if filled == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                0 => {
                    let text = "no PROXY header: it is cut";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
                count => filled += count,
            }
        }
    });
    let header = match header {
        Ok(header) => header?,
        Err(_) => {
            let text = "no PROXY header in time";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    };
    connection.set_proxy(header);
    Ok(())
}
