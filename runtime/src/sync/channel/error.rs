//! Why a message was not sent or received.

use std::{fmt, io};

use crate::error::{Cancelled, Interrupt};

macro_rules! error {
    ($(#[$doc:meta])* $name:ident<T> { $($(#[$case_doc:meta])* $case:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum $name<T> { $($(#[$case_doc])* $case(T),)* }

        impl<T> $name<T> {
            /// The message that was not sent.
            pub fn into_inner(self) -> T {
                match self { $($name::$case(message) => message,)* }
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$case(_) => $text,)* })
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$case(_) => concat!(stringify!($case), "(..)"),)* })
            }
        }

        impl<T> std::error::Error for $name<T> {}
    };
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident => $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$case_doc])* $case,)* }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $($name::$case => $text,)* })
            }
        }

        impl std::error::Error for $name {}
    };
}

error! {
    /// Why [`Sender::send`](super::Sender::send) gave the message back.
    SendError<T> {
        /// All receivers are gone.
        Disconnected => "sending on a channel without receivers",
        /// The scope was cancelled.
        Cancelled => "sending was cancelled",
        /// The scope's deadline passed.
        Elapsed => "sending ran into the deadline",
    }
}

error! {
    /// Why [`Sender::try_send`](super::Sender::try_send) gave the message back.
    TrySendError<T> {
        /// There is no room.
        Full => "sending on a full channel",
        /// All receivers are gone.
        Disconnected => "sending on a channel without receivers",
    }
}

error! {
    /// Why [`Sender::send_timeout`](super::Sender::send_timeout) gave the message back.
    SendTimeoutError<T> {
        /// There was no room in time.
        Timeout => "sending timed out",
        /// All receivers are gone.
        Disconnected => "sending on a channel without receivers",
        /// The scope was cancelled.
        Cancelled => "sending was cancelled",
    }
}

error! {
    /// Why [`Receiver::recv`](super::Receiver::recv) has no message.
    RecvError {
        /// The channel is empty and all senders are gone.
        Disconnected => "receiving on an empty channel without senders",
        /// The scope was cancelled.
        Cancelled => "receiving was cancelled",
        /// The scope's deadline passed.
        Elapsed => "receiving ran into the deadline",
    }
}

error! {
    /// Why [`Receiver::try_recv`](super::Receiver::try_recv) has no message.
    TryRecvError {
        /// The channel is empty.
        Empty => "receiving on an empty channel",
        /// The channel is empty and all senders are gone.
        Disconnected => "receiving on an empty channel without senders",
    }
}

error! {
    /// Why [`Receiver::recv_timeout`](super::Receiver::recv_timeout) has no message.
    RecvTimeoutError {
        /// No message came in time.
        Timeout => "receiving timed out",
        /// The channel is empty and all senders are gone.
        Disconnected => "receiving on an empty channel without senders",
        /// The scope was cancelled.
        Cancelled => "receiving was cancelled",
    }
}

error! {
    /// Why [`Select::select`](super::Select::select) has no operation.
    SelectError {
        /// The scope was cancelled.
        Cancelled => "selecting was cancelled",
        /// The scope's deadline passed.
        Elapsed => "selecting ran into the deadline",
    }
}

error! {
    /// Why [`Select::select_timeout`](super::Select::select_timeout) has no operation.
    SelectTimeoutError {
        /// None could be done in time.
        Timeout => "selecting timed out",
        /// The scope was cancelled.
        Cancelled => "selecting was cancelled",
    }
}

error! {
    /// Why [`Select::ready`](super::Select::ready) has no operation.
    ReadyError {
        /// The scope was cancelled.
        Cancelled => "waiting for readiness was cancelled",
        /// The scope's deadline passed.
        Elapsed => "waiting for readiness ran into the deadline",
    }
}

error! {
    /// Why [`Select::ready_timeout`](super::Select::ready_timeout) has no operation.
    ReadyTimeoutError {
        /// None was ready in time.
        Timeout => "waiting for readiness timed out",
        /// The scope was cancelled.
        Cancelled => "waiting for readiness was cancelled",
    }
}

macro_rules! all_would_wait {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("all operations would wait")
            }
        }

        impl std::error::Error for $name {}
    };
}

all_would_wait! {
    /// No operation of a [`Select`](super::Select) could be done at once.
    TrySelectError
}

all_would_wait! {
    /// No operation of a [`Select`](super::Select) is ready.
    TryReadyError
}

impl From<RecvError> for io::Error {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Disconnected => io::Error::new(io::ErrorKind::BrokenPipe, error),
            RecvError::Cancelled => Cancelled.into(),
            RecvError::Elapsed => Interrupt::Elapsed.into(),
        }
    }
}
