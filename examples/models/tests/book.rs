//! The book has for each model a drawing, a chapter and a place.

use std::{fs, path::Path};

use maniple_models::{MODELS, drawing::Drawing};

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_model_has_its_drawing_and_its_chapter() {
    let book = here().join("../../docs/src");
    let summary = fs::read_to_string(book.join("SUMMARY.md")).unwrap();
    for name in MODELS.iter().map(|model| model.name) {
        let drawing = here().join("diagrams").join(name).with_extension("txt");
        assert!(drawing.exists(), "there is no {}", drawing.display());
        let place = format!("(models/{name}.md)");
        assert!(summary.contains(&place), "SUMMARY.md has no {place}");
        let chapter = fs::read_to_string(book.join("models").join(name).with_extension("md"));
        let chapter = chapter.unwrap_or_else(|error| panic!("the chapter of {name}: {error}"));
        for part in [
            &format!("](../img/models/{name}.svg)"),
            "## The code",
            "## What the texts say",
            "## Measured",
            "## Choose it when",
            &format!("-p maniple-models -- {name}"),
        ] {
            assert!(
                chapter.contains(part),
                "the chapter of {name} has no {part:?}"
            );
        }
    }
}

#[test]
fn pictures_agree_with_their_texts() {
    for entry in fs::read_dir(here().join("diagrams")).unwrap() {
        let text = entry.unwrap().path();
        let drawing = Drawing::parse(&fs::read_to_string(&text).unwrap());
        let drawing = drawing.unwrap_or_else(|wrong| panic!("{}, {wrong}", text.display()));
        let name = text.file_stem().unwrap();
        let picture = here().join("../../docs/src/img/models").join(name);
        let picture = picture.with_extension("svg");
        let drawn = fs::read_to_string(&picture).unwrap_or_default();
        assert!(
            drawn == drawing.svg(),
            "{} is not what its text says: cargo run -p maniple-models --bin diagrams",
            picture.display()
        );
    }
}
