//! The handles that a scenario has: the world, its hosts, its links and partitions.

use std::{
    fmt,
    net::IpAddr,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::sweep::Course;
use crate::{
    cancel,
    driver::sim::{self, HostId, LinkSettings},
    net::simulated,
    scheduler::{Worker, current_scheduler},
    sync::oneshot,
    task, time,
};

/// A simulated world, as its scenario sees it. Clones are of the same world.
#[derive(Clone)]
pub struct World {
    inner: Arc<sim::World>,
    course: Arc<Course>,
}

impl World {
    pub(super) fn new(inner: Arc<sim::World>, course: Arc<Course>) -> Self {
        Self { inner, course }
    }

    /// What everything in it follows from.
    pub fn seed(&self) -> u64 {
        self.inner.seed()
    }

    /// How long it has lasted, by its own clock.
    pub fn now(&self) -> Duration {
        self.inner.elapsed()
    }

    /// Lets so much time pass: sleeps, as [`sleep`](crate::sleep()) does.
    pub fn advance(&self, time: Duration) {
        time::sleep(time);
    }

    /// Waits until nothing else can run at the present time: everything waits for time, or for what comes over the
    /// network.
    ///
    /// In the manner of Go's `synctest.Wait`. No time passes meanwhile. A cancellation point, as
    /// [`sleep`](crate::sleep()) is.
    ///
    /// # Examples
    /// ```
    /// use maniple::{sim, sync::Mutex};
    /// use std::{sync::Arc, time::Duration};
    /// sim::check(0..20, |world| {
    ///     let count = Arc::new(Mutex::new(0));
    ///     for _ in 0..3 {
    ///         let count = count.clone();
    ///         maniple::spawn(move || {
    ///             *count.lock() += 1;
    ///             maniple::sleep(Duration::from_secs(1));
    ///             *count.lock() += 1;
    ///         });
    ///     }
    ///     world.settle();
    ///     assert_eq!((*count.lock(), world.now()), (3, Duration::ZERO));
    /// });
    /// ```
    pub fn settle(&self) {
        let (tell, told) = oneshot::channel();
        let settled = Box::new(move || {
            // Who waited may have been cancelled.
            _ = tell.send(());
        });
        self.inner.when_settled(settled);
        if told.recv().is_err() {
            // Cut short; so is this.
            task::yield_now();
        }
    }

    /// A number that follows from the seed, for what the scenario itself leaves to chance.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn draw(&self, range: Range<u64>) -> u64 {
        assert!(!range.is_empty(), "there is no number in {range:?}");
        range.start + self.inner.draw(range.end - range.start)
    }

    /// A host of that name, on which a coroutine runs `service`, as do those that it spawns.
    ///
    /// Its address is what its name [resolves](crate::net::ToSocketAddrs) to everywhere in the world; there it listens,
    /// and from there it connects. `localhost` is the host itself. The scenario runs on a host of its own, `scenario`.
    ///
    /// # Panics
    /// If there is a host of that name. A panic of `service` is a failure of the seed.
    pub fn host(&self, name: &str, service: impl Fn() + Send + Sync + 'static) -> Host {
        let host = Host {
            world: self.clone(),
            id: self.inner.on_network(|network, _| network.add_host(name)),
            service: Arc::new(service),
            is_up: Arc::new(AtomicBool::new(true)),
        };
        host.begin();
        host
    }

    /// The link between two hosts, to set how it behaves. A host that is named may come later.
    ///
    /// Without settings a packet takes 0.1 to 1 ms, and none is lost.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn link(&self, a: &str, b: &str) -> Link {
        Link {
            world: self.inner.clone(),
            ends: (self.id_of(a), self.id_of(b)),
        }
    }

    /// Lets nothing through between the two groups of hosts, in either direction, until the value is dropped.
    ///
    /// TCP sends again what was held up, once it can; for how long it tries is not limited here.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn partition(&self, some: &[&str], others: &[&str]) -> Partition {
        let pairs = self.pairs(some, others).into_iter();
        let both = pairs.flat_map(|(a, b)| [(a, b), (b, a)]);
        self.cut(&both.collect::<Vec<_>>())
    }

    /// Lets nothing through from these hosts to those; what those send comes through.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn partition_one_way(&self, from: &[&str], to: &[&str]) -> Partition {
        self.cut(&self.pairs(from, to))
    }

    fn cut(&self, pairs: &[(HostId, HostId)]) -> Partition {
        Partition {
            cut: self.inner.on_network(|network, _| network.cut(pairs)),
            world: self.inner.clone(),
        }
    }

    fn pairs(&self, some: &[&str], others: &[&str]) -> Vec<(HostId, HostId)> {
        let mut pairs = Vec::new();
        for a in some {
            pairs.extend(others.iter().map(|b| (self.id_of(a), self.id_of(b))));
        }
        pairs
    }

    fn id_of(&self, name: &str) -> HostId {
        let host = self.inner.on_network(|network, _| network.host_named(name));
        host.unwrap_or_else(|| panic!("the world has no host {name:?}"))
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("seed", &self.seed())
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

/// A host of a [`World`]. Dropping the handle changes nothing.
pub struct Host {
    world: World,
    id: HostId,
    service: Arc<dyn Fn() + Send + Sync>,
    is_up: Arc<AtomicBool>,
}

impl Host {
    fn begin(&self) {
        let (id, service) = (self.id, self.service.clone());
        let course = self.world.course.clone();
        let builder = task::Builder::new().name(self.name());
        let begun = builder.spawn(move || {
            simulated::move_to(id);
            course.run_host(|| service());
        });
        // Its end is the course's to tell.
        drop(begun.expect("a host begins"));
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.world
            .inner
            .on_network(|network, _| network.name_of(self.id))
    }

    /// Its address.
    pub fn address(&self) -> IpAddr {
        let name = self.name();
        let address = self
            .world
            .inner
            .on_network(|network, _| network.look_up(&name));
        address.expect("a host has an address")
    }

    /// Whether it runs: it has neither crashed, nor not been restarted since.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Stops it like a machine that loses power; returns once nothing of it is left.
    ///
    /// At once nothing comes through to it or from it, and its connections are forgotten: peers are not told. Its
    /// coroutines are cancelled, and their destructors run, as those of a real crash do not; what they send reaches
    /// nobody.
    ///
    /// # Panics
    /// If it is down, if the caller runs on it, or if something of it does not end within ten seconds of the world's
    /// time.
    pub fn crash(&self) {
        assert!(
            self.is_up.swap(false, Ordering::Relaxed),
            "{self:?} is down"
        );
        assert!(simulated::host() != self.id, "a host cannot crash itself");
        self.world
            .inner
            .on_network(|network, _| network.power_off(self.id));
        cancel::shield(|| {
            let over = self.world.now() + LONGEST_CRASH;
            while self.cancel_all() > 0 {
                assert!(
                    self.world.now() < over,
                    "{self:?} crashed, and does not end"
                );
                self.world.settle();
                if self.cancel_all() > 0 {
                    time::sleep(CRASH_STEP);
                }
            }
        });
    }

    /// Starts its service once more. Peers that send on connections from before are told that these are no more.
    ///
    /// # Panics
    /// If it is up.
    pub fn restart(&self) {
        assert!(!self.is_up.swap(true, Ordering::Relaxed), "{self:?} is up");
        self.world
            .inner
            .on_network(|network, plan| network.power_on(plan, self.id));
        self.begin();
    }

    /// Cancels what runs on it; how many coroutines there are.
    fn cancel_all(&self) -> usize {
        let (tell, told) = oneshot::channel();
        let id = self.id;
        let request = Box::new(move |worker: &Worker| {
            let count = worker.cancel_those(&|task| simulated::is_on(id, task));
            // The one who asked waits, uninterrupted.
            _ = tell.send(count);
        });
        current_scheduler().run_on_worker(0, request);
        told.recv().expect("the world's worker answers")
    }
}

/// For so long what a crash has cancelled may go on, as while it waits in a destructor.
const LONGEST_CRASH: Duration = Duration::from_secs(10);
const CRASH_STEP: Duration = Duration::from_millis(1);

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {:?}", self.name())
    }
}

/// A link between two hosts, from [`World::link`]. Each setting is for both directions, from now on.
#[derive(Clone)]
pub struct Link {
    world: Arc<sim::World>,
    ends: (HostId, HostId),
}

impl Link {
    /// How long a packet takes: drawn for each. Those of a connection keep their order.
    pub fn latency(self, latency: Range<Duration>) -> Self {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let latency = nanos(latency.start)..nanos(latency.end);
        let (a, b) = self.ends;
        let set = |link: &mut LinkSettings| link.latency = latency.clone();
        self.world
            .on_network(|network, _| network.set_link(a, b, set));
        self
    }

    /// How many packets of one are lost. TCP sends each again, after 200 ms, then twice as long each time; so a loss is
    /// a delay.
    pub fn loss(self, of_one: f64) -> Self {
        let (a, b) = self.ends;
        let set = |link: &mut LinkSettings| link.loss = of_one;
        self.world
            .on_network(|network, _| network.set_link(a, b, set));
        self
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = self.ends;
        let name = |host| self.world.on_network(|network, _| network.name_of(host));
        let (a, b) = (name(a), name(b));
        write!(f, "link between {a:?} and {b:?}")
    }
}

/// A partition, from [`World::partition`]; dropping it heals it.
#[must_use = "it heals when it is dropped"]
pub struct Partition {
    world: Arc<sim::World>,
    cut: u64,
}

impl Partition {
    /// Lets through again what the partition held up.
    pub fn heal(self) {}
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.world
            .on_network(|network, plan| network.heal(plan, self.cut));
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").finish_non_exhaustive()
    }
}
