//! Generates the messages, the service and the client.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    maniple_grpc_build::compile(&["proto/grpc/testing/test.proto"], &["proto"])
}
