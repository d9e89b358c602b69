//! The command line: flags as they are written, and the role they add up to.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, ValueEnum};

use crate::behaviour::{Behaviour, Change};
use crate::duration;

const GATEWAY: &str = "127.0.0.1:8080";
/// A free port of the kernel's choice.
pub const ANY_PORT: &str = "127.0.0.1:0";

/// A gateway that asks several backends for one answer, under a leader
///
/// Starts gateway S and three embedded backends A, B and C in one process, and a page to play
/// with them at http://127.0.0.1:8080/.
#[derive(Debug, Parser)]
#[command(name = "fanout", version, max_term_width = 100)]
pub struct Cli {
    /// Where the gateway listens [default: 127.0.0.1:8080], or the backend of --only [default: a free port]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,

    /// Behaviour of backend A, such as latency=exp:20ms,errors=0.05,outage=off
    #[arg(long, value_name = "SPEC")]
    a: Option<Change>,

    /// Behaviour of backend B; latencies: fixed:20ms, uniform:10ms:30ms, normal:20ms:5ms, exp:20ms
    #[arg(long, value_name = "SPEC")]
    b: Option<Change>,

    /// Behaviour of backend C; outages: off, fail (answers 503), hang (never answers)
    #[arg(long, value_name = "SPEC")]
    c: Option<Change>,

    /// Ask this backend in place of the embedded ones; repeat for more. Of several replicas, parted by commas, each call
    /// goes to one, and to another if that fails
    #[arg(long = "backend", value_name = "NAME=HOST:PORT,...", value_parser = parse_target,
          conflicts_with_all = ["a", "b", "c", "only", "picture", "seed", "replicas"])]
    backends: Vec<Elsewhere>,

    /// Find the backends A, B and C in etcd, at these members of it, host:port or https://name:password@host:port; with
    /// --only, register there
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = parse_member,
          conflicts_with_all = ["backends", "picture", "replicas"])]
    registry: Vec<String>,

    /// How many replicas of each embedded backend there are
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9),
          conflicts_with_all = ["only", "picture"])]
    replicas: u8,

    /// Run one backend alone, and no gateway
    #[arg(
        long,
        value_name = "BACKEND",
        ignore_case = true,
        conflicts_with = "picture"
    )]
    only: Option<Name>,

    /// Deadline of a request that names none
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_deadline)]
    deadline: Duration,

    /// How long a hedged call waits before its second attempt
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = duration::parse)]
    hedge_after: Duration,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,

    /// Start the embedded backends' random numbers here, to see the same latencies again
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Speak HTTPS at the gateway, with a certificate for localhost that is made at start
    #[arg(long, conflicts_with_all = ["only", "picture"])]
    tls_self_signed: bool,

    /// Make one serial and one parallel request, draw them into this SVG file, and end
    #[arg(long, value_name = "FILE", conflicts_with = "listen")]
    picture: Option<PathBuf>,
}

/// What this process is to do.
#[derive(Debug, PartialEq)]
pub enum Role {
    Gateway {
        listen: String,
        gateway: Gateway,
    },
    /// One backend alone.
    Backend {
        listen: String,
        embedded: Embedded,
        /// Members of etcd to register with, if any.
        registry: Vec<String>,
    },
    /// Asks the backends twice, draws the answers and ends.
    Picture {
        file: PathBuf,
        gateway: Gateway,
    },
}

#[derive(Debug, PartialEq)]
pub struct Gateway {
    pub backends: Backends,
    pub deadline: Duration,
    pub hedge_after: Duration,
    pub tls_self_signed: bool,
}

#[derive(Debug, PartialEq)]
pub enum Backends {
    /// So many of each.
    Embedded(Vec<Embedded>, u8),
    Elsewhere(Vec<Elsewhere>),
    /// In etcd, at these members of it.
    Registered(Vec<String>),
}

/// A backend that is not in this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Elsewhere {
    pub name: String,
    /// `host:port` of each replica.
    pub addresses: Vec<String>,
}

/// A backend to run in this process.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedded {
    pub name: &'static str,
    pub behaviour: Behaviour,
    pub seed: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    A,
    B,
    C,
}

impl Cli {
    pub fn workers(&self) -> Option<usize> {
        self.workers.map(usize::from)
    }

    pub fn role(self) -> Role {
        if let Some(name) = self.only {
            let listen = self.listen.clone().unwrap_or_else(|| ANY_PORT.to_owned());
            return Role::Backend {
                listen,
                embedded: self.embedded(name),
                registry: self.registry,
            };
        }
        let embedded = || {
            [Name::A, Name::B, Name::C]
                .map(|name| self.embedded(name))
                .into()
        };
        let backends = if !self.registry.is_empty() {
            Backends::Registered(self.registry)
        } else if self.backends.is_empty() {
            Backends::Embedded(embedded(), self.replicas)
        } else {
            Backends::Elsewhere(self.backends)
        };
        let gateway = Gateway {
            backends,
            deadline: self.deadline,
            hedge_after: self.hedge_after,
            tls_self_signed: self.tls_self_signed,
        };
        match self.picture {
            Some(file) => Role::Picture { file, gateway },
            None => {
                let listen = self.listen.unwrap_or_else(|| GATEWAY.to_owned());
                Role::Gateway { listen, gateway }
            }
        }
    }

    fn embedded(&self, name: Name) -> Embedded {
        let (name, latency, change, stream) = match name {
            Name::A => ("A", "normal:40ms:10ms", self.a, 0),
            Name::B => ("B", "exp:60ms", self.b, 1),
            Name::C => ("C", "uniform:20ms:120ms", self.c, 2),
        };
        let latency = latency.parse().expect("a valid default");
        let behaviour = Behaviour::healthy(latency).with(change.unwrap_or_default());
        let seed = self.seed.map(|seed| seed.wrapping_add(stream));
        Embedded {
            name,
            behaviour,
            seed,
        }
    }
}

/// Reads the command line; help goes to stdout, a mistake to stderr as one line.
pub fn read() -> Result<Cli, ExitCode> {
    parse(std::env::args_os()).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed stdout is no mistake of the caller's.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("fanout: {}", one_line(&error));
            ExitCode::from(2)
        }
    })
}

fn parse(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> clap::error::Result<Cli> {
    let cli = Cli::try_parse_from(args)?;
    let names = || cli.backends.iter().map(|backend| &backend.name);
    if let Some(twice) = names()
        .enumerate()
        .find(|&(at, name)| names().take(at).any(|n| n == name))
    {
        let message = format!("--backend {} is given twice", twice.1);
        return Err(Cli::command().error(ErrorKind::ArgumentConflict, message));
    }
    Ok(cli)
}

/// clap's message without its layout over several lines.
fn one_line(error: &clap::Error) -> String {
    let rendered = error.render().to_string();
    let message = rendered.lines().next().unwrap_or_default();
    let mut line = message.trim_start_matches("error: ").to_owned();
    if let Some(ContextValue::String(flag)) = error.get(ContextKind::SuggestedArg) {
        let _ = write!(line, "; did you mean {flag}?");
    }
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue)
        && !values.is_empty()
    {
        let _ = write!(line, "; use one of {}", values.join(", "));
    }
    line + " (--help lists the flags)"
}

fn parse_deadline(text: &str) -> Result<Duration, String> {
    match duration::parse(text)? {
        Duration::ZERO => Err("a deadline must be longer than nothing".to_owned()),
        deadline => Ok(deadline),
    }
}

fn parse_target(text: &str) -> Result<Elsewhere, String> {
    let usage = || format!("\"{text}\" is no backend: write NAME=HOST:PORT");
    let (name, addresses) = text.split_once('=').ok_or_else(usage)?;
    let name_is_plain = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    let addresses = addresses
        .split(',')
        .map(|address| parse_address(address).ok());
    let addresses = addresses.collect::<Option<_>>().ok_or_else(usage)?;
    if name.is_empty() || name.len() > 32 || !name_is_plain {
        return Err(format!(
            "\"{name}\" is no backend name: use 1 to 32 letters, digits, - or _"
        ));
    }
    let name = name.to_owned();
    Ok(Elsewhere { name, addresses })
}

/// A URL is looked at where it is used: what is wrong with it is told without it, since there may be a password in it.
fn parse_member(text: &str) -> Result<String, String> {
    match text.contains("://") {
        true => Ok(text.to_owned()),
        false => parse_address(text),
    }
}

fn parse_address(text: &str) -> Result<String, String> {
    let is_whole = text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    match is_whole {
        true => Ok(text.to_owned()),
        false => Err(format!("\"{text}\" is no address: write HOST:PORT")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, String> {
        super::parse(std::iter::once(&"fanout").chain(args)).map_err(|error| one_line(&error))
    }

    fn role(args: &[&str]) -> Role {
        parse(args).unwrap().role()
    }

    fn gateway(args: &[&str]) -> (String, Gateway) {
        match role(args) {
            Role::Gateway { listen, gateway } => (listen, gateway),
            other => panic!("{args:?} give {other:?}"),
        }
    }

    fn embedded(args: &[&str]) -> Vec<Embedded> {
        match gateway(args).1.backends {
            Backends::Embedded(embedded, 1) => embedded,
            other => panic!("{args:?} give {other:?}"),
        }
    }

    #[test]
    fn the_command_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_flags_it_is_a_gateway_with_three_backends() {
        let (listen, gateway) = gateway(&[]);
        assert_eq!(listen, "127.0.0.1:8080");
        assert_eq!(gateway.deadline, Duration::from_secs(1));
        assert_eq!(
            embedded(&[]).iter().map(|b| b.name).collect::<Vec<_>>(),
            ["A", "B", "C"]
        );
    }

    #[test]
    fn a_spec_changes_its_backend_alone() {
        let backends = embedded(&["--a", "latency=exp:20ms,errors=0.05"]);
        assert_eq!(
            backends[0].behaviour.to_string(),
            "latency=exp:20ms,errors=0.05,outage=off"
        );
        assert_eq!(backends[1], embedded(&[])[1]);
    }

    #[test]
    fn backends_elsewhere_replace_the_embedded_ones() {
        let flags = [
            "--backend",
            "ads=a.lan:80,b.lan:80",
            "--backend",
            "me=[::1]:81",
        ];
        let (_, gateway) = gateway(&flags);
        let expected = [
            ("ads", &["a.lan:80", "b.lan:80"][..]),
            ("me", &["[::1]:81"]),
        ];
        let expected = expected.map(|(name, addresses)| Elsewhere {
            name: name.to_owned(),
            addresses: addresses
                .iter()
                .map(|address| address.to_string())
                .collect(),
        });
        assert_eq!(gateway.backends, Backends::Elsewhere(expected.into()));
    }

    #[test]
    fn only_runs_one_backend() {
        let Role::Backend {
            listen, embedded, ..
        } = role(&["--only", "b", "--listen", "0.0.0.0:9"])
        else {
            panic!("no backend")
        };
        assert_eq!((listen.as_str(), embedded.name), ("0.0.0.0:9", "B"));
    }

    #[test]
    fn a_registry_is_where_a_gateway_looks_and_a_backend_is() {
        let flags = ["--registry", "a:2379,b:2379"];
        let members = vec!["a:2379".to_owned(), "b:2379".to_owned()];
        let (_, gateway) = gateway(&flags);
        assert_eq!(gateway.backends, Backends::Registered(members.clone()));
        match role(&[&flags[..], &["--only", "a"]].concat()) {
            Role::Backend { registry, .. } => assert_eq!(registry, members),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn seeds_differ_between_backends() {
        let seeds: Vec<_> = embedded(&["--seed", "7"]).iter().map(|b| b.seed).collect();
        assert_eq!(seeds, [Some(7), Some(8), Some(9)]);
    }

    #[test]
    fn a_mistake_is_one_line_with_its_reason() {
        for (args, reason) in [
            (&["--florp"][..], "unexpected argument '--florp'"),
            (&["--deadlin", "1s"], "did you mean --deadline?"),
            (
                &["--registry", "a:1,etcd"],
                "\"etcd\" is no address: write HOST:PORT",
            ),
            (&["--a", "speed=1"], "\"speed\" is no setting"),
            (&["--b", "latency=soon:1ms"], "is no latency"),
            (
                &["--only", "d"],
                "invalid value 'd' for '--only <BACKEND>'; use one of a, b, c",
            ),
            (&["--backend", "ads"], "write NAME=HOST:PORT"),
            (&["--backend", "ads=host"], "write NAME=HOST:PORT"),
            (&["--backend", "ads=host:0"], "write NAME=HOST:PORT"),
            (&["--backend", "ads=h:1,"], "write NAME=HOST:PORT"),
            (&["--replicas", "0"], "0 is not in 1..=9"),
            (&["--backend", "a/b=host:1"], "no backend name"),
            (
                &["--backend", "x=h:1", "--a", "errors=1"],
                "cannot be used with",
            ),
            (
                &["--backend", "x=h:1", "--backend", "x=h:2"],
                "--backend x is given twice",
            ),
            (&["--deadline", "0ms"], "longer than nothing"),
            (&["--deadline", "soon"], "unknown unit"),
            (&["--workers", "0"], "0 is not in 1..=1024"),
        ] {
            let message = parse(args).unwrap_err();
            assert!(message.contains(reason), "{args:?}: {message}");
            assert!(!message.contains('\n'), "{args:?}: {message}");
        }
    }
}
