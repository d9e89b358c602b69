//! Locks and what is set once: free again, and whole.

use std::time::Duration;

use maniple::{
    cancel::{cancel_at, shield},
    sync::{Condvar, Mutex},
};

use super::at_every_suspension;

#[test]
fn a_lock_is_free_again_and_what_it_guards_is_whole() {
    let points = at_every_suspension(|after| {
        let (state, condvar) = (Mutex::new((0, 0)), Condvar::new());
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                g.spawn(|| {
                    for _ in 0..4 {
                        let mut state = state.lock();
                        state.0 += 1;
                        shield(|| maniple::sleep(Duration::from_micros(1)));
                        state.1 += 1;
                        condvar.notify_all();
                    }
                });
                let mut state = state.lock();
                while state.1 < 4 {
                    condvar.wait(&mut state);
                }
                Ok::<_, ()>(())
            })
        });
        let state = state.try_lock().expect("unlocked");
        assert_eq!(state.0, state.1);
        struck
    });
    assert!(points >= 3, "{points}");
}
