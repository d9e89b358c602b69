//! A closure that any worker may begin must be `Send`.

fn main() {
    let shared = std::rc::Rc::new(1);
    maniple::spawn(move || println!("{shared}"));
}
