//! Descriptors: a wait that was cut takes no byte, datagram or connection with it.

use std::{
    io::{Read, Write},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use maniple::{
    cancel::cancel_at,
    net::{self, TcpListener, TcpStream, UdpSocket, UnixStream},
    sync::Mutex,
    yield_now,
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

#[test]
fn a_stream_whose_reader_was_cut_loses_no_byte() {
    a_cut_reader_reads_on(|| net::pipe().unwrap());
    a_cut_reader_reads_on(|| UnixStream::pair().unwrap());
    a_cut_reader_reads_on(tcp_pair);
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    near.set_nodelay(true).unwrap();
    (listener.accept().unwrap().0, near)
}

fn a_cut_reader_reads_on<R: Read + Send, W: Write + Send>(open: impl Fn() -> (R, W) + Send + Sync) {
    // So many that the driver learns to expect a byte at a time.
    const BYTES: u8 = 24;
    let points = at_every_suspension(|after| {
        let (mut reader, mut writer) = open();
        let mut got = Vec::new();
        let struck = maniple::group(|g| {
            g.spawn(move || {
                for byte in 0..BYTES {
                    writer.write_all(&[byte]).unwrap();
                    yield_now();
                }
            });
            let (_, struck) = cancel_at(after, || {
                let mut buffer = [0];
                while let Ok(1) = reader.read(&mut buffer) {
                    got.push(buffer[0]);
                }
            });
            reader.read_to_end(&mut got).unwrap();
            Ok::<_, ()>(struck)
        });
        assert!(got.iter().copied().eq(0..BYTES), "cut at {after}: {got:?}");
        struck.unwrap()
    });
    assert!(points >= 10, "{points}");
}

#[test]
fn a_stream_whose_writer_was_cut_has_what_was_written_and_no_more() {
    a_cut_writer_writes_on(|| net::pipe().unwrap());
    a_cut_writer_writes_on(|| UnixStream::pair().unwrap());
}

fn a_cut_writer_writes_on<R: Read + Send, W: Write + Send>(
    open: impl Fn() -> (R, W) + Send + Sync,
) {
    // More than fits into the kernel's buffers, with a period that no buffer has.
    let bytes: Vec<u8> = (0..=250).cycle().take(600_000).collect();
    let points = at_every_suspension(|after| {
        let (mut reader, mut writer) = open();
        let struck = maniple::group(|g| {
            let read = g.spawn(move || {
                let (mut got, mut buffer) = (Vec::new(), vec![0; 40_000]);
                while let count @ 1.. = reader.read(&mut buffer).unwrap() {
                    got.extend_from_slice(&buffer[..count]);
                    yield_now();
                }
                got
            });
            let mut left = &bytes[..];
            let mut write = || {
                while let Ok(count @ 1..) = writer.write(left) {
                    left = &left[count..];
                }
            };
            let (_, struck) = cancel_at(after, &mut write);
            write();
            assert!(left.is_empty());
            drop(writer);
            assert!(read.join().unwrap() == bytes, "cut at {after}");
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 4, "{points}");
}

#[test]
fn a_connection_that_a_cut_accept_leaves_another_accepts() {
    let points = at_every_suspension(|after| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let accept = || {
            let accepts = listener.accept().is_ok();
            accepted.fetch_add(usize::from(accepts), Relaxed);
            accepts
        };
        let struck = maniple::group(|g| {
            let rival = g.spawn(|| while accept() {});
            let connecting = g.spawn(|| {
                let mut open = Vec::new();
                while !over.load(Relaxed) || open.len() < 4 {
                    open.push(TcpStream::connect(address).unwrap());
                    yield_now();
                }
                open
            });
            let (_, struck) = cancel_at(after, || while accepted.load(Relaxed) < 3 && accept() {});
            over.store(true, Relaxed);
            let open = connecting.join().unwrap();
            while accepted.load(Relaxed) < open.len() {
                yield_now();
            }
            rival.cancel();
            rival.join().unwrap();
            assert_eq!(accepted.load(Relaxed), open.len());
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 5, "{points}");
}

#[test]
fn a_datagram_that_a_cut_receiver_leaves_another_receives() {
    let points = at_every_suspension(|after| {
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        near.connect(far.local_addr().unwrap()).unwrap();
        let (got, over) = (Mutex::new(Vec::new()), AtomicBool::new(false));
        let receive = || {
            let mut number = [0; 4];
            let received = far.recv_from(&mut number);
            received.is_ok_and(|(count, _)| {
                assert_eq!(count, number.len());
                got.lock().push(u32::from_be_bytes(number));
                true
            })
        };
        let struck = maniple::group(|g| {
            let rival = g.spawn(|| while receive() {});
            let sending = g.spawn(|| {
                let mut sent = 0_u32;
                while !over.load(Relaxed) || sent < 6 {
                    near.send(&sent.to_be_bytes()).unwrap();
                    sent += 1;
                    yield_now();
                }
                sent
            });
            let (_, struck) = cancel_at(after, || while got.lock().len() < 3 && receive() {});
            over.store(true, Relaxed);
            let sent = sending.join().unwrap();
            while got.lock().len() < sent as usize {
                yield_now();
            }
            rival.cancel();
            rival.join().unwrap();
            got.lock().sort();
            assert!(got.lock().iter().copied().eq(0..sent), "cut at {after}");
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 5, "{points}");
}
