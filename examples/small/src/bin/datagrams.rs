//! UDP: a name service that answers datagrams, and a client that asks again when an answer is lost.
//!
//! Try it: `cargo run --bin datagrams`, then `echo -n maniple | nc -u -w1 127.0.0.1 7001`.

use std::{env, io, net::SocketAddr, time::Duration};

use maniple::net::UdpSocket;

fn serve(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; 512]; // longer datagrams are cut
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        let name = String::from_utf8_lossy(&buffer[..length]).to_uppercase();
        socket.send_to(name.as_bytes(), peer)?;
    }
}

fn ask(server: SocketAddr, name: &str) -> io::Result<String> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?; // datagrams of others are not let in
    let mut buffer = [0; 512];
    for wait in [100, 200, 400] {
        socket.send(name.as_bytes())?;
        let answer = maniple::timeout(Duration::from_millis(wait), || socket.recv(&mut buffer));
        if let Ok(length) = answer.map_err(io::Error::from).flatten() {
            return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7001".into());
    maniple::run(|| {
        let socket = UdpSocket::bind(&address)?;
        let server = socket.local_addr()?;
        println!("listening on {server}");
        let asked = maniple::spawn(move || ask(server, "maniple"));
        maniple::spawn(move || println!("answer: {:?}", asked.join()));
        serve(&socket)
    })
}
