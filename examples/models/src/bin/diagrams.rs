//! Draws the models: from `examples/models/diagrams/*.txt` to `docs/src/img/models/*.svg`.
//!
//! `cargo run -p maniple-models --bin diagrams`; a test sees to it that text and picture agree.

use std::{fs, path::Path, process::ExitCode};

use anyhow::{Context, Result};
use maniple_models::drawing::Drawing;

fn main() -> ExitCode {
    match draw_all() {
        Ok(count) => {
            println!("{count} drawings");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("diagrams: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn draw_all() -> Result<usize> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (texts, pictures) = (
        here.join("diagrams"),
        here.join("../../docs/src/img/models"),
    );
    fs::create_dir_all(&pictures).with_context(|| format!("create {}", pictures.display()))?;
    let mut count = 0;
    for entry in fs::read_dir(&texts).with_context(|| format!("read {}", texts.display()))? {
        let text = entry?.path();
        let name = text.file_stem().context("a drawing without a name")?;
        let picture = pictures.join(name).with_extension("svg");
        let drawing = fs::read_to_string(&text)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(Drawing::parse(&text)?))
            .with_context(|| text.display().to_string())?;
        fs::write(&picture, drawing.svg())
            .with_context(|| format!("write {}", picture.display()))?;
        count += 1;
    }
    Ok(count)
}
