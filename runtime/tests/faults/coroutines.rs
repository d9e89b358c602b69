//! Coroutines and who waits for them.

use std::{cell::Cell, time::Duration};

use maniple::cancel::cancel_at;

use super::at_every_suspension;

#[test]
fn destructors_run_wherever_the_cut_is() {
    struct Counted<'a>(&'a Cell<i32>);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let points = at_every_suspension(|after| {
        let inside = Cell::new(0);
        let (_, struck) = cancel_at(after, || {
            for _ in 0..3 {
                inside.set(inside.get() + 1);
                let _counted = Counted(&inside);
                maniple::sleep(Duration::from_micros(10));
                maniple::park_timeout(Duration::from_micros(10));
            }
        });
        assert_eq!(inside.get(), 0);
        struck
    });
    assert_eq!(points, 6);
}
