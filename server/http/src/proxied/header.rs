//! The PROXY protocol's header, versions 1 and 2, without I/O (haproxy.org/download/2.6/doc/proxy-protocol.txt).
//!
//! It stands before the first byte of a connection, so it must be read to its end and not one byte further: who reads asks
//! how many bytes there are at least.

use std::{
    ffi::OsStr,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

/// What a proxy says of the connection that it passes on, by the PROXY protocol.
#[derive(Clone, PartialEq, Eq)]
pub struct ProxyHeader {
    addresses: Addresses,
    local: bool,
    /// Type, length and value, one after the other.
    extensions: Box<[u8]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Addresses {
    /// They are unknown, or the connection is the proxy's own.
    None,
    Inet(SocketAddr, SocketAddr),
    Unix(PathBuf, PathBuf),
}

/// What has been read so far is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What has come so far.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// All of it, in so many bytes.
    Whole(ProxyHeader, usize),
    /// It has so many bytes at least.
    AtLeast(usize),
}

/// Bytes of a header at most: what its length may claim is 64 KiB, what is sent stays far below this.
pub(crate) const MOST_BYTES: usize = 4096;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes in front of the addresses in version 2.
const FIXED: usize = 16;

/// Bytes of a header of version 1 at most, its line end included.
const MOST_LINE: usize = 107;

/// Reads what begins a connection.
pub(crate) fn read(bytes: &[u8]) -> Result<Read, Malformed> {
    let known = bytes.len().min(SIGNATURE.len());
    if bytes[..known] == SIGNATURE[..known] {
        return match bytes.len() < FIXED {
            true => Ok(Read::AtLeast(if known < SIGNATURE.len() {
                SIGNATURE.len()
            } else {
                FIXED
            })),
            false => read_binary(bytes),
        };
    }
    let known = bytes.len().min(LINE_START.len());
    match bytes[..known] == LINE_START[..known] {
        true => read_line(bytes),
        false => Err(Malformed("it begins with something else")),
    }
}

const LINE_START: &[u8] = b"PROXY ";

fn read_line(bytes: &[u8]) -> Result<Read, Malformed> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        if bytes.len() >= MOST_LINE {
            return Err(Malformed("a line without end"));
        }
        return Ok(Read::AtLeast(bytes.len() + left_of_line(bytes)));
    };
    let line = bytes[..end].strip_suffix(b"\r");
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    let line = line.filter(|line| line.len() + 2 <= MOST_LINE);
    let line = line.ok_or(Malformed("a line that is none"))?;
    let mut words = line.split(' ').skip(1);
    let mut word = || words.next().ok_or(Malformed("too few words"));
    let addresses = match word()? {
        "UNKNOWN" => Addresses::None,
        family @ ("TCP4" | "TCP6") => {
            let of_family = |text: &str| {
                let address = match family {
                    "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::from),
                    _ => text.parse::<Ipv6Addr>().map(IpAddr::from),
                };
                address.map_err(|_| Malformed("an address that is none of its family"))
            };
            let (source, target) = (of_family(word()?)?, of_family(word()?)?);
            let (source_port, target_port) = (port(word()?)?, port(word()?)?);
            if words.next().is_some() {
                return Err(Malformed("too many words"));
            }
            Addresses::Inet(
                SocketAddr::new(source, source_port),
                SocketAddr::new(target, target_port),
            )
        }
        _ => return Err(Malformed("an unknown family")),
    };
    let header = ProxyHeader {
        addresses,
        local: false,
        extensions: Box::default(),
    };
    Ok(Read::Whole(header, end + 1))
}

/// Bytes that a line without its end has at least yet, by the words that it lacks.
fn left_of_line(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    if bytes.len() < b"PROXY TCP4".len() {
        // It may be `UNKNOWN`, which may be all.
        return b"PROXY TCP4".len() - bytes.len();
    }
    if bytes.starts_with(b"PROXY UNKNOWN") || b"PROXY UNKNOWN".starts_with(bytes) {
        return 2;
    }
    let blanks = bytes.iter().filter(|byte| **byte == b' ').count();
    // A blank and a digit for each, and the line end.
    2 * 5_usize.saturating_sub(blanks) + 2
}

fn port(text: &str) -> Result<u16, Malformed> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let leads = text.len() > 1 && text.starts_with('0');
    match text.parse() {
        Ok(port) if is_number && !leads => Ok(port),
        _ => Err(Malformed("a port that is none")),
    }
}

fn read_binary(bytes: &[u8]) -> Result<Read, Malformed> {
    let (command, family) = (bytes[12], bytes[13]);
    let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
    let end = FIXED + length;
    if end > MOST_BYTES {
        return Err(Malformed("it is too long"));
    }
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("an unknown version or command")),
    };
    if bytes.len() < end {
        return Ok(Read::AtLeast(end));
    }
    let body = &bytes[FIXED..end];
    let short = Malformed("it is shorter than its addresses");
    let (addresses, taken) = match family {
        // The proxy's own, whatever stands there.
        _ if local => (Addresses::None, taken_by(family).min(body.len())),
        0x11 => {
            let body: &[u8; 12] = body.first_chunk().ok_or(short)?;
            let ip = |at: usize| {
                let four: [u8; 4] = body[at..at + 4].try_into().expect("four bytes");
                IpAddr::from(four)
            };
            (inet(ip(0), ip(4), &body[8..]), 12)
        }
        0x21 => {
            let body: &[u8; 36] = body.first_chunk().ok_or(short)?;
            let ip = |at: usize| {
                let sixteen: [u8; 16] = body[at..at + 16].try_into().expect("sixteen bytes");
                IpAddr::from(sixteen)
            };
            (inet(ip(0), ip(16), &body[32..]), 36)
        }
        0x31 => {
            let body: &[u8; 216] = body.first_chunk().ok_or(short)?;
            let path = |path: &[u8]| {
                let end = path
                    .iter()
                    .position(|byte| *byte == 0)
                    .unwrap_or(path.len());
                Path::new(OsStr::from_bytes(&path[..end])).to_owned()
            };
            (Addresses::Unix(path(&body[..108]), path(&body[108..])), 216)
        }
        // Unspecified, or of a kind to come: to be taken as unknown. Extensions of the latter cannot be found.
        0x00 => (Addresses::None, 0),
        _ => (Addresses::None, body.len()),
    };
    // The proxy's own "must" be accepted, and what stands there skipped: it need not be extensions.
    let skipped = local && !are_extensions(&body[taken..]);
    let extensions = if skipped { &[] } else { &body[taken..] };
    if !skipped {
        check_extensions(&bytes[..end], FIXED + taken)?;
    }
    let header = ProxyHeader {
        addresses,
        local,
        extensions: extensions.into(),
    };
    Ok(Read::Whole(header, end))
}

/// Bytes of addresses of a family.
fn taken_by(family: u8) -> usize {
    match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    }
}

fn inet(source: IpAddr, target: IpAddr, ports: &[u8]) -> Addresses {
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    Addresses::Inet(
        SocketAddr::new(source, port(0)),
        SocketAddr::new(target, port(2)),
    )
}

/// They fit, one after the other.
fn are_extensions(mut bytes: &[u8]) -> bool {
    while let [_, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match rest.get(length..) {
            Some(behind) => bytes = behind,
            None => return false,
        }
    }
    bytes.is_empty()
}

/// Each extension fits, and the checksum is right if there is one.
fn check_extensions(header: &[u8], from: usize) -> Result<(), Malformed> {
    let mut at = from;
    while at < header.len() {
        let start = header.get(at..at + 3);
        let start = start.ok_or(Malformed("an extension that is cut"))?;
        let length = usize::from(u16::from_be_bytes([start[1], start[2]]));
        let value = at + 3..at + 3 + length;
        let bytes = header.get(value.clone());
        let bytes = bytes.ok_or(Malformed("an extension that is cut"))?;
        if start[0] == CHECKSUM {
            let sent: [u8; 4] = bytes.try_into().map_err(|_| Malformed("no checksum"))?;
            let before = crc32c(0, &header[..value.start]);
            let zeros = crc32c(before, &[0; 4]);
            if crc32c(zeros, &header[value.end..]) != u32::from_be_bytes(sent) {
                return Err(Malformed("the checksum is wrong"));
            }
        }
        at = value.end;
    }
    Ok(())
}

/// CRC-32C (RFC 9260, appendix A), bit by bit: few headers have it.
fn crc32c(before: u32, bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut crc = !before;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= POLYNOMIAL;
            }
        }
    }
    !crc
}

const ALPN: u8 = 0x01;
const AUTHORITY: u8 = 0x02;
const CHECKSUM: u8 = 0x03;
const NOOP: u8 = 0x04;
const UNIQUE_ID: u8 = 0x05;
const SSL: u8 = 0x20;

impl ProxyHeader {
    /// The client's address and port; `None` if it is unknown or no IP address.
    pub fn source(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Inet(source, _) => Some(source),
            _ => None,
        }
    }

    /// The address and port that the client connected to, under the same conditions.
    pub fn target(&self) -> Option<SocketAddr> {
        match self.addresses {
            Addresses::Inet(_, target) => Some(target),
            _ => None,
        }
    }

    /// The paths of the client's socket and of the one that it connected to, if they are Unix-domain sockets.
    pub fn unix_paths(&self) -> Option<(&Path, &Path)> {
        match &self.addresses {
            Addresses::Unix(source, target) => Some((source, target)),
            _ => None,
        }
    }

    /// Whether the proxy asks for itself, as for a health check.
    pub fn is_local(&self) -> bool {
        self.local
    }

    /// Extensions in the order in which they were sent: type and value.
    pub fn extensions(&self) -> impl Iterator<Item = (u8, &[u8])> {
        entries(&self.extensions)
    }

    /// The first extension of that type, such as 0xEA for a cloud's endpoint.
    pub fn extension(&self, kind: u8) -> Option<&[u8]> {
        let mut all = self.extensions();
        all.find(|(found, _)| *found == kind)
            .map(|(_, value)| value)
    }

    /// The protocol that was agreed on with the client, such as `h2`.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.extension(ALPN)
    }

    /// The host name that the client asked for in its handshake (SNI).
    pub fn authority(&self) -> Option<&str> {
        let name = self.extension(AUTHORITY)?;
        std::str::from_utf8(name).ok()
    }

    /// What identifies the connection on its way through several proxies.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.extension(UNIQUE_ID)
    }

    /// What the proxy says of TLS, if the client connected over it.
    ///
    /// HAProxy sends the extension for plain connections, too; then this is `None`.
    pub fn tls(&self) -> Option<ProxyTls<'_>> {
        let value = self.extension(SSL)?;
        let (fixed, entries) = value.split_first_chunk::<5>()?;
        let tls = ProxyTls {
            client: fixed[0],
            verified: fixed[1..] == [0; 4],
            entries,
        };
        (tls.client & 1 == 1).then_some(tls)
    }
}

impl fmt::Debug for ProxyHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> = self.extensions().map(|(kind, _)| kind).collect();
        f.debug_struct("ProxyHeader")
            .field("addresses", &self.addresses)
            .field("is_local", &self.local)
            .field("extensions", &kinds)
            .finish()
    }
}

/// A client's connection over TLS, as its proxy tells it: [`ProxyHeader::tls`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyTls<'a> {
    client: u8,
    verified: bool,
    entries: &'a [u8],
}

impl<'a> ProxyTls<'a> {
    /// Whether the client has shown a certificate, now or in the session that it resumed, and it was found good.
    pub fn has_verified_certificate(&self) -> bool {
        self.client & 0b110 != 0 && self.verified
    }

    /// The common name of the client's certificate, found good or not.
    pub fn common_name(&self) -> Option<&'a str> {
        self.text(0x22)
    }

    /// Such as `TLSv1.3`.
    pub fn version(&self) -> Option<&'a str> {
        self.text(0x21)
    }

    /// The name of the cipher.
    pub fn cipher(&self) -> Option<&'a str> {
        self.text(0x23)
    }

    fn text(&self, kind: u8) -> Option<&'a str> {
        let mut all = entries(self.entries);
        let (_, value) = all.find(|(found, _)| *found == kind)?;
        std::str::from_utf8(value).ok()
    }
}

/// Those that fit; padding is none of them.
fn entries(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let next = move || {
        let (start, rest) = bytes.split_first_chunk::<3>()?;
        let length = usize::from(u16::from_be_bytes([start[1], start[2]]));
        let (value, rest) = rest.split_at_checked(length)?;
        bytes = rest;
        Some((start[0], value))
    };
    std::iter::from_fn(next).filter(|(kind, _)| *kind != NOOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> ProxyHeader {
        match read(bytes) {
            Ok(Read::Whole(header, length)) => {
                assert_eq!(length, bytes.len());
                header
            }
            other => panic!("{other:?}"),
        }
    }

    fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u16).to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body].concat()
    }

    fn entry(kind: u8, value: &[u8]) -> Vec<u8> {
        let length = (value.len() as u16).to_be_bytes();
        [&[kind][..], &length, value].concat()
    }

    const FOUR: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 80];

    #[test]
    fn lines_are_read() {
        let header = whole(b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\n");
        assert_eq!(header.source(), Some("192.0.2.1:12345".parse().unwrap()));
        assert_eq!(header.target(), Some("198.51.100.2:80".parse().unwrap()));
        let header = whole(b"PROXY TCP6 2001:db8::1 ::1 1 65535\r\n");
        assert_eq!(header.source(), Some("[2001:db8::1]:1".parse().unwrap()));
        assert_eq!(whole(b"PROXY UNKNOWN\r\n").source(), None);
        assert_eq!(whole(b"PROXY UNKNOWN ffff::1 what ever\r\n").source(), None);
    }

    #[test]
    fn lines_that_break_the_rules_are_refused() {
        for wrong in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 12345\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 12345 80 9\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 12345 80\r\n",
            "PROXY TCP4 ::1 ::1 12345 80\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.1 12345 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 65536 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 +1 80\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.2 01 80\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.2 1 80\r\n",
            "PROXY\r\n",
            "proxy TCP4 192.0.2.1 198.51.100.2 1 80\r\n",
            "GET / HTTP/1.1\r\n",
        ] {
            assert!(read(wrong.as_bytes()).is_err(), "{wrong:?}");
        }
        assert!(read(&[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 100]].concat()).is_err());
    }

    #[test]
    fn addresses_of_each_family_are_read() {
        let header = whole(&binary(0x21, 0x11, &FOUR));
        assert_eq!(header.source(), Some("192.0.2.1:12345".parse().unwrap()));
        assert_eq!(header.target(), Some("198.51.100.2:80".parse().unwrap()));
        let mut six = [0; 36];
        (six[15], six[31], six[35]) = (1, 2, 80);
        let header = whole(&binary(0x21, 0x21, &six));
        assert_eq!(header.source(), Some("[::1]:0".parse().unwrap()));
        let mut unix = [0; 216];
        unix[..5].copy_from_slice(b"/a/b\0");
        unix[108..110].copy_from_slice(b"/c");
        let header = whole(&binary(0x21, 0x31, &unix));
        let paths = (Path::new("/a/b"), Path::new("/c"));
        assert_eq!(header.unix_paths(), Some(paths));
        // As HAProxy's checks: the proxy's own, with or without addresses.
        for body in [&FOUR[..], &[]] {
            let header = whole(&binary(0x20, 0x11, body));
            assert!(header.is_local() && header.source().is_none());
        }
        assert_eq!(whole(&binary(0x20, 0x00, &[])).source(), None);
        // What stands behind it need not be extensions, and is skipped.
        let header = whole(&binary(0x20, 0x00, &FOUR));
        assert!(header.is_local() && header.extensions.is_empty());
        // Of datagrams: unknown.
        assert_eq!(whole(&binary(0x21, 0x12, &FOUR)).source(), None);
    }

    #[test]
    fn extensions_are_found_by_their_types() {
        let entries = [
            entry(1, b"h2"),
            entry(4, b"pad"),
            entry(2, b"a.example"),
            entry(0xea, b"x"),
        ];
        let header = whole(&binary(
            0x21,
            0x11,
            &[&FOUR[..], &entries.concat()].concat(),
        ));
        assert_eq!(header.alpn(), Some(&b"h2"[..]));
        assert_eq!(header.authority(), Some("a.example"));
        assert_eq!(header.extension(0xea), Some(&b"x"[..]));
        assert_eq!((header.unique_id(), header.tls()), (None, None));
        let kinds: Vec<u8> = header.extensions().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [1, 2, 0xea]);
    }

    #[test]
    fn tls_is_told_by_its_bit_and_not_by_the_extension() {
        let of = |client: u8, verify: u32, entries: &[u8]| {
            let value = [&[client][..], &verify.to_be_bytes(), entries].concat();
            whole(&binary(
                0x21,
                0x11,
                &[&FOUR[..], &entry(SSL, &value)].concat(),
            ))
        };
        assert_eq!(of(0, 0, &[]).tls(), None);
        let plain_tls = of(1, 0, &entry(0x21, b"TLSv1.3"));
        let tls = plain_tls.tls().unwrap();
        assert_eq!(tls.version(), Some("TLSv1.3"));
        assert!(!tls.has_verified_certificate());
        let known = of(0b101, 0, &entry(0x22, b"ann"));
        let tls = known.tls().unwrap();
        assert!(tls.has_verified_certificate());
        assert_eq!(tls.common_name(), Some("ann"));
        let bad = of(0b111, 1, &[]);
        assert!(!bad.tls().unwrap().has_verified_certificate());
        // Too short to be one.
        let cut = whole(&binary(
            0x21,
            0x11,
            &[&FOUR[..], &entry(SSL, &[1])].concat(),
        ));
        assert_eq!(cut.tls(), None);
    }

    #[test]
    fn a_checksum_that_is_there_must_be_right() {
        // Of "123456789", as the RFC's tables have it.
        assert_eq!(crc32c(0, b"123456789"), 0xE306_9283);
        let mut bytes = binary(0x21, 0x11, &[&FOUR[..], &entry(CHECKSUM, &[0; 4])].concat());
        let right = crc32c(0, &bytes).to_be_bytes();
        let at = bytes.len() - 4;
        bytes[at..].copy_from_slice(&right);
        whole(&bytes);
        bytes[17] ^= 1;
        assert_eq!(read(&bytes), Err(Malformed("the checksum is wrong")));
    }

    #[test]
    fn what_is_cut_or_too_long_is_refused() {
        assert!(read(&binary(0x21, 0x11, &FOUR[..11])).is_err());
        assert!(read(&binary(0x21, 0x21, &FOUR)).is_err());
        assert!(read(&binary(0x11, 0x11, &FOUR)).is_err());
        assert!(read(&binary(0x22, 0x11, &FOUR)).is_err());
        assert!(read(&binary(0x21, 0x11, &[&FOUR[..], &[1, 0]].concat())).is_err());
        assert!(read(&binary(0x21, 0x11, &[&FOUR[..], &[1, 0, 2, 7]].concat())).is_err());
        let mut long = binary(0x21, 0x11, &FOUR);
        (long[14], long[15]) = (0xff, 0xff);
        assert_eq!(read(&long), Err(Malformed("it is too long")));
    }

    #[test]
    fn nothing_is_asked_for_that_is_behind_the_header() {
        let headers = [
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(),
            b"PROXY TCP6 ::1 2001:db8:1111:2222:3333:4444:5555:6666 12345 443\r\n".to_vec(),
            b"PROXY UNKNOWN\r\n".to_vec(),
            b"PROXY UNKNOWN x\r\n".to_vec(),
            binary(0x21, 0x11, &[&FOUR[..], &entry(1, b"h2")].concat()),
            binary(0x20, 0x00, &[]),
        ];
        for header in headers {
            let (mut read_so_far, mut steps) = (0, 0);
            loop {
                match read(&header[..read_so_far]).unwrap() {
                    Read::Whole(_, length) => break assert_eq!(length, header.len()),
                    Read::AtLeast(count) => {
                        assert!(count > read_so_far && count <= header.len(), "{count}");
                        read_so_far = count;
                    }
                }
                steps += 1;
            }
            assert!(steps < 40, "{steps} reads");
        }
    }
}
