//! A child may borrow only what outlives its group.

fn main() {
    let _: Result<(), maniple::JoinError> = maniple::group(|g| {
        let local = String::from("gone before the child");
        g.spawn(|| println!("{local}"));
        Ok(())
    });
}
