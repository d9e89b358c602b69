//! Descriptors: a wait that was cut takes no byte, datagram or connection with it.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple::{
    cancel::cancel_at,
    net::{TcpListener, TcpStream},
};

use super::at_every_suspension;

#[test]
fn a_socket_whose_wait_was_cut_can_be_used_again() {
    let points = at_every_suspension(|after| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        let mut got = Vec::new();
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                let near = &near;
                g.spawn(move || {
                    let mut near = near;
                    for n in 0..3 {
                        maniple::sleep(Duration::from_micros(100));
                        near.write_all(&[n])?;
                    }
                    Ok::<_, std::io::Error>(())
                });
                while got.len() < 3 {
                    let mut buffer = [0; 8];
                    let count = far.read(&mut buffer)?;
                    got.extend_from_slice(&buffer[..count]);
                }
                Ok::<_, std::io::Error>(())
            })
        });
        near.write_all(b"end").unwrap();
        drop(near);
        far.read_to_end(&mut got).unwrap();
        let numbers = got.strip_suffix(b"end").expect("nothing was lost");
        assert!(
            numbers.iter().copied().eq(0..numbers.len() as u8),
            "{got:?}"
        );
        struck
    });
    assert!(points >= 5, "{points}");
}
