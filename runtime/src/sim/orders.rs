//! Orders beside the drawn one: by priorities, and every order of a small program.

use std::{panic::Location, sync::Arc};

use super::{
    World,
    environment::{self, ORDER_VARIABLE, to_see_again},
    setting::Without,
    sweep::Sweep,
    trial::{Trial, simulate},
};
use crate::{
    driver::sim::{Order as Decides, Path, Queue},
    wait,
};

/// By what it is decided which of the coroutines that can run is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Each turn is drawn, as [`check`](super::check) has it.
    #[default]
    Drawn,
    /// As in service: first come, first served.
    InTurn,
    /// Each coroutine has a drawn priority, and the highest that can run does so until it waits; at so many drawn
    /// points the one that runs falls behind all others.
    ///
    /// This is PCT (Burckhardt et al., 2010). It meets what takes a few changes at the right places among many turns,
    /// as when one coroutine has to stand still for long while others go on; where each turn is drawn, that is rare.
    /// Most faults take two changes at most.
    ///
    /// Who calls [`yield_now`](crate::yield_now), or has had a thousand turns in a row, falls behind, too.
    Priorities {
        /// How many such points there are.
        changes: u32,
    },
}

impl Order {
    pub(super) fn decides(self, seed: u64) -> Decides {
        match self {
            Self::Drawn => Decides::drawn(seed),
            Self::InTurn => Decides::InTurn(Queue::default()),
            Self::Priorities { changes } => Decides::by_priorities(seed, changes),
        }
    }
}

/// Runs `scenario` once in each order in which its coroutines can take turns, and returns how many these are.
///
/// For tiny programs: the number grows with the factorial of what there is to order. A coroutine can be made to give
/// way at each operation of this crate that may wait, and at each [`point`]; what it does between two of these is one
/// step. (In builds without debug assertions a [`Mutex`](crate::sync::Mutex) or [`RwLock`](crate::sync::RwLock) that
/// is free is no such place, since to ask would cost too much there.) To have another coroutine go on while the last
/// one could is a preemption, of which there are at most so many in an order; most faults take two (Musuvathi and
/// Qadeer, 2007). Other changes are free. What the scenario [draws](World::draw) takes each of its values as well,
/// and what it has [cut short](super::cut) is so before each turn.
/// All else is as in the world of seed 0, and no time passes unless a scenario waits for it.
///
/// So what holds here holds in every order within the bound: it is not a matter of chance.
///
/// With the variable [`MANIPLE_SIM_ORDER`](ORDER_VARIABLE) set, that order alone is run.
///
/// # Panics
/// With the first order that fails, what failed, and the line that runs it again; see [`check`](super::check). If a
/// `sometimes!` held in none. If the scenario has other choices the next time, so that it does not
/// follow from the order alone. If there are more than 100,000 orders: then use seeds.
///
/// # Examples
/// ```
/// use maniple::{sim, sync::Mutex};
/// use std::sync::Arc;
///
/// let orders = sim::check_orders(2, |_| {
///     let sum = Arc::new(Mutex::new(0));
///     let both = [1, 2].map(|number| {
///         let sum = sum.clone();
///         maniple::spawn(move || *sum.lock() += number)
///     });
///     both.into_iter().for_each(|each| each.join().unwrap());
///     assert_eq!(*sum.lock(), 3);
/// });
/// assert!(orders > 2);
/// ```
#[track_caller]
pub fn check_orders(preemptions: u32, scenario: impl Fn(&World) + Send + Sync + 'static) -> u64 {
    let call = Location::caller();
    let (scenario, sweep) = (Arc::new(scenario), Arc::new(Sweep::default()));
    let one = |path: Path| {
        let trial = Trial {
            seed: 0,
            decides: Decides::Along(path),
            chances: false,
            without: Without::new(),
            records: false,
            most_turns: u64::MAX,
        };
        let theirs = scenario.clone();
        let ended = simulate(
            trial,
            Some(sweep.clone()),
            Box::new(move |world| theirs(world)),
        );
        let path = ended.path.expect("an order is handed back");
        if let Err(failure) = ended.result {
            let order = text_of(&path.choices());
            let (lasted, what) = (failure.run().lasted(), failure.what());
            let again = to_see_again(ORDER_VARIABLE, &order);
            panic!("order {order} failed at {lasted:?} of its world's time: {what}\n{again}");
        }
        assert!(
            !path.has_strayed(),
            "the scenario does not follow from the order of turns alone: on the same way it had other choices"
        );
        path
    };
    if let Some(choices) = environment::order() {
        one(Path::of(&choices, preemptions));
        return 1;
    }
    let (mut next, mut count) = (Some(Path::first(preemptions)), 0);
    while let Some(path) = next {
        count += 1;
        assert!(
            count <= MOST_ORDERS,
            "there are more than {MOST_ORDERS} orders: a scenario for all of them is smaller, or has fewer preemptions"
        );
        next = one(path).next_path();
    }
    sweep.check(call);
    count
}

const MOST_ORDERS: u64 = 100_000;

/// Another coroutine may have its turn here.
///
/// In a [simulated world](super) turns may change at operations of this crate. What is one step between
/// these is two with a point in it, as it may be two on several workers. No cancellation point, and nothing outside
/// of a simulation.
///
/// # Examples
/// ```
/// use maniple::sim;
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}};
///
/// let lost = std::panic::catch_unwind(|| {
///     sim::check_orders(1, |_| {
///         let count = Arc::new(AtomicU32::new(0));
///         let both = [(); 2].map(|()| {
///             let count = count.clone();
///             maniple::spawn(move || {
///                 let before = count.load(Relaxed);
///                 sim::point();
///                 count.store(before + 1, Relaxed);
///             })
///         });
///         both.into_iter().for_each(|each| each.join().unwrap());
///         assert_eq!(count.load(Relaxed), 2);
///     });
/// });
/// assert!(lost.is_err());
/// ```
pub fn point() {
    wait::point();
}

/// Each choice, but for the first ones at the end, which are taken anyhow.
fn text_of(choices: &[u32]) -> String {
    let end = choices.iter().rposition(|&taken| taken > 0);
    let told = &choices[..end.map_or(0, |at| at + 1)];
    match told.is_empty() {
        true => "0".to_owned(),
        false => told
            .iter()
            .map(u32::to_string)
            .collect::<Vec<_>>()
            .join("."),
    }
}
