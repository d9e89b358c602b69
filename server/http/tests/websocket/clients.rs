//! Clients that others have written, over TCP.
