//! The macro `select!`, and what it is made of.

use std::time::Duration;

use super::{
    RecvError, SendError,
    choice::{Operations, try_all, wait_for_one},
    operation::Operation,
    queue::Aim,
};
pub use super::{
    choice::Order,
    operation::{Deliver, Receive},
};
use crate::{
    error::Interrupt,
    scheduler::now,
    wait::{self, Reason},
};

/// Waits until one of several channel operations can be done, does it, and runs that case's body.
///
/// The cases, in any number and order:
///
/// - `recv(receiver) -> message => body`: `message` is what [`Receiver::recv`] would have returned.
/// - `send(sender, value) -> result => body`: `result` is what [`Sender::send`] would have returned. The
///   value is made on entry, as in Go, and dropped if another case is selected.
/// - `send(sender, ref mut option) -> result => body`: takes the value out of an `Option`, but only if this
///   case is selected; takes no part if there is none.
/// - `default => body`: if no other case can be done at once.
/// - `default(timeout) => body`: if no other case can be done in time.
///
/// One of several that can be done is selected at random. One on a disconnected channel can be done: it
/// fails. Receivers and senders are evaluated once, on entry; [`never`] stands for a channel that is not
/// there. A body that is not a block ends with a comma. The macro's value is that of the body.
///
/// # Cancellation
/// Without a plain `default` it is a cancellation point: in a cancelled scope, or once its deadline passes,
/// it unwinds to the scope's edge, as [`sleep`](crate::sleep) does; nothing has been sent or received then.
/// Use [`Select`] for an error instead. Called while unwinding already, where it may not unwind, it selects
/// `default(timeout)`, or fails the first case with `Cancelled` or `Elapsed`.
///
/// [`never`]: crate::sync::channel::never
/// [`Receiver::recv`]: crate::sync::channel::Receiver::recv
/// [`Select`]: crate::sync::channel::Select
/// [`Sender::send`]: crate::sync::channel::Sender::send
///
/// # Examples
/// ```
/// use maniple::{select, sync::channel::{bounded, tick}};
/// use std::time::Duration;
/// let (send, numbers) = bounded(0);
/// let (stop, stopped) = bounded::<()>(0);
/// let (_, sum) = maniple::join!(
///     {
///         (1..=3).for_each(|n| send.send(n).unwrap());
///         drop(stop);
///     },
///     {
///         let (mut sum, ticks) = (0, tick(Duration::from_secs(1)));
///         loop {
///             select! {
///                 recv(numbers) -> number => sum += number.unwrap_or(0),
///                 recv(ticks) -> _ => println!("{sum} so far"),
///                 recv(stopped) -> _ => break sum,
///             }
///         }
///     }
/// );
/// assert_eq!(sum, 6);
/// ```
#[macro_export]
macro_rules! select {
    () => {
        loop {
            $crate::sync::channel::cases::run(
                (),
                $crate::sync::channel::cases::Limit::None,
                $crate::sync::channel::cases::Order::Random,
            )
        }
    };
    ($($cases:tt)+) => {
        $crate::__select!(@head Random () () $($cases)+)
    };
}

/// Selects like [`select!`](crate::select!), but of several cases that can be done the first in the list.
///
/// For a case that goes before others, such as a signal to stop. What comes late in the list may wait for ever if
/// something before it can always be done.
///
/// # Examples
/// ```
/// use maniple::{select_biased, sync::channel::unbounded};
/// let (stop, work) = (unbounded::<()>(), unbounded::<u32>());
/// work.0.send(1).unwrap();
/// stop.0.send(()).unwrap();
/// let stopped = select_biased! {
///     recv(stop.1) -> _ => true,
///     recv(work.1) -> _ => false,
/// };
/// assert!(stopped);
/// ```
#[macro_export]
macro_rules! select_biased {
    () => {
        $crate::select!()
    };
    ($($cases:tt)+) => {
        $crate::__select!(@head Listed () () $($cases)+)
    };
}

/// Reads case by case (`@head`, `@body`, `@put`), then makes the operations (`@cases`) and the bodies
/// (`@arms`).
#[doc(hidden)]
#[macro_export]
macro_rules! __select {
    (@head $order:ident $cases:tt ()) => {
        $crate::__select!(@run $order (None) $cases ())
    };
    (@head $order:ident $cases:tt (($($limit:tt)*) $body:tt)) => {
        $crate::__select!(@run $order ($($limit)*) $cases ($body))
    };
    (@head $order:ident $cases:tt $default:tt recv($receiver:expr $(,)?) -> $result:pat => $($rest:tt)+) => {
        $crate::__select!(@body $order $cases $default (recv ($receiver) ($result)) $($rest)+)
    };
    (@head $order:ident $cases:tt $default:tt
        send($sender:expr, ref mut $lender:expr $(,)?) -> $result:pat => $($rest:tt)+) => {
        $crate::__select!(@body $order $cases $default (lent ($sender, $lender) ($result)) $($rest)+)
    };
    (@head $order:ident $cases:tt $default:tt
        send($sender:expr, $message:expr $(,)?) -> $result:pat => $($rest:tt)+) => {
        $crate::__select!(@body $order $cases $default (send ($sender, $message) ($result)) $($rest)+)
    };
    (@head $order:ident $cases:tt $default:tt default $(())? => $($rest:tt)+) => {
        $crate::__select!(@body $order $cases $default (default (Now)) $($rest)+)
    };
    (@head $order:ident $cases:tt $default:tt default($timeout:expr $(,)?) => $($rest:tt)+) => {
        $crate::__select!(@body $order $cases $default (default (Within($timeout))) $($rest)+)
    };
    (@head $order:ident $cases:tt $default:tt $($rest:tt)+) => {
        ::core::compile_error!(::core::concat!(
            "expected `recv(receiver) -> message => body`, `send(sender, value) -> result => body`, ",
            "`default => body` or `default(timeout) => body`, found `",
            ::core::stringify!($($rest)+),
            "`",
        ))
    };

    (@body $order:ident $cases:tt $default:tt $head:tt $body:expr, $($rest:tt)*) => {
        $crate::__select!(@put $order $cases $default $head ($body) $($rest)*)
    };
    (@body $order:ident $cases:tt $default:tt $head:tt $body:expr) => {
        $crate::__select!(@put $order $cases $default $head ($body))
    };
    (@body $order:ident $cases:tt $default:tt $head:tt $body:block $($rest:tt)+) => {
        $crate::__select!(@put $order $cases $default $head ($body) $($rest)+)
    };
    (@body $order:ident $cases:tt $default:tt $head:tt $($rest:tt)+) => {
        ::core::compile_error!("a body that is not a block ends with a comma")
    };

    (@put $order:ident $cases:tt () (default $limit:tt) $body:tt $($rest:tt)*) => {
        $crate::__select!(@head $order $cases ($limit $body) $($rest)*)
    };
    (@put $order:ident $cases:tt $default:tt (default $limit:tt) $($rest:tt)*) => {
        ::core::compile_error!("there is more than one default")
    };
    (@put $order:ident ($($cases:tt)*) $default:tt ($($head:tt)+) $body:tt $($rest:tt)*) => {
        $crate::__select!(@head $order ($($cases)* ($($head)+ $body)) $default $($rest)*)
    };

    (@run $order:ident ($($limit:tt)*) ($($cases:tt)*) $default:tt) => {{
        // A statement of its own, so that temporaries in the cases are gone before a body runs.
        let won = $crate::sync::channel::cases::run(
            $crate::__select!(@cases $($cases)*),
            $crate::sync::channel::cases::Limit::$($limit)*,
            $crate::sync::channel::cases::Order::$order,
        );
        $crate::__select!(@arms won $default $($cases)*)
    }};

    // Matched rather than passed, so that a half may be an expression of any type that borrows as one.
    (@cases) => { () };
    (@cases (recv ($receiver:expr) $result:tt $body:tt) $($rest:tt)*) => {
        (
            match &$receiver {
                receiver => $crate::sync::channel::cases::Receive::new(receiver),
            },
            $crate::__select!(@cases $($rest)*),
        )
    };
    (@cases (send ($sender:expr, $message:expr) $result:tt $body:tt) $($rest:tt)*) => {
        (
            match &$sender {
                sender => $crate::sync::channel::cases::Deliver::new(sender, $message),
            },
            $crate::__select!(@cases $($rest)*),
        )
    };
    (@cases (lent ($sender:expr, $lender:expr) $result:tt $body:tt) $($rest:tt)*) => {
        (
            match &$sender {
                sender => $crate::sync::channel::cases::Deliver::lent(sender, &mut $lender),
            },
            $crate::__select!(@cases $($rest)*),
        )
    };

    (@arms $won:ident ()) => {{
        let () = $won;
        ::core::unreachable!("a select without a default ends with one of its cases")
    }};
    (@arms $won:ident (($body:expr))) => {{
        let () = $won;
        $body
    }};
    (@arms $won:ident $default:tt ($kind:ident $arguments:tt ($result:pat) ($body:expr)) $($rest:tt)*) => {
        match $won {
            $crate::sync::channel::cases::Won::This(result) => {
                let $result = result;
                $body
            }
            $crate::sync::channel::cases::Won::Later(rest) => {
                $crate::__select!(@arms rest $default $($rest)*)
            }
        }
    };
}

/// How long a select waits.
#[derive(Clone, Copy, Debug)]
#[doc(hidden)]
pub enum Limit {
    /// Until there is an operation.
    None,
    /// Not at all.
    Now,
    /// For so long at most.
    Within(Duration),
}

/// The result of the operation that was done: of this one, or of one later in the list.
#[derive(Debug)]
#[doc(hidden)]
pub enum Won<T, Rest> {
    /// Of the first of the list.
    This(T),
    /// Of one of the others; the end of the list is the default.
    Later(Rest),
}

/// Does one of the cases and tells which, with its result; the end of the list is the default.
pub fn run<C: Cases>(cases: C, limit: Limit, order: Order) -> C::Won {
    let deadline = match limit {
        Limit::None => None,
        Limit::Now => {
            let tried = try_all(&List(&cases), Aim::Exchange, order);
            wait::spend();
            return cases.won(tried.unwrap_or(C::COUNT));
        }
        Limit::Within(timeout) => now().checked_add(timeout),
    };
    match wait_for_one(&List(&cases), Aim::Exchange, order, deadline) {
        Ok(decided) => cases.won(decided.unwrap_or(C::COUNT)),
        Err(interrupt) => cut(cases, matches!(limit, Limit::None), interrupt),
    }
}

#[cold]
fn cut<C: Cases>(cases: C, has_no_default: bool, interrupt: Interrupt) -> C::Won {
    wait::unwind(Reason::Select, interrupt);
    // Unwinding already: something has to be selected.
    match cases.at(0) {
        Some(first) if has_no_default => {
            first.cut(interrupt);
            cases.won(0)
        }
        _ => cases.won(C::COUNT),
    }
}

struct List<'c, C>(&'c C);

impl<C: Cases> Operations for List<'_, C> {
    fn count(&self) -> usize {
        C::COUNT
    }

    fn at(&self, index: usize) -> Option<&dyn Operation> {
        self.0.at(index)
    }
}

/// A list of operations, as nested pairs: `(first, (second, ()))`.
#[allow(private_interfaces, reason = "sealed: only the macro makes such lists")]
pub trait Cases {
    /// What [`run`] tells.
    type Won;
    #[doc(hidden)]
    const COUNT: usize;
    #[doc(hidden)]
    fn at(&self, index: usize) -> Option<&dyn Operation>;
    #[doc(hidden)]
    fn won(self, index: usize) -> Self::Won;
}

impl Cases for () {
    type Won = ();
    const COUNT: usize = 0;

    #[allow(private_interfaces, reason = "as in the trait")]
    fn at(&self, _: usize) -> Option<&dyn Operation> {
        None
    }

    fn won(self, _: usize) -> Self::Won {}
}

macro_rules! cases {
    ($case:ident, $result:ty) => {
        impl<T, Rest: Cases> Cases for ($case<'_, T>, Rest) {
            type Won = Won<$result, Rest::Won>;
            const COUNT: usize = 1 + Rest::COUNT;

            #[allow(private_interfaces, reason = "as in the trait")]
            fn at(&self, index: usize) -> Option<&dyn Operation> {
                match index {
                    0 => Some(&self.0),
                    _ => self.1.at(index - 1),
                }
            }

            fn won(self, index: usize) -> Self::Won {
                match index {
                    0 => Won::This(self.0.take()),
                    _ => Won::Later(self.1.won(index - 1)),
                }
            }
        }
    };
}

cases!(Receive, Result<T, RecvError>);
cases!(Deliver, Result<(), SendError<T>>);
