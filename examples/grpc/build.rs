//! Generates the code for each `.proto`, for both transports, and for services that are written once for both.

use maniple_grpc_build::Transport;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    maniple_grpc_build::compile_for(
        &["proto/chat.proto"],
        &["proto"],
        &[Transport::Grpc, Transport::Rpc],
    )?;
    maniple_grpc_build::compile_for(
        &["proto/notes.proto"],
        &["proto"],
        &[Transport::Grpc, Transport::Rpc, Transport::Either],
    )
}
