//! What a simulated world promises, and what it holds the runtime to: one file for each subject.

mod faults;
mod groups;
mod limits;
mod meeting;
mod network;
mod world;
