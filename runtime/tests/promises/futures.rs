//! Futures run by coroutines and coroutines awaited by other executors: no wake-up is lost, and what is given
//! up is dropped.

use std::{
    future::{Future, IntoFuture, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
};

use maniple::{
    JoinError, block_on,
    cancel::{CancelToken, is_cancelled_error},
    future::Poller,
    group,
    net::{TcpListener, TcpStream},
    spawn, timeout, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

/// A value that another waiter sends, as a future.
struct Letter<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Letter<T> {
    fn new() -> (impl FnOnce(T), Self) {
        let shared = Arc::new(Mutex::new((None, None::<Waker>)));
        let theirs = shared.clone();
        let send = move |value| {
            let mut shared = theirs.lock().unwrap();
            shared.0 = Some(value);
            let waker = shared.1.take();
            drop(shared);
            waker.into_iter().for_each(Waker::wake);
        };
        (send, Self(shared))
    }
}

impl<T> Future for Letter<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let mut shared = self.0.lock().unwrap();
        match shared.0.take() {
            Some(value) => Poll::Ready(value),
            None => {
                shared.1 = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Pending so often, having woken itself.
fn wakes_itself(mut times: usize) -> impl Future<Output = ()> {
    poll_fn(move |context| {
        if times == 0 {
            return Poll::Ready(());
        }
        times -= 1;
        context.waker().wake_by_ref();
        Poll::Pending
    })
}

/// An executor that knows nothing of us.
fn execute<F: IntoFuture>(future: F) -> F::Output {
    struct Unpark(thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let mut future = pin!(future.into_future());
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Sets a flag when it is dropped.
struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn a_future_is_woken_from_wherever_its_value_comes() {
    let round = |from_thread: bool| {
        let (send, letter) = Letter::new();
        if from_thread {
            let sender = plain_thread(move || send(1));
            assert_eq!(block_on(letter), 1);
            sender.join().unwrap();
        } else {
            let sender = spawn(move || send(1));
            assert_eq!(block_on(letter), 1);
            sender.join().unwrap();
        }
    };
    for workers in [1, 2] {
        on(workers, || (0..300).for_each(|at| round(at % 10 == 0)));
    }
    (0..50).for_each(|at| round(at % 2 == 0));
}

#[test]
fn a_worker_runs_others_while_a_future_waits_or_wakes_itself() {
    on(1, || {
        let (send, letter) = Letter::new();
        let sender = spawn(move || send("sent"));
        assert_eq!(block_on(letter), "sent");
        sender.join().unwrap();

        let other = spawn(|| ());
        let waking = spawn(|| block_on(wakes_itself(100_000)));
        other.join().unwrap();
        assert!(!waking.is_finished());
        waking.join().unwrap();
    });
}

#[test]
fn a_future_may_block_and_be_nested() {
    on(1, || {
        let value = block_on(async {
            yield_now();
            let inner = block_on(async { spawn(|| 20).await.unwrap() });
            wakes_itself(2).await;
            inner + 1
        });
        assert_eq!(value, 21);
    });
}

#[test]
fn waiting_for_a_future_does_not_take_the_token_of_park() {
    on(1, || {
        maniple::current().unwrap().unpark();
        let (send, letter) = Letter::new();
        let sender = spawn(move || send(()));
        block_on(letter);
        sender.join().unwrap();
        assert_eq!(timeout(LONG, maniple::park), Ok(()));
    });
}

#[test]
fn cancellation_and_deadlines_drop_the_future_and_unwind() {
    on(1, || {
        let dropped = Arc::new(AtomicBool::new(false));
        let flag = Flag(dropped.clone());
        let cut = timeout(SHORT, || {
            block_on(async move {
                let _flag = flag;
                std::future::pending::<()>().await;
            })
        });
        assert!(cut.is_err() && dropped.load(SeqCst));

        let endless = spawn(|| block_on(wakes_itself(usize::MAX)));
        yield_now();
        endless.cancel();
        assert!(endless.join().unwrap_err().is_cancelled());

        let token = CancelToken::new();
        token.cancel();
        let polled = AtomicBool::new(false);
        let refused = token.run(|| block_on(async { polled.store(true, SeqCst) }));
        assert!(refused.is_err() && !polled.load(SeqCst));
    });
    let token = CancelToken::new();
    let theirs = token.clone();
    let canceller = plain_thread(move || theirs.cancel());
    assert!(
        token
            .run(|| block_on(std::future::pending::<()>()))
            .is_err()
    );
    canceller.join().unwrap();
}

#[test]
fn a_future_in_a_destructor_of_a_cancelled_coroutine_comes_to_its_end() {
    struct Waits(Arc<AtomicBool>);
    impl Drop for Waits {
        fn drop(&mut self) {
            let (send, letter) = Letter::new();
            let sender = spawn(move || send(()));
            block_on(letter);
            drop(sender);
            self.0.store(true, SeqCst);
        }
    }
    on(1, || {
        let ended = Arc::new(AtomicBool::new(false));
        let waits = Waits(ended.clone());
        let falling = spawn(move || {
            let _waits = waits;
            maniple::park();
        });
        yield_now();
        falling.cancel();
        assert!(falling.join().unwrap_err().is_cancelled());
        assert!(ended.load(SeqCst));
    });
}

#[test]
fn cancelling_at_any_moment_neither_loses_a_value_nor_hangs() {
    for workers in [1, 2] {
        on(workers, || {
            for yields in 0..60 {
                let token = CancelToken::new();
                let (send, letter) = Letter::new();
                let shared = letter.0.clone();
                let outcome: Result<_, JoinError> = group(|g| {
                    let waiting = g.spawn(|| token.run(|| block_on(letter)));
                    g.spawn(|| {
                        (0..yields % 8).for_each(|_| yield_now());
                        token.cancel();
                    });
                    g.spawn(move || {
                        (0..yields / 8).for_each(|_| yield_now());
                        send(yields);
                    });
                    waiting.join()
                });
                let left = shared.lock().unwrap().0.take();
                match outcome.unwrap() {
                    Ok(value) => assert_eq!((value, left), (yields, None)),
                    Err(_) => assert_eq!(left, Some(yields)),
                }
            }
        });
    }
}

#[test]
fn a_panicking_future_panics_in_its_coroutine() {
    on(1, || {
        let falling = spawn(|| {
            block_on(async { std::panic::resume_unwind(Box::new("on purpose")) });
        });
        assert_eq!(
            *falling
                .join()
                .unwrap_err()
                .into_panic()
                .downcast::<&str>()
                .unwrap(),
            "on purpose"
        );
    });
}

#[test]
fn a_coroutine_can_be_awaited_by_another_executor() {
    let runtime = maniple::Runtime::builder().workers(2).build().unwrap();
    for _ in 0..100 {
        let quick = runtime.spawn(|| 1);
        let slow = runtime.spawn(|| {
            yield_now();
            2
        });
        assert_eq!(
            execute(async { quick.await.unwrap() + slow.await.unwrap() }),
            3
        );
    }
    let falling = runtime.spawn(|| std::panic::resume_unwind(Box::new("on purpose")));
    assert!(execute(falling).is_err_and(|error: JoinError| error.is_panic()));
    let parked = runtime.spawn(maniple::park).into_future();
    parked.cancel();
    assert!(execute(parked).unwrap_err().is_cancelled());
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn the_waker_of_the_last_poll_is_woken_once_and_the_others_are_let_go() {
    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    on(1, || {
        let counts = [0; 2].map(|_| Arc::new(Count(AtomicUsize::new(0))));
        let mut joining = spawn(|| 5).into_future();
        for count in &counts {
            let waker = Waker::from(count.clone());
            let polled = Pin::new(&mut joining).poll(&mut Context::from_waker(&waker));
            assert!(polled.is_pending());
        }
        assert_eq!(Arc::strong_count(&counts[0]), 1);
        while counts[1].0.load(SeqCst) == 0 {
            yield_now();
        }
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(5)) = Pin::new(&mut joining).poll(&mut context) else {
            panic!("complete");
        };
        let again = catch_unwind(AssertUnwindSafe(|| {
            Pin::new(&mut joining).poll(&mut context)
        }));
        assert!(again.is_err());
        assert_eq!(counts.each_ref().map(|count| count.0.load(SeqCst)), [0, 1]);
    });
}

#[test]
fn a_dropped_future_detaches_its_coroutine_and_lets_the_waker_go() {
    on(1, || {
        struct Idle;
        impl Wake for Idle {
            fn wake(self: Arc<Self>) {}
        }
        let (idle, ended) = (Arc::new(Idle), Arc::new(AtomicBool::new(false)));
        let theirs = ended.clone();
        let mut joining = spawn(move || {
            yield_now();
            Flag(theirs)
        })
        .into_future();
        let waker = Waker::from(idle.clone());
        assert!(
            Pin::new(&mut joining)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        drop((joining, waker));
        assert_eq!(Arc::strong_count(&idle), 1);
        while !ended.load(SeqCst) {
            yield_now();
        }
    });
}

#[test]
fn a_waker_that_panics_ends_no_worker() {
    struct Falls;
    impl Wake for Falls {
        fn wake(self: Arc<Self>) {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }
    on(1, || {
        let mut joining = spawn(|| 5).into_future();
        let waker = Waker::from(Arc::new(Falls));
        assert!(
            Pin::new(&mut joining)
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(block_on(joining).unwrap(), 5);
        assert_eq!(spawn(|| 6).join().unwrap(), 6);
    });
}

/// Polls its future wherever it is woken: here, on the stack of the coroutine that ends.
struct AtOnce(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl AtOnce {
    fn poll(self: &Arc<Self>) {
        let waker = Waker::from(self.clone());
        let Some(mut future) = self.0.lock().unwrap().take() else {
            return;
        };
        let polled = future.as_mut().poll(&mut Context::from_waker(&waker));
        if polled.is_pending() {
            *self.0.lock().unwrap() = Some(future);
        }
    }
}

impl Wake for AtOnce {
    fn wake(self: Arc<Self>) {
        self.poll();
    }
}

#[test]
fn an_executor_that_polls_in_its_waker_gets_the_result_there() {
    on(1, || {
        let (give, given) = maniple::sync::channel::bounded(0);
        let ending = spawn(move || given.recv().unwrap());
        let (tell, told) = maniple::sync::channel::unbounded();
        let awaiting = ending.into_future();
        let polled = Arc::new(AtOnce(Mutex::new(Some(Box::pin(async move {
            tell.send(awaiting.await.unwrap()).unwrap();
        })))));
        polled.poll();
        give.send(7).unwrap();
        assert_eq!(told.recv_timeout(LONG), Ok(7));
    });
}

#[test]
fn a_poller_hears_wakers_and_sockets() {
    on(2, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        let poller = Poller::new();
        for round in 0..100 {
            let mut buffer = [0; 8];
            let wait = |letter: &mut Letter<i32>, buffer: &mut [u8]| {
                poller.wait_beside(
                    None,
                    || Some(ours.interest(true, false)),
                    |context| {
                        if let Poll::Ready(value) = Pin::new(&mut *letter).poll(context) {
                            return Poll::Ready(Ok(value));
                        }
                        match ours.try_read(buffer) {
                            Ok(count) => Poll::Ready(Err(count)),
                            Err(_) => Poll::Pending,
                        }
                    },
                )
            };
            let (send, mut letter) = Letter::new();
            let sending = spawn(move || send(round));
            assert_eq!(wait(&mut letter, &mut buffer).unwrap(), Ok(round));
            sending.join().unwrap();
            let (_send, mut letter) = Letter::<i32>::new();
            let written = spawn(move || {
                std::io::Write::write_all(&mut theirs, b"bytes").unwrap();
                theirs
            });
            assert_eq!(wait(&mut letter, &mut buffer).unwrap(), Err(5));
            theirs = written.join().unwrap();
        }
    });
}

#[test]
fn a_poller_that_is_cut_says_so_and_can_go_on() {
    on(1, || {
        let poller = Poller::new();
        let (send, mut letter) = Letter::new();
        let mut poll = |context: &mut Context<'_>| Pin::new(&mut letter).poll(context);
        let token = CancelToken::new();
        let cancelling = token.clone();
        let cancelled = spawn(move || cancelling.cancel());
        let cut = token.run(|| poller.wait(None, &mut poll).unwrap_err());
        assert!(is_cancelled_error(&cut.unwrap()));
        cancelled.join().unwrap();
        let soon = std::time::Instant::now() + SHORT;
        let late = poller.wait(Some(soon), &mut poll).unwrap_err();
        assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
        let passed = timeout(SHORT, || poller.wait(None, &mut poll).unwrap_err());
        assert_eq!(passed.unwrap().kind(), std::io::ErrorKind::TimedOut);
        send(7);
        assert_eq!(poller.wait(None, &mut poll).unwrap(), 7);
    });
}

#[test]
fn a_poller_on_a_plain_thread_sees_sockets_too() {
    let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let writing = runtime.spawn(move || std::io::Write::write_all(&mut theirs, b"bytes"));
    let mut buffer = [0; 8];
    let read = Poller::new().wait_beside(
        None,
        || Some(ours.interest(true, false)),
        |_| match ours.try_read(&mut buffer) {
            Ok(count) => Poll::Ready(count),
            Err(_) => Poll::Pending,
        },
    );
    assert_eq!(read.unwrap(), 5);
    writing.join().unwrap().unwrap();
}
