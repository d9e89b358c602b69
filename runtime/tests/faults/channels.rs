//! Messages: each is received once or comes back, whatever is cut.

use maniple::{cancel::cancel_at, sync::channel};

use super::at_every_suspension;

#[test]
fn a_message_is_received_once_or_comes_back() {
    let points = at_every_suspension(|after| {
        let (sender, receiver) = channel::bounded(0);
        let (mut sent, mut received) = (0, 0);
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                let sender = &sender;
                let sent = &mut sent;
                g.spawn(move || {
                    while *sent < 5 && sender.send(*sent).is_ok() {
                        *sent += 1;
                    }
                });
                while received < 5 {
                    match receiver.recv() {
                        Ok(message) => assert_eq!(message, received),
                        Err(_) => break,
                    }
                    received += 1;
                }
                Ok::<_, ()>(())
            })
        });
        assert_eq!(sent, received);
        assert!(struck || sent == 5);
        struck
    });
    assert!(points >= 5, "{points}");
}
