//! The book's drawings of the models are those that the texts under `diagrams` describe.

use std::{fs, path::Path};

use maniple_models::drawing::Drawing;

#[test]
fn pictures_agree_with_their_texts() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    for entry in fs::read_dir(here.join("diagrams")).unwrap() {
        let text = entry.unwrap().path();
        let drawing = Drawing::parse(&fs::read_to_string(&text).unwrap());
        let drawing = drawing.unwrap_or_else(|wrong| panic!("{}, {wrong}", text.display()));
        let picture = here
            .join("../../docs/src/img/models")
            .join(text.file_stem().unwrap())
            .with_extension("svg");
        let drawn = fs::read_to_string(&picture).unwrap_or_default();
        assert!(
            drawn == drawing.svg(),
            "{} is not what its text says: cargo run -p maniple-models --bin diagrams",
            picture.display()
        );
    }
}
