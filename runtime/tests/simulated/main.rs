//! What a simulated world promises, and what it holds the runtime to: one file for each subject.

mod claims;
mod cuts;
mod datagrams;
mod every_order;
mod failing;
mod faults;
mod files;
mod groups;
mod limits;
mod local;
mod meeting;
mod network;
mod orders;
mod packets;
mod parts;
mod policies;
mod shortage;
mod ties;
mod world;
