//! tonic at both ends, written as its generated code is.

use std::convert::Infallible;

use anyhow::{Result, ensure};
use futures_util::stream;
use tokio::{net::TcpListener, runtime::Builder};
use tonic::{
    Request, Response, Status,
    body::Body,
    client,
    codegen::{BoxFuture, BoxStream, Context, Poll, Service, http, tokio_stream::StreamExt},
    server::{self, NamedService, ServerStreamingService, UnaryService},
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;

use super::{BODY, ECHO, Kind, MANY, MESSAGES, Message, STREAMED, Wanted, count, tell_memory};

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[derive(Clone, Copy)]
struct Bench;

impl NamedService for Bench {
    const NAME: &'static str = "bench.Bench";
}

impl Service<http::Request<Body>> for Bench {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            ECHO => Box::pin(async move {
                let mut grpc = server::Grpc::new(ProstCodec::default());
                Ok(grpc.unary(Echo, request).await)
            }),
            MANY => Box::pin(async move {
                let mut grpc = server::Grpc::new(ProstCodec::default());
                Ok(grpc.server_streaming(Many, request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("").into_http()) }),
        }
    }
}

struct Echo;

impl UnaryService<Message> for Echo {
    type Response = Message;
    type Future = BoxFuture<Response<Message>, Status>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

struct Many;

impl ServerStreamingService<Wanted> for Many {
    type Response = Message;
    type ResponseStream = BoxStream<Message>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Wanted>) -> Self::Future {
        Box::pin(async move {
            let message = Message {
                body: vec![7; STREAMED],
            };
            let wanted = request.into_inner().messages;
            let messages = stream::iter((0..wanted).map(move |_| Ok(message.clone())));
            Ok(Response::new(Box::pin(messages) as BoxStream<Message>))
        })
    }
}

pub(super) fn serve() -> Result<()> {
    runtime()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let server = Server::builder().add_service(Bench);
        server.serve_with_incoming(incoming).await?;
        Ok(())
    })
}

pub(super) fn call(kind: Kind, address: &str, calls: u16) -> Result<()> {
    runtime()?.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        if kind == Kind::Idle {
            return idle(endpoint, calls).await;
        }
        let channel = endpoint.connect().await?;
        let mut calling = Vec::new();
        for _ in 0..calls {
            let channel = channel.clone();
            calling.push(tokio::spawn(async move {
                match kind {
                    Kind::Stream => stream(channel).await,
                    _ => unary(channel).await,
                }
            }));
        }
        for calling in calling {
            calling.await??;
        }
        Ok(())
    })
}

async fn echo(channel: &Channel, message: Message) -> Result<Message> {
    let mut grpc = client::Grpc::new(channel.clone());
    grpc.ready().await?;
    let path = http::uri::PathAndQuery::from_static(ECHO);
    let codec = ProstCodec::<Message, Message>::default();
    let reply = grpc.unary(Request::new(message), path, codec).await?;
    Ok(reply.into_inner())
}

async fn unary(channel: Channel) -> Result<()> {
    let message = Message {
        body: vec![7; BODY],
    };
    loop {
        let reply = echo(&channel, message.clone()).await?;
        ensure!(reply.body.len() == BODY, "another message");
        count(1);
    }
}

async fn stream(channel: Channel) -> Result<()> {
    loop {
        let mut grpc = client::Grpc::new(channel.clone());
        grpc.ready().await?;
        let path = http::uri::PathAndQuery::from_static(MANY);
        let wanted = Request::new(Wanted { messages: MESSAGES });
        let codec = ProstCodec::<Wanted, Message>::default();
        let mut replies = grpc
            .server_streaming(wanted, path, codec)
            .await?
            .into_inner();
        let mut came = 0;
        while let Some(reply) = replies.next().await {
            ensure!(reply?.body.len() == STREAMED, "another message");
            came += 1;
            count(1);
        }
        ensure!(came == MESSAGES, "too few messages");
    }
}

async fn idle(endpoint: Endpoint, connections: u16) -> Result<()> {
    tell_memory()?;
    let mut kept = Vec::new();
    for _ in 0..connections {
        let channel = endpoint.connect().await?;
        echo(&channel, Message::default()).await?;
        kept.push(channel);
    }
    println!("all are open");
    std::future::pending().await
}
