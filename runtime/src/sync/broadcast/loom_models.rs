//! A broadcast model-checked: each message to each receiver, once, also if some leave meanwhile.

use loom::{cell::UnsafeCell, sync::Arc, thread::spawn};

use super::*;

/// Bounded to so many preemptions of each execution.
fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// A message that loom follows: it finds a reader of what nothing has ordered after its writing, one that
/// takes the original while another still copies it, and an original that nobody drops.
struct Parcel(
    UnsafeCell<u32>,
    #[allow(dead_code, reason = "held for its drop")] Arc<()>,
);

impl Parcel {
    fn new(content: u32) -> Self {
        Self(UnsafeCell::new(content), Arc::new(()))
    }

    fn open(self) -> u32 {
        // SAFETY: there is one owner.
        self.0.with_mut(|inside| unsafe { *inside })
    }
}

// SAFETY: who has a reference to it only reads it; loom holds that against the owners' writes.
unsafe impl Sync for Parcel {}

impl Clone for Parcel {
    fn clone(&self) -> Self {
        // SAFETY: those who share it write nothing.
        Self::new(self.0.with(|inside| unsafe { *inside }))
    }
}

fn open_all(mut receiver: Receiver<Parcel>) -> Vec<u32> {
    std::iter::from_fn(|| receiver.recv().ok())
        .map(Parcel::open)
        .collect()
}

/// The sender waits for room, the receiver for messages, and then for the end.
#[test]
fn loom_a_broadcast_that_blocks_arrives_whole_and_ends() {
    model(3, || {
        let (sender, receiver) = channel(1, Lag::Block);
        let producer = spawn(move || (1..=3).all(|n| sender.send(Parcel::new(n)).is_ok()));
        assert_eq!(open_all(receiver), [1, 2, 3]);
        assert!(producer.join().unwrap());
    });
}

/// Two copy the same message; the later one may take the original, alone.
#[test]
fn loom_the_original_goes_to_a_reader_who_is_alone_with_it() {
    model(3, || {
        let (sender, mut receiver) = channel(1, Lag::Block);
        let mut other = receiver.resubscribe();
        assert!(sender.send(Parcel::new(1)).is_ok());
        let thread = spawn(move || other.recv().map(Parcel::open));
        assert_eq!(receiver.recv().map(Parcel::open), Ok(1));
        assert_eq!(thread.join().unwrap(), Ok(1));
    });
}

/// A sender waits for a receiver that reads nothing and leaves; the other gets all, in order.
#[test]
fn loom_a_sender_is_not_held_up_by_a_receiver_that_left() {
    model(3, || {
        let (sender, receiver) = channel(1, Lag::Block);
        let idle = receiver.resubscribe();
        let leaver = spawn(move || {
            drop(idle);
            open_all(receiver)
        });
        assert!((1..=2).all(|n| sender.send(Parcel::new(n)).is_ok()));
        drop(sender);
        assert_eq!(leaver.join().unwrap(), [1, 2]);
    });
}

/// The only receiver reads one message and leaves, while the sender has room for one or waits for it.
#[test]
fn loom_a_sender_learns_that_the_last_receiver_left() {
    model(3, || {
        let (sender, mut receiver) = channel(1, Lag::Block);
        let consumer = spawn(move || receiver.recv().map(Parcel::open));
        let sent: Vec<_> = (1..=3).map(|n| sender.send(Parcel::new(n))).collect();
        assert_eq!(consumer.join().unwrap(), Ok(1));
        assert!(sent[0].is_ok());
        let Err(SendError::Disconnected(last)) = sent.into_iter().next_back().unwrap() else {
            panic!("nobody is there to receive the third");
        };
        assert_eq!(last.open(), 3);
    });
}

/// The oldest message goes while a receiver may be copying it: what it gets is in order and whole, and
/// what it missed is counted.
#[test]
fn loom_what_is_dropped_for_a_laggard_is_counted() {
    model(3, || {
        let (sender, mut receiver) = channel(1, Lag::DropOldest);
        let producer = spawn(move || (1..=2).all(|n| sender.send(Parcel::new(n)).is_ok()));
        let mut seen = 0;
        while seen < 2 {
            match receiver.recv() {
                Ok(parcel) => {
                    assert_eq!(parcel.open(), seen + 1);
                    seen += 1;
                }
                Err(RecvError::Lagged(missed)) => seen += missed as u32,
                Err(other) => panic!("{other}"),
            }
        }
        assert!(producer.join().unwrap());
    });
}
