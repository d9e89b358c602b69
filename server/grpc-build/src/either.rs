//! Code for services that are written once, and served over gRPC and over RPC.

use std::fmt::Write;

use prost_build::{Method, Service};

use crate::{call, full_name, write_docs};

/// What gRPC has, as what both have; once for each package.
pub(crate) const OVER_GRPC: &str = r#"
#[doc(hidden)]
#[allow(dead_code, missing_docs, missing_debug_implementations, clippy::all)]
pub mod over_grpc {
    pub fn theirs(status: maniple_rpc::Status) -> maniple_grpc::Status {
        let code = maniple_grpc::Code::from_number(status.code() as u32);
        maniple_grpc::Status::new(code, status.message()).with_details(status.details().to_vec())
    }

    pub fn ours(status: maniple_grpc::Status) -> maniple_rpc::Status {
        let code = maniple_rpc::Code::from_number(status.code() as u32);
        maniple_rpc::Status::new(code, status.message()).with_details(status.details().to_vec())
    }

    pub struct Call<'a>(pub &'a mut maniple_grpc::Call);

    impl maniple_rpc::either::AnyCall for Call<'_> {
        fn field(&self, name: &str) -> Option<Vec<u8>> {
            let metadata = self.0.metadata();
            match name.ends_with("-bin") {
                true => metadata.get_bytes(name),
                false => metadata.get(name).map(|text| text.as_bytes().to_vec()),
            }
        }

        fn answer_field(&mut self, name: &str, value: &[u8]) -> bool {
            let metadata = self.0.trailers_mut();
            match name.ends_with("-bin") {
                true => metadata.insert_bytes(name, value),
                false => std::str::from_utf8(value).is_ok_and(|text| metadata.insert(name, text)),
            }
        }

        fn remaining(&self) -> Option<std::time::Duration> {
            self.0.remaining()
        }

        fn peer(&self) -> String {
            self.0.peer().to_string()
        }
    }

    pub struct Replies<'a, 'r, 'w, M>(pub &'a mut maniple_grpc::server::Replies<'r, 'w, M>);

    impl<M: maniple_rpc::prost::Message> maniple_rpc::either::AnyReplies<M> for Replies<'_, '_, '_, M> {
        fn send(&mut self, message: &M) -> Result<(), maniple_rpc::Status> {
            self.0.send(message).map_err(ours)
        }
    }

    pub struct Sending<M>(pub maniple_grpc::client::Sending<M>);

    impl<M: maniple_rpc::prost::Message> maniple_rpc::either::AnySending<M> for Sending<M> {
        fn send(&mut self, message: &M) -> Result<(), maniple_rpc::Status> {
            self.0.send(message).map_err(ours)
        }

        fn finish(self: Box<Self>) -> Result<(), maniple_rpc::Status> {
            self.0.finish().map_err(ours)
        }
    }
}
"#;

const STATUS: &str = "maniple_rpc::Status";

pub(crate) fn write(service: &Service, code: &mut String) -> std::fmt::Result {
    write_trait(service, code)?;
    write_client(service, code)
}

/// What a method is given beside its call, and gives.
fn signature(method: &Method) -> String {
    let (q, a) = (&method.input_type, &method.output_type);
    let given = match method.client_streaming {
        false => format!("request: {q}"),
        true => format!("requests: &mut maniple_rpc::either::AnyMessages<'_, {q}>"),
    };
    match method.server_streaming {
        false => format!("{given}) -> Result<{a}, {STATUS}>"),
        true => format!(
            "{given}, replies: &mut dyn maniple_rpc::either::AnyReplies<{a}>) -> Result<(), {STATUS}>"
        ),
    }
}

fn write_trait(service: &Service, code: &mut String) -> std::fmt::Result {
    let name = &service.name;
    write_docs(&service.comments.leading, "", code)?;
    writeln!(code, "///")?;
    writeln!(
        code,
        "/// Written once, and served over gRPC as well as over RPC."
    )?;
    writeln!(code, "#[allow(rustdoc::all, clippy::all)]")?;
    writeln!(code, "pub trait {name}Either: Send + Sync + 'static {{")?;
    for method in &service.methods {
        write_docs(&method.comments.leading, "    ", code)?;
        writeln!(
            code,
            "    fn {}(&self, call: &mut dyn maniple_rpc::either::AnyCall, {};",
            method.name,
            signature(method)
        )?;
    }
    for over_grpc in [true, false] {
        write_making(service, over_grpc, code)?;
    }
    writeln!(code, "}}\n")
}

/// What makes a service of one kind.
fn write_making(service: &Service, over_grpc: bool, code: &mut String) -> std::fmt::Result {
    let (krate, kind, words) = match over_grpc {
        true => ("maniple_grpc", "grpc", "gRPC"),
        false => ("maniple_rpc", "rpc", "RPC"),
    };
    writeln!(
        code,
        "\n    /// The service over {words}, with its defaults."
    )?;
    writeln!(
        code,
        "    fn into_{kind}(self) -> {krate}::Service where Self: Sized {{"
    )?;
    writeln!(code, "        let methods = std::sync::Arc::new(self);")?;
    writeln!(
        code,
        "        {krate}::Service::new({:?})",
        full_name(service)
    )?;
    for method in &service.methods {
        let (q, a) = (&method.input_type, &method.output_type);
        let (call, proto, own) = (call(method), &method.proto_name, &method.name);
        let (requests, replies) = match over_grpc {
            true => (
                format!("maniple_grpc::server::Requests<'_, {q}>"),
                format!("maniple_grpc::server::Replies<'_, '_, {a}>"),
            ),
            false => (
                format!("maniple_rpc::Requests<'_, {q}>"),
                format!("maniple_rpc::Replies<'_, {a}>"),
            ),
        };
        let (mut taken, mut passed) = match method.client_streaming {
            false => (format!("request: {q}"), "request".to_owned()),
            true => (format!("requests: &mut {requests}"), "requests".to_owned()),
        };
        if method.client_streaming && over_grpc {
            passed = "&mut requests.map(|request| request.map_err(over_grpc::ours))".to_owned();
        }
        if method.server_streaming {
            let _ = write!(taken, ", replies: &mut {replies}");
            passed += match over_grpc {
                true => ", &mut over_grpc::Replies(replies)",
                false => ", replies",
            };
        }
        let (seen, ended) = match over_grpc {
            true => ("&mut over_grpc::Call(call)", ".map_err(over_grpc::theirs)"),
            false => ("call", ""),
        };
        writeln!(
            code,
            "            .{call}({proto:?}, {{ let methods = methods.clone(); \
             move |call: &mut {krate}::Call, {taken}| methods.{own}({seen}, {passed}){ended} }})"
        )?;
    }
    writeln!(code, "    }}")
}

fn write_client(service: &Service, code: &mut String) -> std::fmt::Result {
    let name = &service.name;
    writeln!(
        code,
        "/// Calls to `{}`, over gRPC or over RPC.",
        full_name(service)
    )?;
    writeln!(code, "#[derive(Clone, Debug)]")?;
    writeln!(code, "#[non_exhaustive]")?;
    writeln!(code, "pub enum {name}EitherClient {{")?;
    writeln!(code, "    /// Over gRPC.\n    Grpc({name}Client),")?;
    writeln!(code, "    /// Over RPC.\n    Rpc({name}RpcClient),")?;
    writeln!(code, "}}\n")?;
    for kind in ["Grpc", "Rpc"] {
        let client = match kind {
            "Grpc" => format!("{name}Client"),
            _ => format!("{name}RpcClient"),
        };
        writeln!(
            code,
            "impl From<{client}> for {name}EitherClient {{ \
             fn from(client: {client}) -> Self {{ Self::{kind}(client) }} }}\n"
        )?;
    }
    writeln!(code, "#[allow(rustdoc::all, clippy::all)]")?;
    writeln!(code, "impl {name}EitherClient {{")?;
    for method in &service.methods {
        write_docs(&method.comments.leading, "    ", code)?;
        write_call(method, code)?;
    }
    writeln!(code, "}}\n")
}

fn write_call(method: &Method, code: &mut String) -> std::fmt::Result {
    let (q, a, own) = (&method.input_type, &method.output_type, &method.name);
    let ours = ".map_err(over_grpc::ours)";
    let answers = format!("maniple_rpc::either::AnyAnswers<{a}>");
    let boxed = "Box::new(replies.map(|reply| reply.map_err(over_grpc::ours)))";
    let (taken, made, grpc, rpc) = match (method.client_streaming, method.server_streaming) {
        (false, false) => (
            format!("request: &{q}"),
            a.clone(),
            format!("client.{own}(request).map(|reply| reply.into_inner()){ours}"),
            format!("client.{own}(request).map(|reply| reply.into_inner())"),
        ),
        (true, false) => {
            // Why a message was not taken the end says.
            let sending = format!(
                "{{ let mut call = client.{own}()MAPPED?; \
                 for request in requests {{ if call.send(&request).is_err() {{ break; }} }} \
                 call.finish().map(|reply| reply.into_inner())MAPPED }}"
            );
            (
                format!("requests: impl IntoIterator<Item = {q}>"),
                a.clone(),
                sending.replace("MAPPED", ours),
                sending.replace("MAPPED", ""),
            )
        }
        (false, true) => (
            format!("request: &{q}"),
            answers,
            format!("{{ let replies = client.{own}(request){ours}?; Ok({boxed}) }}"),
            format!("{{ let replies = client.{own}(request)?; Ok(Box::new(replies)) }}"),
        ),
        (true, true) => (
            String::new(),
            format!("(Box<dyn maniple_rpc::either::AnySending<{q}>>, {answers})"),
            format!(
                "{{ let (sending, replies) = client.{own}(){ours}?; \
                 Ok((Box::new(over_grpc::Sending(sending)), {boxed})) }}"
            ),
            format!(
                "{{ let (sending, replies) = client.{own}()?; \
                 Ok((Box::new(sending), Box::new(replies))) }}"
            ),
        ),
    };
    writeln!(
        code,
        "    pub fn {own}(&self, {taken}) -> Result<{made}, {STATUS}> {{ match self {{ \
         Self::Grpc(client) => {grpc}, Self::Rpc(client) => {rpc} }} }}\n"
    )
}
