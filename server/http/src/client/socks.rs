//! What a client says to a SOCKS5 proxy (RFC 1928), with a name and a password if it has them (RFC 1929).

use std::{
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
};

/// To where the proxy is to connect.
#[derive(Clone, Copy, Debug)]
pub(super) enum Target<'a> {
    Name(&'a str, u16),
    Address(SocketAddr),
}

/// Who asks.
pub(super) type Credentials<'a> = Option<(&'a str, &'a str)>;

/// Why there is no connection by the proxy.
#[derive(Debug)]
pub(super) enum Refused {
    /// It says so, or is no such proxy.
    Said(String),
    Io(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Refused::Said("it closed the connection".to_owned()),
            _ => Refused::Io(error),
        }
    }
}

const VERSION: u8 = 5;
const WITHOUT: u8 = 0;
const BY_PASSWORD: u8 = 2;
const NONE_WILL_DO: u8 = 0xff;

/// Has the proxy connect; afterwards the stream leads to the target. Reads not a byte beyond the proxy's answer.
pub(super) fn connect(
    stream: &mut (impl Read + Write),
    target: Target<'_>,
    credentials: Credentials<'_>,
) -> Result<(), Refused> {
    let methods: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, WITHOUT, BY_PASSWORD],
        None => &[VERSION, 1, WITHOUT],
    };
    stream.write_all(methods)?;
    stream.flush()?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen)?;
    match (chosen, credentials) {
        ([VERSION, WITHOUT], _) => {}
        ([VERSION, BY_PASSWORD], Some((user, password))) => introduce(stream, user, password)?,
        ([VERSION, NONE_WILL_DO], None) => return said("it wants a user and a password"),
        ([VERSION, NONE_WILL_DO], Some(_)) => return said("it takes no password"),
        ([VERSION, _], _) => return said("it chose what was not offered"),
        _ => return said("it does not speak SOCKS5"),
    }
    let mut asked = vec![VERSION, 1, 0];
    let port = match target {
        Target::Name(name, port) => {
            asked.push(3);
            push_short(&mut asked, name, "the name")?;
            port
        }
        Target::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => {
                    asked.push(1);
                    asked.extend_from_slice(&ip.octets());
                }
                IpAddr::V6(ip) => {
                    asked.push(4);
                    asked.extend_from_slice(&ip.octets());
                }
            }
            address.port()
        }
    };
    asked.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&asked)?;
    stream.flush()?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    let [version, reply, _, kind] = answer;
    if version != VERSION {
        return said("its answer is not SOCKS5");
    }
    if reply != 0 {
        return said(meaning(reply));
    }
    // Where the proxy connects from is of no use, and must be read away.
    let length = match kind {
        1 => 4,
        4 => 16,
        3 => {
            let mut length = [0];
            stream.read_exact(&mut length)?;
            usize::from(length[0])
        }
        _ => return said("its answer has an address of no known kind"),
    };
    let mut bound = [0; 255 + 2];
    stream.read_exact(&mut bound[..length + 2])?;
    Ok(())
}

fn introduce(stream: &mut (impl Read + Write), user: &str, password: &str) -> Result<(), Refused> {
    let mut told = vec![1];
    push_short(&mut told, user, "the user's name")?;
    push_short(&mut told, password, "the password")?;
    stream.write_all(&told)?;
    stream.flush()?;
    let mut verdict = [0; 2];
    stream.read_exact(&mut verdict)?;
    match verdict[1] {
        0 => Ok(()),
        _ => said("it does not take the user's name and password"),
    }
}

/// Appends text behind its length, for which there is a byte.
fn push_short(out: &mut Vec<u8>, text: &str, what: &str) -> Result<(), Refused> {
    match u8::try_from(text.len()) {
        Ok(length @ 1..) => {
            out.push(length);
            out.extend_from_slice(text.as_bytes());
            Ok(())
        }
        _ => said(format!("{what} must have 1 to 255 bytes")),
    }
}

fn said<T>(reason: impl Into<String>) -> Result<T, Refused> {
    Err(Refused::Said(reason.into()))
}

fn meaning(reply: u8) -> String {
    let text = match reply {
        1 => "general failure",
        2 => "not allowed by its rules",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "TTL expired",
        7 => "it does not connect by TCP",
        8 => "it does not know such addresses",
        _ => return format!("failure {reply}"),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the proxy says, and what it has been told.
    struct Scripted {
        says: io::Cursor<Vec<u8>>,
        told: Vec<u8>,
    }

    impl Read for Scripted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            // A byte at a time, as TCP may have it.
            let count = buffer.len().min(1);
            self.says.read(&mut buffer[..count])
        }
    }

    impl Write for Scripted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.told.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn talk(
        says: &[u8],
        target: Target<'_>,
        who: Credentials<'_>,
    ) -> (Result<(), String>, Vec<u8>, usize) {
        let mut proxy = Scripted {
            says: io::Cursor::new(says.to_vec()),
            told: Vec::new(),
        };
        let result = connect(&mut proxy, target, who).map_err(|refused| match refused {
            Refused::Said(text) => text,
            Refused::Io(error) => panic!("{error}"),
        });
        let left = says.len() - proxy.says.position() as usize;
        (result, proxy.told, left)
    }

    #[test]
    fn the_conversation_is_that_of_the_rfc_and_no_byte_more_is_read() {
        let v4 = Target::Address("10.1.2.3:80".parse().unwrap());
        let says = b"\x05\x00\x05\x00\x00\x01\x00\x00\x00\x00\x00\x00behind";
        let (result, told, left) = talk(says, v4, None);
        assert_eq!((result, left), (Ok(()), 6));
        assert_eq!(
            told,
            b"\x05\x01\x00\x05\x01\x00\x01\x0a\x01\x02\x03\x00\x50"
        );

        let says = b"\x05\x02\x01\x00\x05\x00\x00\x03\x02ab\x00\x01x";
        let (result, told, left) = talk(says, Target::Name("h.test", 443), Some(("u", "pw")));
        assert_eq!((result, left), (Ok(()), 1));
        assert_eq!(
            told,
            b"\x05\x02\x00\x02\x01\x01u\x02pw\x05\x01\x00\x03\x06h.test\x01\xbb"
        );

        let v6 = Target::Address("[::1]:1".parse().unwrap());
        let mut says = b"\x05\x00\x05\x00\x00\x04".to_vec();
        says.extend([0; 18]);
        assert_eq!(talk(&says, v6, None).0, Ok(()));
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let long = "x".repeat(256);
        for (says, who, name, reason) in [
            (&b"\x05\xff"[..], None, "h", "a user and a password"),
            (b"\x05\xff", Some(("u", "p")), "h", "no password"),
            (b"\x05\x02", None, "h", "not offered"),
            (b"\x05\x01", Some(("u", "p")), "h", "not offered"),
            (b"\x05\x02\x01\x01", Some(("u", "p")), "h", "does not take"),
            (b"\x05\x02", Some(("u", "")), "h", "1 to 255"),
            (b"\x05\x00", None, &long, "1 to 255"),
            (b"HT", None, "h", "does not speak"),
            (b"\x05", None, "h", "closed"),
            (b"\x05\x00\x05\x05\x00\x01", None, "h", "connection refused"),
            (b"\x05\x00\x05\x63\x00\x01", None, "h", "failure 99"),
            (b"\x05\x00\x05\x00\x00\x09", None, "h", "no known kind"),
            (b"\x05\x00\x04\x00\x00\x01", None, "h", "not SOCKS5"),
            (b"\x05\x00\x05\x00\x00\x01\x00", None, "h", "closed"),
        ] {
            let (result, ..) = talk(says, Target::Name(name, 80), who);
            let said = result.unwrap_err();
            assert!(said.contains(reason), "{says:?}: {said}");
        }
    }
}
