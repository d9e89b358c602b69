//! All of them: `join!` for values, `try_join!` and [`try_join`] for results.

use std::fmt;

use crate::{
    cancel,
    error::{Interrupt, Unwind},
    group::{Group, decided},
    scheduler::on_waiter,
    sys::{fenced, spin::SpinLock},
    task::{self, JoinError},
    wait::{self, Reason},
    waiter::Waiter,
};

/// Runs the calls concurrently and returns all their values in order, or the first error.
///
/// Each runs in a child of a group, so it may borrow. The first error cancels the other calls, and is
/// returned once they have ended. For calls of different types see [`try_join!`](crate::try_join!);
/// for a bound on how many run at once, [`try_map`](crate::group::try_map).
///
/// Elsewhere: Go's `errgroup.Group` with a context, Java's `StructuredTaskScope` with
/// `allSuccessfulOrThrow`, Kotlin's `coroutineScope` with `awaitAll`, Eio's `Fiber.all`, Trio's nursery.
///
/// # Errors
/// The error of the call that failed first.
///
/// # Panics
/// With a call's panic; the others are cancelled. Cancellation and deadlines reach the calls; where
/// that keeps one from returning anything, this unwinds to the scope's edge.
///
/// # Examples
/// ```
/// let texts = ["1", "2", "three"];
/// let numbers = maniple::group::try_join(texts[..2].iter().map(|text| || text.parse::<i32>()));
/// assert_eq!(numbers, Ok(vec![1, 2]));
/// let numbers = maniple::group::try_join(texts.map(|text| move || text.parse::<i32>()));
/// assert!(numbers.is_err());
/// ```
pub fn try_join<I, F, T, E>(calls: I) -> Result<Vec<T>, E>
where
    I: IntoIterator<Item = F>,
    F: FnOnce() -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    let calls: Vec<F> = calls.into_iter().collect();
    let mut values: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    decided(|g| {
        for (call, value) in calls.into_iter().zip(&mut values) {
            drop(g.try_spawn(move || call().map(|done| *value = Some(done))));
        }
        Ok(())
    })?;
    let all: Option<Vec<T>> = values.into_iter().collect();
    Ok(all.unwrap_or_else(|| cut_short()))
}

/// What cuts the caller's children, for those that ended without a word.
pub(super) fn cause() -> Interrupt {
    // If neither, it was the end of their runtime.
    cancel::check().err().unwrap_or(Interrupt::Cancelled)
}

/// Leaves a policy whose children were cut before it could decide: unwinds to the edge of the scope.
#[cold]
pub(super) fn cut_short() -> ! {
    unwind(cause() == Interrupt::Elapsed)
}

/// Evaluates expressions concurrently and returns the tuple of their values.
///
/// The first runs in the caller, the others in children of a group, so they may borrow. A panic in one
/// cancels the others and is resumed here; cancellation and deadlines reach all of them.
///
/// # Examples
/// ```
/// let name = String::from("maniple");
/// let (length, upper, first) = maniple::join!(name.len(), name.to_uppercase(), name.chars().next());
/// assert_eq!((length, upper.as_str(), first), (7, "MANIPLE", Some('m')));
/// ```
#[macro_export]
macro_rules! join {
    ($first:expr $(, $rest:expr)* $(,)?) => {
        $crate::__join!(@name [joined $first] [] $($rest,)*)
    };
}

/// Evaluates expressions of type `Result` concurrently: `Ok` of the tuple of their values, or the first
/// error.
///
/// They have one error type and may have different values. As with [`join!`](crate::join!) the first runs
/// in the caller and the others in children that may borrow. The first error cancels the others, also
/// waits of the caller in the first expression, and is the value of the macro once all have ended.
///
/// # Examples
/// ```
/// let text = String::from("7 seven");
/// let mut words = text.split(' ');
/// let (number, word) = (words.next().unwrap(), words.next());
/// let both = maniple::try_join!(number.parse::<u32>().map_err(|_| "no number"), word.ok_or("no word"));
/// assert_eq!(both, Ok((7, "seven")));
/// let both = maniple::try_join!(Ok::<_, &str>(maniple::sleep(std::time::Duration::MAX)), Err::<(), _>("bad"));
/// assert_eq!(both, Err("bad"));
/// ```
#[macro_export]
macro_rules! try_join {
    ($first:expr $(, $rest:expr)* $(,)?) => {
        $crate::__join!(@name [try_joined $first] [] $($rest,)*)
    };
}

/// Gives each expression after the first a child of its own name.
#[doc(hidden)]
#[macro_export]
macro_rules! __join {
    (@name $first:tt [$($done:tt)*]) => {
        $crate::__join!(@emit $first $($done)*)
    };
    (@name $first:tt [] $a:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [(a $a)] $($rest,)*)
    };
    (@name $first:tt [(a $($x:tt)*)] $b:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [(a $($x)*) (b $b)] $($rest,)*)
    };
    (@name $first:tt [$x:tt (b $($y:tt)*)] $c:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [$x (b $($y)*) (c $c)] $($rest,)*)
    };
    (@name $first:tt [$x:tt $y:tt (c $($z:tt)*)] $d:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [$x $y (c $($z)*) (d $d)] $($rest,)*)
    };
    (@name $first:tt [$x:tt $y:tt $z:tt (d $($w:tt)*)] $e:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [$x $y $z (d $($w)*) (e $e)] $($rest,)*)
    };
    (@name $first:tt [$x:tt $y:tt $z:tt $w:tt (e $($v:tt)*)] $f:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [$x $y $z $w (e $($v)*) (f $f)] $($rest,)*)
    };
    (@name $first:tt [$x:tt $y:tt $z:tt $w:tt $v:tt (f $($u:tt)*)] $g:expr, $($rest:expr,)*) => {
        $crate::__join!(@name $first [$x $y $z $w $v (f $($u)*) (g $g)] $($rest,)*)
    };
    (@emit [joined $first:expr] $(($name:ident $rest:expr))*) => {
        $crate::group::joined(|group| {
            $(let $name = group.spawn(|| $rest);)*
            ::core::result::Result::Ok(($crate::group::call(|| $first), $($name.join()?,)*))
        })
    };
    (@emit [try_joined $first:expr] $(($name:ident $rest:expr))*) => {
        match $crate::group::FirstError::none() {
            error => $crate::group::try_joined(&error, |group| {
                $(let $name = group.try_spawn(|| error.keep($crate::group::call(|| $rest)));)*
                match error.keep($crate::group::call(|| $first)) {
                    ::core::result::Result::Ok(first) => ::core::result::Result::Ok(
                        (|| ::core::option::Option::Some((first, $($name.join().ok()?,)*)))()
                    ),
                    ::core::result::Result::Err(failed) => ::core::result::Result::Err(failed),
                }
            }),
        }
    };
}

/// Keeps a `return` or `?` in an expression of the macros inside it.
#[doc(hidden)]
#[inline]
pub fn call<T>(expression: impl FnOnce() -> T) -> T {
    expression()
}

/// What [`join!`](crate::join!) expands to: a group whose leader cannot return an error.
#[doc(hidden)]
pub fn joined<'env, T>(
    body: impl for<'scope> FnOnce(&'scope Group<'scope, 'env, JoinError>) -> Result<T, JoinError>,
) -> T {
    // A child's panic has been resumed by the group, so this is a cancellation or a deadline.
    decided(body).unwrap_or_else(|error| unwind(error.is_elapsed()))
}

/// What [`try_join!`](crate::try_join!) expands to: without a value there is an error, or both were cut.
///
/// The error is beside the group and not in its type: whatever outlives `'scope` by that type, as a lifetime within an
/// error does, is to the compiler what the calls borrow for, and so they could borrow nothing where it is `'static`, as
/// in `Box<dyn Error>`.
#[doc(hidden)]
pub fn try_joined<'env, T, E>(
    error: &FirstError<E>,
    body: impl for<'scope> FnOnce(&'scope Group<'scope, 'env, Failed>) -> Result<Option<T>, Failed>,
) -> Result<T, E> {
    match decided(body) {
        Ok(values) => Ok(values.unwrap_or_else(|| cut_short())),
        Err(Failed(())) => Err(error.take().expect("a call that failed has kept its error")),
    }
}

/// The first error of the calls of a [`try_join!`](crate::try_join!).
#[doc(hidden)]
pub struct FirstError<E>(SpinLock<Option<E>>);

/// A call's error is kept elsewhere.
#[doc(hidden)]
#[derive(Debug)]
pub struct Failed(());

impl<E> FirstError<E> {
    #[inline]
    pub fn none() -> Self {
        Self(SpinLock::new(None))
    }

    /// Keeps the error of a call, if it is the first.
    #[inline]
    pub fn keep<T>(&self, returned: Result<T, E>) -> Result<T, Failed> {
        returned.map_err(|error| self.keep_error(error))
    }

    #[cold]
    fn keep_error(&self, error: E) -> Failed {
        let mut first = self.0.lock();
        let later = match *first {
            None => {
                *first = Some(error);
                None
            }
            Some(_) => Some(error),
        };
        drop(first);
        drop(later);
        Failed(())
    }

    fn take(&self) -> Option<E> {
        self.0.lock().take()
    }
}

impl<E> fmt::Debug for FirstError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstError").finish_non_exhaustive()
    }
}

impl<E> Drop for FirstError<E> {
    /// There is one still where a call panicked, which goes on.
    fn drop(&mut self) {
        if let Some(error) = self.take() {
            fenced::drop_value(error, "the error of calls of which one panicked");
        }
    }
}

fn unwind(elapsed: bool) -> ! {
    if task::panicking() {
        fenced::abort("the calls that a destructor makes while unwinding came to no end");
    }
    let unwind = match on_waiter(Waiter::deadline).filter(|_| elapsed) {
        Some(at) => Unwind::Elapsed(at),
        None => Unwind::Cancelled,
    };
    wait::throw(Reason::Group, unwind)
}
