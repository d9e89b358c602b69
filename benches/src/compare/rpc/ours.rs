//! maniple-rpc at both ends.

use anyhow::{Result, ensure};
use maniple_rpc::{Call, Caller, Channel, Server, Service, Status};

use super::{BODY, ECHO, Message, count};

pub(super) fn serve() -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let service = Service::new("bench.Bench")
            .unary("Echo", |_: &mut Call, message: Message| {
                Ok::<_, Status>(message)
            });
        let server = Server::builder().service(service).bind("127.0.0.1:0")?;
        println!("{}", server.local_addr());
        server.serve()
    })?;
    Ok(())
}

pub(super) fn call(address: &str, calls: u16) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let channel = Channel::to(address)?;
        let calling: Vec<_> = (0..calls)
            .map(|_| {
                let caller = Caller::new(channel.clone());
                maniple::spawn(move || unary(&caller))
            })
            .collect();
        calling.into_iter().try_for_each(|calling| calling.join()?)
    })
}

fn unary(caller: &Caller) -> Result<()> {
    let message = Message {
        body: vec![7; BODY],
    };
    loop {
        let reply = caller.unary::<Message, Message>(ECHO, &message)?;
        ensure!(reply.body.len() == BODY, "another message");
        count(1);
    }
}
