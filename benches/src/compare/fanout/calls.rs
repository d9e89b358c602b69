//! The same three calls as calls of RPC and of gRPC: all leaders share one connection to each backend.

use anyhow::{Result, ensure};

use super::{ANSWER, BACKENDS, REQUEST, Stack, meter::Meter};

#[derive(Clone, PartialEq, prost::Message)]
struct Bytes {
    #[prost(bytes = "vec", tag = "1")]
    body: Vec<u8>,
}

const PATH: &str = "/bench.Fanout/Ask";

fn answer() -> Bytes {
    Bytes {
        body: vec![b'a'; ANSWER],
    }
}

/// Serves on three ports, which it prints.
pub(super) fn serve(stack: Stack) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let mut serving = Vec::new();
        let mut addresses = Vec::new();
        for _ in 0..BACKENDS {
            let (address, serve) = match stack {
                Stack::Rpc => over_rpc()?,
                Stack::Grpc => over_grpc()?,
            };
            addresses.push(address);
            serving.push(maniple::spawn(serve));
        }
        println!("{}", addresses.join(","));
        serving.into_iter().try_for_each(|each| each.join()?)
    })
}

type Serve = Box<dyn FnOnce() -> Result<()> + Send>;

fn over_rpc() -> Result<(String, Serve)> {
    use maniple_rpc::{Call, Server, Service, Status};
    let ask = |_: &mut Call, _: Bytes| Ok::<_, Status>(answer());
    let service = Service::new("bench.Fanout").unary("Ask", ask);
    let server = Server::builder().service(service).bind("127.0.0.1:0")?;
    let address = server.local_addr().to_string();
    Ok((address, Box::new(move || Ok(server.serve()?))))
}

fn over_grpc() -> Result<(String, Serve)> {
    use maniple_grpc::{Call, Service, Status};
    let ask = |_: &mut Call, _: Bytes| Ok::<_, Status>(answer());
    let service = Service::new("bench.Fanout").unary("Ask", ask);
    let server = maniple_server::Server::builder(service.into_router()).bind("127.0.0.1:0")?;
    let address = server.local_addr().to_string();
    Ok((address, Box::new(move || Ok(server.serve().map(drop)?))))
}

/// Leaders that ask three backends over and over.
pub(super) fn run(
    stack: Stack,
    leaders: u16,
    backends: &[std::net::SocketAddr],
    meter: &'static Meter,
) -> Result<()> {
    ensure!(backends.len() == BACKENDS, "{BACKENDS} backends are needed");
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| match stack {
        Stack::Rpc => {
            use maniple_rpc::{Caller, Channel};
            let channels = backends.iter().map(|each| Channel::to(each.to_string()));
            let channels = channels.collect::<std::io::Result<Vec<_>>>()?;
            let callers: Vec<_> = channels.into_iter().map(Caller::new).collect();
            lead(leaders, meter, &callers, |caller: &Caller, message| {
                Ok(caller.unary::<Bytes, Bytes>(PATH, message)?.into_inner())
            })
        }
        Stack::Grpc => {
            use maniple_grpc::{Caller, Channel};
            let channels = backends.iter().map(|each| Channel::to(each.to_string()));
            let callers: Vec<_> = channels.map(Caller::new).collect();
            lead(leaders, meter, &callers, |caller: &Caller, message| {
                Ok(caller.unary::<Bytes, Bytes>(PATH, message)?.into_inner())
            })
        }
    })
}

fn lead<C: Sync>(
    leaders: u16,
    meter: &'static Meter,
    callers: &[C],
    call: impl Fn(&C, &Bytes) -> Result<Bytes> + Sync,
) -> Result<()> {
    let message = Bytes {
        body: vec![b'q'; REQUEST],
    };
    let ask = |caller: &C| -> Result<()> {
        let answer = call(caller, &message)?;
        ensure!(answer.body.len() == ANSWER, "another answer");
        Ok(())
    };
    maniple::group(|all| {
        for _ in 0..leaders {
            let mut laps = meter.laps()?;
            let ask = &ask;
            all.try_spawn(move || -> Result<()> {
                loop {
                    maniple::group(|group| -> Result<()> {
                        let asking = callers
                            .iter()
                            .map(|caller| group.spawn(move || ask(caller)));
                        let asking: Vec<_> = asking.collect();
                        asking.into_iter().try_for_each(|each| each.join()?)
                    })?;
                    if !laps.count() {
                        return Ok(());
                    }
                }
            });
        }
        Ok(())
    })
}
