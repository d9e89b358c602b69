//! Generates the calls to etcd from the part of its interface that is used.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    maniple_grpc_build::compile(&["proto/etcd.proto"], &["proto"])
}
