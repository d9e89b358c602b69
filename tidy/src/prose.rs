//! Habits of sentences that a reader stumbles over, and what to write instead.

/// What is wrong with a line of a comment, and how to say it; `None` if nothing is.
pub(crate) fn fault(comment: &str) -> Option<&'static str> {
    let words = comment.split(|c: char| !c.is_alphanumeric());
    let mut words = words.map(str::to_lowercase);
    let begins = |beginning: &str| {
        comment.starts_with(beginning) || comment.contains(&format!(". {beginning}"))
    };
    let ends = |ending: &str| {
        let rest = comment
            .strip_suffix('.')
            .and_then(|rest| rest.strip_suffix(ending));
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with(' '))
    };
    if begins("As [`") {
        Some(
            "a sentence that begins with \"As [`\" has no subject: say what this does, then what it is like",
        )
    } else if ["As there", "as there"].into_iter().any(ends) {
        Some("\"As there.\" sends readers elsewhere: say it here, in one sentence")
    } else if words.any(|word| word.starts_with("whoever")) {
        Some("\"whoever\" is nobody in particular: name who it is, as the subject")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn sentences_without_a_subject_are_found() {
        for vague in [
            "As [`read`](Self::read), without waiting.",
            "Reads. As [`read`], it may wait.",
            "As there.",
            "SAFETY: as there.",
            "Whoever waits is woken.",
            "A list of sockets, whoever's they are.",
        ] {
            assert!(fault(vague).is_some(), "{vague}");
        }
        for clear in [
            "Reads like [`read`](Self::read), but does not wait.",
            "As with any lock, a panic does not poison it.",
            "Receives as many as are there.",
            "As much as there is.",
            "It is what it was there",
        ] {
            assert_eq!(fault(clear), None, "{clear}");
        }
    }
}
