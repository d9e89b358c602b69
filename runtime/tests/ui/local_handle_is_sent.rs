//! What a local coroutine returns need not be `Send`, so its handle stays with its worker.

fn main() {
    let handle = maniple::spawn_local(|| std::rc::Rc::new(1));
    std::thread::spawn(move || handle.join());
}
