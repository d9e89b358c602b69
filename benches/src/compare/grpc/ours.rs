//! maniple-grpc at both ends.

use anyhow::{Result, ensure};
use maniple_grpc::{Call, Caller, Channel, Service, Status, server::Replies};
use maniple_server::Server;

use super::{BODY, ECHO, Kind, MANY, MESSAGES, Message, STREAMED, Wanted, count, tell_memory};

pub(super) fn serve() -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let service = Service::new("bench.Bench")
            .unary("Echo", |_: &mut Call, message: Message| Ok(message))
            .server_streaming(
                "Many",
                |_: &mut Call, wanted: Wanted, replies: &mut Replies<'_, '_, Message>| {
                    let message = Message {
                        body: vec![7; STREAMED],
                    };
                    for _ in 0..wanted.messages {
                        replies.send(&message)?;
                    }
                    Ok::<_, Status>(())
                },
            );
        let server = Server::builder(service.into_router());
        let server = server.bind("127.0.0.1:0")?;
        println!("{}", server.local_addr());
        server.serve().map(drop)
    })?;
    Ok(())
}

pub(super) fn call(kind: Kind, address: &str, calls: u16) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| match kind {
        Kind::Idle => idle(address, calls),
        _ => calls_for_ever(kind, address, calls),
    })
}

fn calls_for_ever(kind: Kind, address: &str, calls: u16) -> Result<()> {
    let channel = Channel::to(address);
    let calling: Vec<_> = (0..calls)
        .map(|_| {
            let caller = Caller::new(channel.clone());
            maniple::spawn(move || match kind {
                Kind::Stream => stream(&caller),
                _ => unary(&caller),
            })
        })
        .collect();
    calling.into_iter().try_for_each(|calling| calling.join()?)
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

fn stream(caller: &Caller) -> Result<()> {
    loop {
        let wanted = Wanted { messages: MESSAGES };
        let mut came = 0;
        for reply in caller.server_streaming::<Wanted, Message>(MANY, &wanted)? {
            ensure!(reply?.body.len() == STREAMED, "another message");
            came += 1;
            count(1);
        }
        ensure!(came == MESSAGES, "too few messages");
    }
}

fn idle(address: &str, connections: u16) -> Result<()> {
    tell_memory()?;
    let mut kept = Vec::new();
    for _ in 0..connections {
        let caller = Caller::new(Channel::to(address));
        caller.unary::<Message, Message>(ECHO, &Message::default())?;
        kept.push(caller);
    }
    println!("all are open");
    maniple::sleep(std::time::Duration::from_secs(600));
    Ok(())
}
