//! Where lists of servers come from: a file, a name, or anything else that can be asked for one.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Weak},
    time::Duration,
};

use maniple::{
    JoinHandle, cancel, fs, log_limit::LogLimit, log_within, net::ToSocketAddrs, panics,
};

use super::{
    endpoint::Endpoint,
    set::{Endpoints, Shared},
};
use crate::lines::MOST_LINES;

/// A file of servers may have so many bytes.
const MOST_BYTES: usize = 1 << 20;

static FAULTS: LogLimit = LogLimit::new(MOST_LINES);

/// Asks for the list again and again, until it is dropped or the set is; made by [`Endpoints::follow`].
#[derive(Debug)]
#[must_use = "nothing is asked any more once this is dropped"]
pub struct Following {
    follower: JoinHandle<()>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.follower.cancel();
    }
}

impl Endpoints {
    /// Has `source` tell the list, now and then every so often (give or take a tenth, so that not all processes ask at
    /// once). [`file()`] and [`name`] are such sources; what pushes its changes calls [`set`](Self::set) instead.
    ///
    /// If the source fails, panics, or has no server at all, the list stays as it was, and the log says so: a name server
    /// that is down does not take the service along. The first answer is waited for here.
    ///
    /// # Errors
    /// If there is no stack for what asks.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_parts::endpoints::{Endpoint, Endpoints, source};
    /// use std::time::Duration;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let prices = Endpoints::builder("prices").build([] as [Endpoint; 0])?;
    /// let _following = prices.follow(Duration::from_secs(1), source::file("/etc/prices.endpoints"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(
        &self,
        every: Duration,
        mut source: impl FnMut() -> io::Result<Vec<Endpoint>> + Send + 'static,
    ) -> io::Result<Following> {
        let mut told = None;
        look(&self.shared, &mut source, &mut told);
        let shared = Arc::downgrade(&self.shared);
        let builder = maniple::task::Builder::new().name("endpoints source");
        let follower = builder
            .without_locals()
            .spawn(move || follow(&shared, every, &mut source, &mut told))?;
        Ok(Following { follower })
    }
}

fn follow(
    shared: &Weak<Shared>,
    every: Duration,
    source: &mut impl FnMut() -> io::Result<Vec<Endpoint>>,
    told: &mut Option<String>,
) {
    loop {
        let Some(shared_now) = shared.upgrade() else {
            return;
        };
        let pause = shared_now.about(every);
        drop(shared_now);
        maniple::sleep(pause);
        if let Some(shared) = shared.upgrade() {
            look(&shared, source, told);
        }
    }
}

/// The same fault is told once.
fn look(
    shared: &Shared,
    source: &mut impl FnMut() -> io::Result<Vec<Endpoint>>,
    told: &mut Option<String>,
) {
    let fault = match panics::catch(source) {
        Some(Ok(list)) if list.is_empty() => "it has no servers".to_owned(),
        Some(Ok(list)) => match shared.set(list) {
            Ok(_) => {
                *told = None;
                return;
            }
            Err(error) => error.to_string(),
        },
        Some(Err(error)) => error.to_string(),
        None => "asking for it panicked, or was cut short".to_owned(),
    };
    // Who is cancelled in the middle of asking has nothing to complain of.
    if cancel::check().is_ok() && told.as_ref() != Some(&fault) {
        let name = &shared.settings.name;
        log_within!(
            FAULTS,
            warn,
            "{name}: the list of servers stays as it was: {fault}"
        );
        *told = Some(fault);
    }
}

impl Shared {
    /// So long, give or take a tenth, and at least a millisecond.
    pub(super) fn about(&self, time: Duration) -> Duration {
        let tenths = 0.9 + 0.2 * (self.chance.bits() >> 11) as f64 / (1_u64 << 53) as f64;
        let about = Duration::try_from_secs_f64(time.as_secs_f64() * tenths).unwrap_or(time);
        about.max(Duration::from_millis(1))
    }
}

/// The servers that a file names, one [on a line](Endpoint); empty lines, and what is behind a `#`, count for nothing. It may
/// have 1 MiB. With a line that is no server the whole file is not taken.
///
/// Who writes it writes another and renames it, so that nobody reads half of it.
pub fn file(
    path: impl Into<PathBuf>,
) -> impl FnMut() -> io::Result<Vec<Endpoint>> + Send + 'static {
    let path = path.into();
    move || {
        let bytes = fs::read_limited(&path, MOST_BYTES)?;
        let wrong = |reason: String| {
            let message = format!("{}: {reason}", path.display());
            io::Error::new(io::ErrorKind::InvalidData, message)
        };
        let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        let lines = text.lines().enumerate().map(|(number, line)| {
            (
                number + 1,
                line.split('#').next().unwrap_or_default().trim(),
            )
        });
        lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| {
                let endpoint = line.parse::<Endpoint>();
                endpoint.map_err(|error| wrong(format!("line {number}: {error}")))
            })
            .collect()
    }
}

/// The addresses of a name with a port, `prices.internal:80`: all its A and AAAA records, as the system's resolver has
/// them. The system tells no time to live, so what is remembered of it is
/// [for a time that is set](maniple::net::set_name_ttl), and asking more often than that tells nothing new.
pub fn name(
    host_and_port: impl Into<String>,
) -> impl FnMut() -> io::Result<Vec<Endpoint>> + Send + 'static {
    let name = host_and_port.into();
    move || {
        let mut addresses = name.as_str().to_socket_addrs()?;
        // The resolver's order changes from answer to answer.
        addresses.sort_unstable();
        Ok(addresses.into_iter().map(Endpoint::from).collect())
    }
}
