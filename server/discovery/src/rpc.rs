//! etcd's messages and calls, generated from `proto/etcd.proto`.

#![allow(missing_docs, dead_code, unreachable_pub, reason = "it is generated")]

include!(concat!(env!("OUT_DIR"), "/etcdserverpb.rs"));
