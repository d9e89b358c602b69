//! What a kernel may do at any call: move a part of what it could, and end a wait for what another has taken.

use std::{
    io::{self, ErrorKind, IoSlice, Read, Write},
    os::fd::AsFd,
};

use maniple::{
    net::{TcpListener, TcpStream, UdpSocket, UnixStream, pipe},
    sim,
};

use super::network::MILLIS;

/// Up to so many bytes go through a pipe at once (`PIPE_BUF`, pipe(7)).
const PIPE_BUF: usize = 4096;

#[test]
fn a_unix_stream_moves_a_part_of_what_is_written_or_read() {
    sim::check(sim::seeds(100), |_| {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let written = near.write(&[1; 100]).unwrap();
        sim::sometimes!(written < 100);
        sim::sometimes!(written == 100);
        let mut bytes = [0; 100];
        let read = far.read(&mut bytes).unwrap();
        assert!((1..=written).contains(&read));
        sim::sometimes!(read < written);
        let slices = [IoSlice::new(&[]), IoSlice::new(&[2]), IoSlice::new(&[3; 9])];
        let written = near.write_vectored(&slices).unwrap();
        sim::sometimes!(written == 1);
        sim::sometimes!(written == 10);
    });
}

#[test]
fn what_comes_in_parts_is_all_there_and_in_order() {
    sim::check(sim::seeds(100), |world| {
        let sent: Vec<u8> = (0..world.draw(1..50_000)).map(|n| n as u8).collect();
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let (mut reader, mut writer) = pipe().unwrap();
        let theirs = sent.clone();
        let relay = maniple::spawn(move || io::copy(&mut far, &mut writer).unwrap());
        let writes = maniple::spawn(move || near.write_all(&theirs).unwrap());
        let mut came = Vec::new();
        reader.read_to_end(&mut came).unwrap();
        assert!(came == sent, "{} of {} bytes", came.len(), sent.len());
        writes.join().unwrap();
        relay.join().unwrap();
    });
}

#[test]
fn a_pipe_takes_a_small_write_whole_and_a_part_of_a_large_one() {
    sim::check(sim::seeds(100), |_| {
        let (mut reader, mut writer) = pipe().unwrap();
        let mut bytes = [0; 3 * PIPE_BUF];
        assert_eq!(writer.write(&[1; PIPE_BUF]).unwrap(), PIPE_BUF);
        assert_eq!(reader.read(&mut bytes[..PIPE_BUF]).unwrap(), PIPE_BUF);
        let written = writer.write(&[1; 3 * PIPE_BUF]).unwrap();
        assert!(written >= PIPE_BUF);
        sim::sometimes!(written < 3 * PIPE_BUF);
        sim::sometimes!(written == 3 * PIPE_BUF);
        let read = reader.read(&mut bytes).unwrap();
        assert!((PIPE_BUF..=written).contains(&read));
        sim::sometimes!(read < written);
    });
}

/// Has a wait for reading go on while something comes elsewhere, time and again: whether it ended for nothing. What
/// comes then is found all the same.
fn ends_for_nothing(
    wait: impl FnOnce() -> io::Result<usize> + Send + 'static,
    send: impl FnOnce(),
) -> bool {
    let (mut near, mut far) = UnixStream::pair().unwrap();
    let waits = maniple::spawn(wait);
    let reads = maniple::spawn(move || (0..4).for_each(|_| far.read_exact(&mut [0]).unwrap()));
    for _ in 0..4 {
        near.write_all(&[1]).unwrap();
        maniple::sleep(MILLIS);
    }
    reads.join().unwrap();
    send();
    match waits.join().unwrap() {
        Ok(read) => {
            assert_eq!(read, 1);
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            true
        }
    }
}

#[test]
fn a_wait_for_reading_may_end_for_nothing_over_a_unix_stream() {
    sim::check(sim::seeds(50), |_| {
        let (mut near, far) = UnixStream::pair().unwrap();
        let wait = move || far.wait_readable().and_then(|()| far.try_read(&mut [0]));
        let ended = ends_for_nothing(wait, || _ = near.write(&[1]));
        sim::sometimes!(ended);
        sim::sometimes!(!ended);
    });
}

#[test]
fn a_wait_for_reading_may_end_for_nothing_over_a_pipe() {
    sim::check(sim::seeds(50), |_| {
        let (reader, mut writer) = pipe().unwrap();
        let wait = move || (reader.wait_readable()).and_then(|()| reader.try_read(&mut [0]));
        let ended = ends_for_nothing(wait, || writer.write_all(&[1]).unwrap_or_default());
        sim::sometimes!(ended);
        sim::sometimes!(!ended);
    });
}

#[test]
fn a_wait_for_reading_may_end_for_nothing_over_tcp_and_udp() {
    sim::check(sim::seeds(50), |_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, _) = listener.accept().unwrap();
        let wait = move || far.wait_readable().and_then(|()| far.try_read(&mut [0]));
        let ended = ends_for_nothing(wait, || near.write_all(&[1]).unwrap_or_default());
        sim::sometimes!(ended);
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = far.local_addr().unwrap();
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wait = move || {
            maniple::net::wait_readable(far.as_fd())?;
            far.try_recv_from(&mut [0]).map(|(length, _)| length)
        };
        let ended = ends_for_nothing(wait, || _ = near.send_to(&[1], to));
        sim::sometimes!(ended);
    });
}

#[test]
fn who_reads_waits_on_when_a_race_is_lost() {
    sim::check(sim::seeds(50), |_| {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        let wait = move || far.read(&mut [0]);
        let ended = ends_for_nothing(wait, || _ = near.write(&[1]));
        assert!(!ended);
    });
}
