//! What answers a request: functions, of the request or of what is had from it.

use std::{fmt, marker::PhantomData};

use crate::{
    extract::{FromHead, FromRequest},
    request::Request,
    response::{IntoResponse, Response},
    router::states::Needs,
};

/// Answers requests: any `Fn(&mut Request) -> impl IntoResponse` that threads can share.
///
/// It runs on the connection's coroutine, as plain blocking code. A panic is answered with 500 and ends
/// the connection, not the server. Functions of arguments that are [had from the request](crate::extract) are
/// [made](IntoHandler) into handlers.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: &mut Request) -> Response;

    /// Says which states it needs; a server does not start without them.
    fn needs(&self, needs: &mut Needs<'_>) {
        let _ = needs;
    }
}

impl<F, R> Handler for F
where
    F: Fn(&mut Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    #[inline]
    fn call(&self, request: &mut Request) -> Response {
        self(request).into_response()
    }
}

/// What a router takes for a [`Handler`]: one, or a function of up to eight arguments that are
/// [had from the request](crate::extract). `Kind` tells them apart, and is never named.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not answer requests",
    label = "not a handler",
    note = "a handler is a function of `&mut Request`, or of up to 8 arguments that are had from the request \
            (`maniple_server::extract`), and returns what implements `IntoResponse`",
    note = "only its last argument may take the body (`Json`, `Form`, `Bytes`, `String`) or be `&mut Request`",
    note = "in a closure write the types of the arguments; what it captures must be `Send`, `Sync` and `'static`"
)]
pub trait IntoHandler<Kind> {
    /// The handler.
    type Handler: Handler;

    /// The handler.
    fn into_handler(self) -> Self::Handler;
}

/// A [`Handler`] as it is.
#[derive(Debug)]
pub struct AsItIs(());

impl<H: Handler> IntoHandler<AsItIs> for H {
    type Handler = H;

    fn into_handler(self) -> H {
        self
    }
}

/// A function whose arguments are had from the request.
pub struct Extracting<F, Kind> {
    function: F,
    kind: PhantomData<fn(Kind)>,
}

impl<F, Kind> fmt::Debug for Extracting<F, Kind> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Extracting").finish_non_exhaustive()
    }
}

/// Behind those of `T` comes the request itself.
#[derive(Debug)]
pub struct AndRequest<T>(PhantomData<T>);

macro_rules! functions {
    ($($head:ident)* ; $last:ident) => {
        impl<F, R, By, $($head,)* $last> IntoHandler<(By, $($head,)* $last)> for F
        where
            F: Fn($($head,)* $last) -> R + Send + Sync + 'static,
            R: IntoResponse,
            By: 'static,
            $($head: FromHead + 'static,)*
            $last: FromRequest<By> + 'static,
        {
            type Handler = Extracting<F, (By, $($head,)* $last)>;

            fn into_handler(self) -> Self::Handler {
                Extracting { function: self, kind: PhantomData }
            }
        }

        impl<F, R, By, $($head,)* $last> Handler for Extracting<F, (By, $($head,)* $last)>
        where
            F: Fn($($head,)* $last) -> R + Send + Sync + 'static,
            R: IntoResponse,
            By: 'static,
            $($head: FromHead + 'static,)*
            $last: FromRequest<By> + 'static,
        {
            #[allow(non_snake_case)]
            fn call(&self, request: &mut Request) -> Response {
                $(let $head = match $head::from_head(request) {
                    Ok(value) => value,
                    Err(rejection) => return rejection.into_response(),
                };)*
                match $last::from_request(request) {
                    Ok($last) => (self.function)($($head,)* $last).into_response(),
                    Err(rejection) => rejection.into_response(),
                }
            }

            fn needs(&self, needs: &mut Needs<'_>) {
                $($head::needs(needs);)*
                $last::needs(needs);
            }
        }

        impl<F, R, $($head,)* $last> IntoHandler<AndRequest<($($head,)* $last,)>> for F
        where
            F: Fn($($head,)* $last, &mut Request) -> R + Send + Sync + 'static,
            R: IntoResponse,
            $($head: FromHead + 'static,)*
            $last: FromHead + 'static,
        {
            type Handler = Extracting<F, AndRequest<($($head,)* $last,)>>;

            fn into_handler(self) -> Self::Handler {
                Extracting { function: self, kind: PhantomData }
            }
        }

        impl<F, R, $($head,)* $last> Handler for Extracting<F, AndRequest<($($head,)* $last,)>>
        where
            F: Fn($($head,)* $last, &mut Request) -> R + Send + Sync + 'static,
            R: IntoResponse,
            $($head: FromHead + 'static,)*
            $last: FromHead + 'static,
        {
            #[allow(non_snake_case)]
            fn call(&self, request: &mut Request) -> Response {
                $(let $head = match $head::from_head(request) {
                    Ok(value) => value,
                    Err(rejection) => return rejection.into_response(),
                };)*
                match $last::from_head(request) {
                    Ok($last) => (self.function)($($head,)* $last, request).into_response(),
                    Err(rejection) => rejection.into_response(),
                }
            }

            fn needs(&self, needs: &mut Needs<'_>) {
                $($head::needs(needs);)*
                $last::needs(needs);
            }
        }
    };
}

functions!(; T1);
functions!(T1; T2);
functions!(T1 T2; T3);
functions!(T1 T2 T3; T4);
functions!(T1 T2 T3 T4; T5);
functions!(T1 T2 T3 T4 T5; T6);
functions!(T1 T2 T3 T4 T5 T6; T7);
functions!(T1 T2 T3 T4 T5 T6 T7; T8);

impl<F, R> IntoHandler<()> for F
where
    F: Fn() -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    type Handler = Extracting<F, ()>;

    fn into_handler(self) -> Self::Handler {
        Extracting {
            function: self,
            kind: PhantomData,
        }
    }
}

impl<F, R> Handler for Extracting<F, ()>
where
    F: Fn() -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn call(&self, _: &mut Request) -> Response {
        (self.function)().into_response()
    }
}
