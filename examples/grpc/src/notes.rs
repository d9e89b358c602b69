//! A service that is written once, and served over gRPC as well as over RPC; its program is `bin/notes_server`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use maniple_rpc::{
    Code, Status,
    either::{AnyCall, AnyMessages, AnyReplies},
};

pub use generated::{
    Kept, Note, NotesClient, NotesEither, NotesEitherClient, NotesRpcClient, Word,
};

/// The messages, the traits and the clients of `proto/notes.proto`.
pub mod generated {
    #![allow(missing_docs)]
    include!(concat!(env!("OUT_DIR"), "/notes.v1.rs"));
}

/// Notes in memory. Clones have the same.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Vec<Note>>>);

impl Notes {
    fn all(&self) -> MutexGuard<'_, Vec<Note>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept(notes: usize) -> Kept {
    Kept {
        notes: notes as u64,
    }
}

impl NotesEither for Notes {
    fn keep(&self, call: &mut dyn AnyCall, note: Note) -> Result<Kept, Status> {
        if note.text.is_empty() {
            return Err(Status::new(Code::InvalidArgument, "a note without text"));
        }
        if let Some(author) = call.field("author") {
            // It goes back with the answer.
            let _ = call.answer_field("author", &author);
        }
        let mut all = self.all();
        all.push(note);
        Ok(kept(all.len()))
    }

    fn keep_all(
        &self,
        _: &mut dyn AnyCall,
        notes: &mut AnyMessages<'_, Note>,
    ) -> Result<Kept, Status> {
        for note in notes {
            // No lock is held while it waits for the next.
            let note = note?;
            self.all().push(note);
        }
        Ok(kept(self.all().len()))
    }

    fn find(
        &self,
        _: &mut dyn AnyCall,
        word: Word,
        replies: &mut dyn AnyReplies<Note>,
    ) -> Result<(), Status> {
        let all = self.all().clone();
        let mut found = all.iter().filter(|note| note.text.contains(&word.word));
        found.try_for_each(|note| replies.send(note))
    }

    fn count(
        &self,
        _: &mut dyn AnyCall,
        words: &mut AnyMessages<'_, Word>,
        replies: &mut dyn AnyReplies<Kept>,
    ) -> Result<(), Status> {
        for word in words {
            let word = word?.word;
            let count = self
                .all()
                .iter()
                .filter(|note| note.text.contains(&word))
                .count();
            replies.send(&kept(count))?;
        }
        Ok(())
    }
}
