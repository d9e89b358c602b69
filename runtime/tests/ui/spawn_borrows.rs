//! A detached coroutine may not borrow: nobody waits for it.

fn main() {
    let local = String::from("gone");
    maniple::spawn(|| println!("{local}"));
}
