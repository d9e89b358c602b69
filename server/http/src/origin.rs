//! Who the client is, and what it asked for, where a proxy stands in between: as far as the proxy is trusted.

use std::net::IpAddr;

use crate::{
    http1::head::ascii,
    proxied::{
        forwarded::{Client, Element, address, client, elements_from_end, list_from_end},
        header::ProxyHeader,
        trust::Fields,
    },
    request::Request,
};

impl Request {
    /// The client's address: of who is connected, or what [trusted](crate::transport::Trust) proxies say. `None` if it is
    /// connected otherwise than over TCP, or a proxy says that it does not know.
    ///
    /// By the PROXY protocol first; then the list of `X-Forwarded-For`, or `Forwarded`, from its end to the first who is
    /// not trusted. What a client writes there itself is passed over.
    pub fn client_address(&self) -> Option<IpAddr> {
        let nearest = self.nearest();
        let address = match self.trusted_fields() {
            Fields::None => nearest,
            Fields::XForwarded => {
                let said = list_from_end(self.fields_of("x-forwarded-for"));
                client(nearest, said, |address| self.trusts(address))
            }
            Fields::Forwarded => {
                let elements = elements_from_end(self.fields_of("forwarded"));
                let said = elements.iter().filter_map(|element| element.client);
                client(nearest, said, |address| self.trusts(address))
            }
        };
        match address {
            Client::Address(address) => Some(address),
            Client::Unknown => None,
        }
    }

    /// `https` if the client uses TLS, as far as is known, else `http`.
    ///
    /// What a trusted proxy says by `X-Forwarded-Proto`, or `Forwarded`, counts first; then whether this connection speaks
    /// TLS, and the PROXY protocol's word of it.
    pub fn scheme(&self) -> &'static str {
        let said = match self.trusted_fields() {
            Fields::None => None,
            Fields::XForwarded => list_from_end(self.fields_of("x-forwarded-proto")).next(),
            Fields::Forwarded => self.last_element().and_then(|element| element.scheme),
        };
        let is_secure = match said {
            Some(scheme) if scheme.eq_ignore_ascii_case(b"https") => true,
            Some(scheme) if scheme.eq_ignore_ascii_case(b"http") => false,
            _ => {
                let connection = self.exchange.connection();
                connection.transport.is_secure()
                    || self.proxy().is_some_and(|header| header.tls().is_some())
            }
        };
        if is_secure { "https" } else { "http" }
    }

    /// The host that the client asked for, with the port if it named one: what a trusted proxy says by
    /// `X-Forwarded-Host`, or `Forwarded`, else that of a target in absolute form, else `Host`.
    pub fn host(&self) -> Option<&str> {
        let said = match self.trusted_fields() {
            Fields::None => None,
            Fields::XForwarded => list_from_end(self.fields_of("x-forwarded-host")).next(),
            Fields::Forwarded => self.last_element().and_then(|element| element.host),
        };
        let said = said.and_then(|host| std::str::from_utf8(host).ok());
        // What could not stand in a URI is nobody's host.
        let said = said.filter(|host| host.parse::<http::uri::Authority>().is_ok());
        let said = said.or_else(|| self.authority());
        said.or_else(|| self.header_str("host"))
    }

    /// That of a target in absolute form, which counts for more than `Host` (RFC 9112, 3.2.2).
    fn authority(&self) -> Option<&str> {
        let head = self.exchange.head();
        let input = &self.exchange.scratch().input;
        let target = ascii(&input.bytes[input.start..][head.target.clone()]);
        let (_, rest) = target
            .split_once("://")
            .filter(|(scheme, _)| !scheme.contains(['/', '?']))?;
        rest.split(['/', '?']).next()
    }

    /// What the PROXY protocol says of this connection, if it came from a trusted peer by a
    /// [listener](crate::transport::Listener::proxy_protocol) that reads it.
    pub fn proxy(&self) -> Option<&ProxyHeader> {
        self.exchange.connection().proxy()
    }

    /// Those who have passed it on, from the client to who is connected: as far as trusted proxies say, and nothing that
    /// others have written before them.
    pub(crate) fn hops(&self) -> Vec<IpAddr> {
        let mut hops = Vec::new();
        if let Client::Address(nearest) = self.nearest() {
            hops.push(nearest);
        }
        let mut add = |node: &[u8]| {
            let address = address(node);
            hops.extend(address);
            address.is_some_and(|address| self.trusts(address))
        };
        match self.trusted_fields() {
            Fields::None => {}
            Fields::XForwarded => {
                let mut said = list_from_end(self.fields_of("x-forwarded-for"));
                while said.next().is_some_and(&mut add) {}
            }
            Fields::Forwarded => {
                let elements = elements_from_end(self.fields_of("forwarded"));
                let mut said = elements.iter().filter_map(|element| element.client);
                while said.next().is_some_and(&mut add) {}
            }
        }
        hops.reverse();
        hops
    }

    /// Who is connected, or for whom by the PROXY protocol.
    fn nearest(&self) -> Client {
        let address = match self.proxy() {
            Some(header) if !header.is_local() => header.source(),
            _ => self.peer_addr(),
        };
        address.map_or(Client::Unknown, |address| Client::Address(address.ip()))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let policy = self.exchange.connection().policy();
        policy.is_some_and(|policy| policy.trust.trusts(address))
    }

    /// The fields that the nearest peer is trusted to set.
    fn trusted_fields(&self) -> Fields {
        let Some(policy) = self.exchange.connection().policy() else {
            return Fields::None;
        };
        let is_trusted = match self.proxy() {
            Some(header) if !header.is_local() => header
                .source()
                .is_some_and(|source| policy.trust.trusts(source.ip())),
            _ => policy.trusts(self.peer()),
        };
        match is_trusted {
            true => policy.trust.fields(),
            false => Fields::None,
        }
    }

    fn last_element(&self) -> Option<Element<'_>> {
        let elements = elements_from_end(self.fields_of("forwarded"));
        elements.first().copied()
    }

    /// The values of the fields of that name, in lower case, as they came.
    fn fields_of(&self, name: &'static str) -> impl DoubleEndedIterator<Item = &[u8]> {
        let scratch = self.exchange.scratch();
        let head = &scratch.input.bytes[scratch.input.start..];
        let fields = scratch.fields.iter();
        fields
            .filter(move |field| head[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))
            .map(move |field| &head[field.value.clone()])
    }
}
