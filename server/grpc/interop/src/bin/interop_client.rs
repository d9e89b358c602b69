//! All cases against a server: `interop_client ADDRESS [OPTION...]`. Ends with "all is well".
//!
//! - `sees-compression`: the server knows which messages came compressed.
//! - `compresses`: it compresses what it answers, if it is asked to.
//! - `tls=ROOTS`: by TLS, believing the certificates in that file.

use std::{error::Error, time::Duration};

use maniple_grpc::Channel;
use maniple_grpc_interop::cases::{ALL, Server};
use maniple_server::tls::ClientConfig;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("interop_client ADDRESS")?;
    let options: Vec<_> = arguments.collect();
    let has = |option: &str| options.iter().any(|one| one == option);
    let roots = options.iter().find_map(|one| one.strip_prefix("tls="));
    maniple::run(|| {
        let mut channel = Channel::to(address);
        if let Some(roots) = roots {
            let config = ClientConfig::builder().roots(roots).alpn(["h2"]).build()?;
            channel = channel.tls(config);
        }
        let server = Server {
            channel,
            sees_compression: has("sees-compression"),
            compresses: has("compresses"),
        };
        for (name, case) in ALL {
            println!("{name}");
            maniple::timeout(Duration::from_secs(30), || case(&server))??;
        }
        println!("all is well");
        Ok(())
    })
}
