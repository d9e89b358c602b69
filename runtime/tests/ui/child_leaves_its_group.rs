//! A child's handle does not outlive its group.

fn main() {
    let child: Result<maniple::group::Child<'_, i32>, maniple::JoinError> =
        maniple::group(|g| Ok(g.spawn(|| 1)));
    drop(child);
}
