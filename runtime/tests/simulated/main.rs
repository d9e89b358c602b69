//! What a simulated world promises, and what it holds the runtime to: one file for each subject.

mod network;
mod world;
