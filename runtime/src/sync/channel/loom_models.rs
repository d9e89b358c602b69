//! Channels model-checked: no message is lost or doubled, and every waiter is woken, at the end too.

use loom::{cell::UnsafeCell, sync::Arc, thread::spawn};

use super::*;

/// Bounded to so many preemptions of each execution. No three threads want the same channel: two that spin
/// for its lock give way to each other for ever.
fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(body);
}

/// A message that loom follows: it finds a receiver who reads what nothing has ordered after the
/// writing of it, and a message that nobody drops.
struct Parcel(
    UnsafeCell<u32>,
    #[allow(dead_code, reason = "held for its drop")] Arc<()>,
);

impl Parcel {
    fn new(content: u32) -> Self {
        let parcel = Self(UnsafeCell::new(0), Arc::new(()));
        // SAFETY: nobody else has seen it.
        parcel.0.with_mut(|inside| unsafe { *inside = content });
        parcel
    }

    fn open(self) -> u32 {
        // SAFETY: there is one owner.
        self.0.with(|inside| unsafe { *inside })
    }
}

fn open_all(receiver: &Receiver<Parcel>) -> Vec<u32> {
    receiver.iter().map(Parcel::open).collect()
}

/// Sent one after the other while the receiver takes them, then disconnected.
fn a_stream_arrives_whole(capacity: usize) {
    model(3, move || {
        let (sender, receiver) = bounded(capacity);
        let producer =
            spawn(move || (1..=2).all(|content| sender.send(Parcel::new(content)).is_ok()));
        assert_eq!(open_all(&receiver), [1, 2]);
        assert!(producer.join().unwrap());
    });
}

#[test]
fn loom_a_stream_through_one_place_arrives_whole_and_ends() {
    a_stream_arrives_whole(1);
}

#[test]
fn loom_a_stream_of_meetings_arrives_whole_and_ends() {
    a_stream_arrives_whole(0);
}

/// The receiver leaves after one message: what it does not take comes back to the sender, or is dropped.
fn a_sender_is_not_left_waiting(capacity: usize) {
    model(3, move || {
        let (sender, receiver) = bounded(capacity);
        let consumer = spawn(move || receiver.recv().map(Parcel::open));
        let sent: Vec<_> = (1..=3)
            .map(|content| sender.send(Parcel::new(content)))
            .collect();
        let came = consumer.join().unwrap();
        assert_eq!(came, Ok(1));
        assert!(sent[0].is_ok());
        for (result, content) in sent.into_iter().zip(1..) {
            match result {
                Ok(()) => assert!(content as usize <= 1 + capacity, "more than fits"),
                Err(SendError::Disconnected(parcel)) => assert_eq!(parcel.open(), content),
                Err(other) => panic!("{other}"),
            }
        }
    });
}

#[test]
fn loom_a_sender_that_waits_for_room_learns_that_the_receiver_left() {
    a_sender_is_not_left_waiting(1);
}

#[test]
fn loom_a_sender_that_waits_to_meet_learns_that_the_receiver_left() {
    a_sender_is_not_left_waiting(0);
}

/// Two channels, a message on each: whichever comes first, both are received, once.
#[test]
fn loom_a_select_of_two_loses_and_doubles_nothing() {
    model(2, || {
        let ((to_first, first), (to_second, second)) = (bounded(0), bounded(1));
        let threads = [(to_first, 1), (to_second, 2)].map(|(sender, content)| {
            spawn(move || {
                let sent = sender.send(Parcel::new(content)).is_ok();
                (sent, sender)
            })
        });
        let mut received: Vec<_> = (0..2)
            .map(|_| select_once(&first, &second).unwrap())
            .collect();
        received.sort_unstable();
        assert_eq!(received, [1, 2]);
        // The senders stay until here: a channel without one can be selected, too.
        assert!(threads.into_iter().all(|thread| thread.join().unwrap().0));
    });
}

/// It sleeps on both, and the end of either wakes it.
#[test]
fn loom_a_select_of_two_is_woken_by_an_end() {
    model(2, || {
        let ((to_first, first), (to_second, second)) = (bounded(0), bounded(0));
        let leaver = spawn(move || drop(to_second));
        assert_eq!(select_once(&first, &second), Err(RecvError::Disconnected));
        leaver.join().unwrap();
        drop(to_first);
    });
}

fn select_once(first: &Receiver<Parcel>, second: &Receiver<Parcel>) -> Result<u32, RecvError> {
    let mut select = Select::new();
    select.recv(first);
    select.recv(second);
    let selected = select.select().expect("nothing cuts it short");
    let receiver = [first, second][selected.index()];
    selected.recv(receiver).map(Parcel::open)
}
