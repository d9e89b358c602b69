//! The handles that a scenario has: the world, its hosts, its links and partitions.

use std::{
    fmt,
    net::IpAddr,
    ops::Range,
    panic::{AssertUnwindSafe, Location, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use super::{
    packet::{ActiveRule, Packet, Verdict},
    sweep::{Course, held},
};
use crate::{
    cancel,
    driver::sim::{self, HostId, LinkSettings, Scarce},
    net::simulated,
    panics,
    scheduler::{Worker, current_scheduler, on_coroutine},
    sync::oneshot,
    task, time,
};

/// A simulated world, as its scenario sees it. Clones are of the same world.
#[derive(Clone)]
pub struct World {
    pub(super) inner: Arc<sim::World>,
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

    /// Waits until `holds` does, looking at each moment of the world's time at which all has been done that could be.
    ///
    /// What a service must come to, but may take its time for: a retry that succeeds, a copy that has caught up. A
    /// cancellation point, as [`sleep`](crate::sleep()) is.
    ///
    /// # Panics
    /// If it does not hold within that time; then the seed fails.
    ///
    /// # Examples
    /// ```
    /// use maniple::sim;
    /// use std::{sync::{Arc, atomic::{AtomicU32, Ordering::Relaxed}}, time::Duration};
    /// sim::check(0..20, |world| {
    ///     let count = Arc::new(AtomicU32::new(0));
    ///     let theirs = count.clone();
    ///     maniple::spawn(move || {
    ///         while theirs.fetch_add(1, Relaxed) < 10 {
    ///             maniple::sleep(Duration::from_secs(60));
    ///         }
    ///     });
    ///     world.eventually(Duration::from_secs(3600), || count.load(Relaxed) > 5);
    ///     assert_eq!(world.now(), Duration::from_secs(300));
    /// });
    /// ```
    #[track_caller]
    pub fn eventually(&self, within: Duration, mut holds: impl FnMut() -> bool) {
        let until = self.now().saturating_add(within);
        loop {
            self.settle();
            if holds() {
                return;
            }
            if self.now() >= until {
                held(false, format_args!("it does within {within:?}"));
            }
            self.wait_for_time(until);
        }
    }

    /// Waits until nothing has happened for so long: nobody has had a turn, but for who waits here.
    ///
    /// What a service must come to once nobody asks it for anything, unless it does something now and then by itself. A
    /// cancellation point, as [`sleep`](crate::sleep()) is.
    ///
    /// # Panics
    /// If there is no such time that begins `within` that long; then the seed fails.
    ///
    /// # Examples
    /// ```
    /// use maniple::sim;
    /// use std::time::Duration;
    /// sim::check(0..20, |world| {
    ///     maniple::spawn(|| {
    ///         for pause in [1, 2, 4] {
    ///             maniple::sleep(Duration::from_secs(pause));
    ///         }
    ///     });
    ///     world.quiet_for(Duration::from_secs(10), Duration::from_secs(60));
    ///     assert_eq!(world.now(), Duration::from_secs(17));
    /// });
    /// ```
    #[track_caller]
    pub fn quiet_for(&self, quiet: Duration, within: Duration) {
        let watch = self.inner.watch(own_id());
        let latest = self.now().saturating_add(within);
        self.settle();
        let mut since = self.now();
        loop {
            let (until, turns) = (since.saturating_add(quiet), watch.turns_of_others());
            self.wait_for_time(until);
            self.settle();
            if self.now() >= until {
                return;
            }
            if watch.turns_of_others() > turns {
                since = self.now();
                if since > latest {
                    held(
                        false,
                        format_args!("it is quiet for {quiet:?} within {within:?}"),
                    );
                }
            }
        }
    }

    /// Waits until time has moved, at most to then.
    fn wait_for_time(&self, until: Duration) {
        let (tell, mut told) = oneshot::channel();
        self.inner.when_moved(Box::new(move || {
            // Who waited may have been cancelled.
            _ = tell.send(());
        }));
        let left = until.saturating_sub(self.now());
        if told.recv_timeout(left).is_err() {
            // Its time has come; or it was cut short, and so is this.
            task::yield_now();
        }
    }

    /// Writes a line into the trace, and beside the line of the caller's host in the picture: see
    /// [`record`](super::record).
    pub fn note(&self, text: impl Into<String>) {
        self.inner.note(text.into());
    }

    /// A number that follows from the seed, for what the scenario itself leaves to chance.
    ///
    /// # Panics
    /// If the range is empty.
    pub fn draw(&self, range: Range<u64>) -> u64 {
        assert!(!range.is_empty(), "there is no number in {range:?}");
        range.start + self.inner.choose(range.end - range.start)
    }

    /// A host of that name, on which a coroutine runs `service`, as do those that it spawns.
    ///
    /// Its address is what its name [resolves](crate::net::ToSocketAddrs) to everywhere in the world; there it listens,
    /// and from there it connects. `localhost` is the host itself. The scenario runs on a host of its own, `scenario`.
    ///
    /// # Panics
    /// If there is a host of that name. A panic of `service` is a failure of the seed.
    #[track_caller]
    pub fn host(&self, name: &str, service: impl Fn() + Send + Sync + 'static) -> Host {
        let what = || format!("a service on host {name:?}");
        let is_left_out = self.leaves_out(Location::caller(), what);
        let host = Host {
            world: self.clone(),
            id: self.inner.on_network(|network, _| network.add_host(name)),
            service: Arc::new(service),
            is_up: Arc::new(AtomicBool::new(true)),
            is_left_out,
            is_spared: AtomicBool::new(false),
        };
        host.begin();
        host
    }

    /// Whether something is left out, in search of a smaller world.
    fn leaves_out(&self, at: &Location<'_>, what: impl FnOnce() -> String) -> bool {
        self.course.setting.leaves_out(at, what)
    }

    /// The link between two hosts, in both directions, to set how it behaves. Both hosts are there already.
    ///
    /// Without settings a packet takes 0.1 to 1 ms, and none is lost.
    ///
    /// # Panics
    /// If the world has no host of one of the names.
    pub fn link(&self, a: &str, b: &str) -> Link {
        Link {
            world: self.clone(),
            ends: (self.id_of(a), self.id_of(b)),
        }
    }

    /// Lets nothing through between the two groups of hosts, in either direction, until the value is dropped.
    ///
    /// TCP sends again what was held up: after 200 ms, then each time twice as long, up to two minutes; after a quarter
    /// of an hour it gives up, and the connection has failed with `TimedOut`. So what a partition held up comes some
    /// time after it has healed.
    ///
    /// # Panics
    /// If there is no such host.
    #[track_caller]
    pub fn partition(&self, some: &[&str], others: &[&str]) -> Partition {
        let what = || format!("a partition between {some:?} and {others:?}");
        if self.leaves_out(Location::caller(), what) {
            return self.cut(&[]);
        }
        let pairs = self.pairs(some, others).into_iter();
        let both = pairs.flat_map(|(a, b)| [(a, b), (b, a)]);
        self.cut(&both.collect::<Vec<_>>())
    }

    /// Lets nothing through from these hosts to those; what those send comes through.
    ///
    /// # Panics
    /// If there is no such host.
    #[track_caller]
    pub fn partition_one_way(&self, from: &[&str], to: &[&str]) -> Partition {
        let what = || format!("a partition from {from:?} to {to:?}");
        if self.leaves_out(Location::caller(), what) {
            return self.cut(&[]);
        }
        self.cut(&self.pairs(from, to))
    }

    /// Has `rule` judge each packet that leaves a host, until the value is dropped; TCP sends again what was dropped.
    ///
    /// Of several rules the oldest that has something to say counts. Loss and partitions come on top.
    ///
    /// A rule is asked while the world is in the middle of something. So it does not wait, and asks nothing of the
    /// world but what its packet has; a panic in it fails the seed.
    ///
    /// # Examples
    /// ```
    /// use maniple::{net::{TcpListener, TcpStream}, sim::{self, PacketKind}};
    /// use std::time::Duration;
    /// sim::check(0..20, |world| {
    ///     let _server = world.host("server", || {
    ///         let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    ///         while listener.accept().is_ok() {}
    ///     });
    ///     world.settle();
    ///     let rule = world.rule(|packet| packet.between("scenario", "server").of(PacketKind::Syn).then_drop());
    ///     let silent = maniple::timeout(Duration::from_secs(5), || TcpStream::connect("server:80"));
    ///     assert!(!matches!(silent, Ok(Ok(_))));
    ///     drop(rule);
    ///     assert!(TcpStream::connect("server:80").is_ok());
    /// });
    /// ```
    #[track_caller]
    pub fn rule(&self, rule: impl Fn(&Packet<'_>) -> Verdict + Send + 'static) -> ActiveRule {
        let course = self.course.clone();
        let judge = move |judged: &sim::Judged<'_>| {
            let packet = Packet::new(judged);
            let verdict = catch_unwind(AssertUnwindSafe(|| rule(&packet)));
            verdict.unwrap_or_else(|payload| {
                let text = panics::message(&*payload).unwrap_or("a panic without a text");
                course.fail(format!("a rule for packets panicked: {text}"));
                drop(payload);
                Verdict::Pass
            })
        };
        let is_left_out = self.leaves_out(Location::caller(), || "a rule for packets".to_owned());
        ActiveRule::begin(
            self.inner.clone(),
            (!is_left_out).then(|| Box::new(judge) as _),
        )
    }

    /// Has a host run short of what its operating system gives, as the value says, until that is dropped.
    ///
    /// # Panics
    /// If there is no such host.
    ///
    /// # Examples
    /// ```
    /// use maniple::sim;
    /// sim::check(0..50, |world| {
    ///     let shortage = world.shortage("scenario").stacks(0.5);
    ///     let begun = maniple::spawn(|| "ran").join();
    ///     sim::sometimes!(begun.is_ok());
    ///     sim::sometimes!(begun.is_err_and(|error| !error.is_panic()));
    ///     drop(shortage);
    ///     assert_eq!(maniple::spawn(|| "ran").join().unwrap(), "ran");
    /// });
    /// ```
    #[track_caller]
    pub fn shortage(&self, host: &str) -> Shortage {
        let what = || format!("a shortage on host {host:?}");
        Shortage {
            is_left_out: self.leaves_out(Location::caller(), what),
            number: self.inner.begin_shortage(self.id_of(host)),
            world: self.inner.clone(),
        }
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

/// The caller's id; 0 on a thread that is no world's, whose turns nobody counts.
pub(super) fn own_id() -> u64 {
    on_coroutine(|task| task.map_or(0, |task| task.origin.id))
}

/// A host of a [`World`]. Dropping the handle changes nothing.
pub struct Host {
    pub(super) world: World,
    pub(super) id: HostId,
    service: Arc<dyn Fn() + Send + Sync>,
    is_up: Arc<AtomicBool>,
    /// Its service does not run, in search of a smaller world.
    is_left_out: bool,
    /// It goes on through a crash, for the same reason.
    is_spared: AtomicBool,
}

impl Host {
    #[track_caller]
    fn begin(&self) {
        if self.is_left_out {
            return;
        }
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

    /// Sets its clock, which tells the time of day, so far ahead of the world's, in seconds; behind it, if that is
    /// negative. A restart leaves it as it is.
    ///
    /// It shows in [`time::system_now`](crate::time::system_now), and where std is [interposed](crate::sim::interpose),
    /// in `SystemTime::now`. Timers and deadlines go by another clock, which nobody sets.
    ///
    /// # Panics
    /// If it is not a finite number.
    ///
    /// # Examples
    /// ```
    /// use maniple::{sim, time};
    /// use std::time::{Duration, SystemTime};
    /// sim::check(0..5, |world| {
    ///     let right = time::system_now();
    ///     let host = world.host("late", move || {
    ///         maniple::sleep(Duration::from_secs(1));
    ///         assert_eq!(time::system_now(), right + Duration::from_secs(1) - Duration::from_millis(500));
    ///     });
    ///     host.set_clock(-0.5);
    ///     world.advance(Duration::from_secs(2));
    /// });
    /// ```
    pub fn set_clock(&self, seconds_ahead: f64) {
        assert!(
            seconds_ahead.is_finite(),
            "a clock is not {seconds_ahead} s ahead"
        );
        let nanos = (seconds_ahead * 1e9) as i64;
        self.world.inner.set_wall(self.id, nanos.into());
    }

    /// Has its clock gain so many millionths from now on; lose them, if that is negative. Quartz does 20 to 50.
    pub fn drift_clock(&self, millionths: i32) {
        self.world
            .inner
            .drift_wall(self.id, i128::from(millionths) * 1000);
    }

    /// Whether it runs: it has neither crashed, nor not been restarted since.
    pub fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// Stops it like a machine that loses power; returns once nothing of it is left.
    ///
    /// At once nothing comes through to it or from it, and its connections are forgotten: peers are not told. Its
    /// coroutines are cancelled, and their destructors run, as those of a real crash do not; what they send reaches
    /// nobody. Of its [files](crate::fs), what was not synced may be lost, as [the module](super#files) says.
    ///
    /// # Panics
    /// If it is down, if the caller runs on it, or if something of it does not end within ten seconds of the world's
    /// time.
    #[track_caller]
    pub fn crash(&self) {
        assert!(
            self.is_up.swap(false, Ordering::Relaxed),
            "{self:?} is down"
        );
        assert!(simulated::host() != self.id, "a host cannot crash itself");
        let what = || format!("a crash of {self:?}");
        if self.world.leaves_out(Location::caller(), what) {
            self.is_spared.store(true, Ordering::Relaxed);
            return;
        }
        self.world.inner.power_off(self.id);
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
    #[track_caller]
    pub fn restart(&self) {
        assert!(!self.is_up.swap(true, Ordering::Relaxed), "{self:?} is up");
        if self.is_spared.swap(false, Ordering::Relaxed) {
            return;
        }
        self.world.inner.power_on(self.id);
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
    world: World,
    ends: (HostId, HostId),
}

impl Link {
    /// How long a packet takes: drawn for each. Those of a connection keep their order.
    #[track_caller]
    pub fn latency(self, latency: Range<Duration>) -> Self {
        let what = || format!("latency {latency:?} on the {self:?}");
        if self.world.leaves_out(Location::caller(), what) {
            return self;
        }
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let latency = nanos(latency.start)..nanos(latency.end);
        self.set(|link| link.latency = latency.clone())
    }

    /// How many packets of one are lost. TCP sends each again, after 200 ms, then twice as long each time; so a loss is
    /// a delay.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    #[track_caller]
    pub fn loss(self, of_one: f64) -> Self {
        check_share(of_one);
        let what = || format!("loss {of_one} on the {self:?}");
        if self.world.leaves_out(Location::caller(), what) {
            return self;
        }
        self.set(|link| link.loss = of_one)
    }

    /// How many bytes go through in a second, one way; the heads of packets count. Packets leave one after the other.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn bandwidth(self, bytes_per_second: u64) -> Self {
        assert!(
            bytes_per_second > 0,
            "a link without bandwidth: that is a partition"
        );
        let what = || format!("bandwidth {bytes_per_second} on the {self:?}");
        if self.world.leaves_out(Location::caller(), what) {
            return self;
        }
        self.set(|link| link.bandwidth = Some(bytes_per_second))
    }

    /// How many packets of one have their connection be reset, for both ends, as a firewall does that forgets it.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    #[track_caller]
    pub fn resets(self, of_one: f64) -> Self {
        check_share(of_one);
        let what = || format!("resets {of_one} on the {self:?}");
        if self.world.leaves_out(Location::caller(), what) {
            return self;
        }
        self.set(|link| link.resets = of_one)
    }

    /// How many datagrams of one come twice.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    #[track_caller]
    pub fn duplicates(self, of_one: f64) -> Self {
        check_share(of_one);
        let what = || format!("duplicates {of_one} on the {self:?}");
        if self.world.leaves_out(Location::caller(), what) {
            return self;
        }
        self.set(|link| link.duplicates = of_one)
    }

    fn set(self, set: impl Fn(&mut LinkSettings)) -> Self {
        let (a, b) = self.ends;
        self.world
            .inner
            .on_network(|network, _| network.set_link(a, b, set));
        self
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (a, b) = self.ends;
        let name = |host| {
            self.world
                .inner
                .on_network(|network, _| network.name_of(host))
        };
        let (a, b) = (name(a), name(b));
        write!(f, "link between {a:?} and {b:?}")
    }
}

/// What a host is short of, from [`World::shortage`]; dropping it ends the shortage.
///
/// Each share is of one: how often it fails, of so many times, which are drawn. Where a host has several shortages
/// the worst counts.
#[must_use = "it ends when it is dropped"]
pub struct Shortage {
    is_left_out: bool,
    world: Arc<sim::World>,
    number: u64,
}

impl Shortage {
    /// How often there is no stack for a coroutine that is to begin: the limit of stacks is reached, or the system has
    /// no memory for one. Its handle gets the error; nothing of it has run.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    pub fn stacks(self, of_one: f64) -> Self {
        self.set(Scarce::Stacks, of_one)
    }

    /// How often there is no descriptor (`EMFILE`, `ENFILE`) for a socket that listens, connects or is accepted, for a
    /// pipe, a pair of sockets, or a clone.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    pub fn descriptors(self, of_one: f64) -> Self {
        self.set(Scarce::Descriptors, of_one)
    }

    /// How often other calls fail: the kernel has no memory to watch a descriptor (`ENOMEM`, `ENOSPC`) or for a
    /// connection (`ENOBUFS`, `EADDRNOTAVAIL`, `ENETUNREACH`), accepting tells of a network error that lay in wait
    /// (accept(2)), a name cannot be looked up at this time.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    pub fn calls(self, of_one: f64) -> Self {
        self.set(Scarce::Calls, of_one)
    }

    /// How often a call that writes to a file, makes one or a name finds the disk full (`ENOSPC`); half of the writes
    /// then have written a part, and the next one fails.
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    pub fn space(self, of_one: f64) -> Self {
        self.set(Scarce::Space, of_one)
    }

    /// How often the disk fails a call on a file (`EIO`). What a sync that failed was to write may be on the disk or
    /// not, and no later one has it written, since the kernel takes it for done: as
    /// [Linux does](https://wiki.postgresql.org/wiki/Fsync_Errors).
    ///
    /// # Panics
    /// If the share is not within 0 and 1.
    pub fn disk(self, of_one: f64) -> Self {
        self.set(Scarce::Disk, of_one)
    }

    fn set(self, scarce: Scarce, of_one: f64) -> Self {
        check_share(of_one);
        if !self.is_left_out {
            self.world.set_shortage(self.number, scarce, of_one);
        }
        self
    }
}

impl Drop for Shortage {
    fn drop(&mut self) {
        self.world.end_shortage(self.number);
    }
}

impl fmt::Debug for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shortage").finish_non_exhaustive()
    }
}

fn check_share(of_one: f64) {
    assert!(
        (0.0..=1.0).contains(&of_one),
        "{of_one} is no share of one: it must be within 0 and 1"
    );
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
        self.world.on_network(|network, _| network.heal(self.cut));
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Partition").finish_non_exhaustive()
    }
}
