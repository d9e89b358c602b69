//! The channel for one message, across coroutines on one worker or two and plain threads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use maniple::{
    spawn,
    sync::{
        channel::{RecvError, RecvTimeoutError, TryRecvError},
        oneshot,
    },
    timeout, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

#[test]
fn one_message_comes_over_whether_the_receiver_waits_or_not() {
    for workers in [1, 2] {
        on(workers, || {
            let (send, receive) = oneshot::channel();
            assert_eq!((send.is_closed(), receive.is_closed()), (false, false));
            send.send(1).unwrap();
            assert!(receive.is_closed());
            assert_eq!(receive.recv(), Ok(1));
            let (send, receive) = oneshot::channel();
            let waiting = spawn(move || receive.recv());
            yield_now();
            send.send(2).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(2));
            let (send, mut receive) = oneshot::channel();
            assert_eq!(receive.try_recv(), Err(TryRecvError::Empty));
            send.send(3).unwrap();
            assert_eq!(receive.try_recv(), Ok(3));
            assert_eq!(receive.try_recv(), Err(TryRecvError::Disconnected));
        });
    }
}

#[test]
fn threads_answer_coroutines_and_the_other_way_round() {
    on(2, || {
        for n in 0..300 {
            let ((ask, asked), (answer, answered)) = (oneshot::channel(), oneshot::channel());
            let coroutine = spawn(move || answer.send(asked.recv().unwrap() + 1).unwrap());
            ask.send(n).unwrap();
            assert_eq!(answered.recv(), Ok(n + 1));
            coroutine.join().unwrap();
        }
    });
    let (ask, asked) = oneshot::channel();
    let thread = plain_thread(move || asked.recv());
    on(1, || ask.send("from a coroutine").unwrap());
    assert_eq!(thread.join().unwrap(), Ok("from a coroutine"));
}

#[test]
fn a_sender_that_goes_without_sending_ends_the_wait() {
    on(1, || {
        let (send, receive) = oneshot::channel::<u8>();
        let waiting = spawn(move || receive.recv());
        yield_now();
        drop(send);
        assert_eq!(waiting.join().unwrap(), Err(RecvError::Disconnected));
        let (send, receive) = oneshot::channel();
        drop(receive);
        assert!(send.is_closed());
        assert_eq!(send.send("back"), Err("back"));
    });
}

#[test]
fn time_limits_leave_the_receiver_usable() {
    on(1, || {
        let (send, mut receive) = oneshot::channel();
        let begun = Instant::now();
        assert_eq!(receive.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(begun.elapsed() >= SHORT, "never early");
        let cut = timeout(SHORT, || receive.recv_timeout(LONG)).unwrap();
        assert_eq!(cut, Err(RecvTimeoutError::Timeout));
        send.send(1).unwrap();
        assert_eq!(
            receive.recv_deadline(begun),
            Ok(1),
            "what is there is had even when time is up"
        );
        assert_eq!(
            receive.recv_timeout(LONG),
            Err(RecvTimeoutError::Disconnected)
        );
        let (_kept, receive) = oneshot::channel::<u8>();
        assert_eq!(
            timeout(SHORT, || receive.recv()).unwrap(),
            Err(RecvError::Elapsed)
        );
    });
}

#[test]
fn cancelling_the_receiver_at_any_moment_neither_loses_nor_doubles_the_message() {
    struct Message(Arc<AtomicUsize>);
    impl Drop for Message {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    for workers in [1, 2] {
        on(workers, || {
            let dropped = Arc::new(AtomicUsize::new(0));
            for round in 0..400 {
                let (send, mut receive) = oneshot::channel();
                let receiving = spawn(move || (receive.recv_timeout(LONG).is_ok(), receive));
                (0..round % 3).for_each(|_| yield_now());
                let message = Message(dropped.clone());
                let sending = spawn(move || send.send(message).is_ok());
                (0..round % 4).for_each(|_| yield_now());
                receiving.cancel();
                let sent = sending.join().unwrap();
                // One that was cancelled before it began has received nothing, and is gone.
                if let Ok((got, mut receive)) = receiving.join() {
                    assert!(sent);
                    assert_ne!(got, receive.try_recv().is_ok(), "had once, or still there");
                }
                assert_eq!(dropped.load(SeqCst), round + 1);
            }
        });
    }
}
