//! Reading certificates again while a server runs: at a signal, and when files have changed.

use std::{io, time::Duration};

use maniple::{
    JoinHandle, panics,
    signal::{SIGHUP, Signals, signals},
};

use crate::server::ServerConfig;

/// Reads a server's certificates again until it is dropped; made by [`ServerConfig::reload_at_hangup`] and
/// [`ServerConfig::reload_on_change`].
#[derive(Debug)]
#[must_use = "nothing is read again once this is dropped"]
pub struct Reloading {
    watcher: JoinHandle<()>,
}

impl Drop for Reloading {
    fn drop(&mut self) {
        self.watcher.cancel();
    }
}

impl ServerConfig {
    /// Reads certificates, keys and roots again at each SIGHUP. What came of it is in the log; what cannot be read leaves
    /// all as it was.
    ///
    /// # Errors
    /// If the signal cannot be received, or there is no stack for what waits for it.
    pub fn reload_at_hangup(&self) -> io::Result<Reloading> {
        let hangups = signals(&[SIGHUP])?;
        let config = self.clone();
        watch(move || at_each(&hangups, &config))
    }

    /// Looks that often whether the files have other contents, and then reads certificates, keys and roots again. What came
    /// of it is in the log. While they do not fit each other, as between two writes of who renews them, all stays as it was.
    ///
    /// # Errors
    /// If there is no stack for what looks.
    pub fn reload_on_change(&self, period: Duration) -> io::Result<Reloading> {
        let config = self.clone();
        watch(move || now_and_then(period, &config))
    }
}

fn watch(body: impl FnOnce() + Send + 'static) -> io::Result<Reloading> {
    let builder = maniple::task::Builder::new().name("tls reload");
    let watcher = builder.without_locals().spawn(body)?;
    Ok(Reloading { watcher })
}

fn at_each(hangups: &Signals, config: &ServerConfig) {
    while hangups.recv().is_ok() {
        let mut told = None;
        reload(config, &mut told);
        if told.is_none() {
            panics::catch(|| log::info!("SIGHUP: TLS certificates are read"));
        }
    }
}

fn now_and_then(period: Duration, config: &ServerConfig) {
    let mut told = None;
    loop {
        maniple::sleep(period);
        if reload(config, &mut told) {
            panics::catch(|| log::info!("TLS certificates have changed, and are read"));
        }
    }
}

/// Whether anything was new. The same fault is told once.
fn reload(config: &ServerConfig, told: &mut Option<String>) -> bool {
    let reloaded = {
        let config = config.clone();
        maniple::offload(move || config.reload())
    };
    let fault = match reloaded {
        Ok(Ok(is_new)) => {
            *told = None;
            return is_new;
        }
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    if told.as_ref() != Some(&fault) {
        panics::catch(|| log::error!("TLS certificates stay as they were: {fault}"));
        *told = Some(fault);
    }
    false
}
