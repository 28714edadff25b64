//! Signals: those that stop the server, handled by a dedicated thread, and those that would end the
//! process although they do not concern it.
//!
//! Not here: how the server stops (`server`).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::leave;

/// The stage of the server, for signals. Until it serves there is nothing to finish.
const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// The time that a stop can take in addition to the requests' time.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The signals that ask for a stop.
pub struct Signals {
    stage: Arc<AtomicU8>,
    stops: Receiver<()>,
}

impl Signals {
    /// From now on SIGTERM, SIGINT and SIGQUIT end the process with status 128 + their number, both
    /// before [`start_serving`](Self::start_serving) and after the first of them. The first one in
    /// between ends [`wait`](Self::wait), and the process ends once `stop_timeout` and a few seconds
    /// have passed.
    ///
    /// This depends on no other thread, so that it works even if everything else is blocked.
    ///
    /// # Errors
    ///
    /// If the thread or the descriptors are not available.
    pub fn watch(stop_timeout: Duration) -> io::Result<Self> {
        let stage = Arc::new(AtomicU8::new(STARTING));
        let (stop, stops) = channel();
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let signals = {
            let _inside = runtime.enter();
            let asked = |kind| Ok::<_, io::Error>((signal(kind)?, kind));
            [
                asked(SignalKind::terminate())?,
                asked(SignalKind::interrupt())?,
                asked(SignalKind::quit())?,
            ]
        };
        let watched = Arc::clone(&stage);
        Builder::new()
            .name("signals".to_owned())
            .spawn(move || runtime.block_on(watch(signals, &watched, &stop, stop_timeout)))?;
        Ok(Self { stage, stops })
    }

    /// To be called once requests are served: from now on a signal lets them finish.
    pub fn start_serving(&self) {
        self.stage.store(SERVING, Ordering::Release);
    }

    /// Waits for the signal that begins the stop.
    pub fn wait(&self) {
        // An error means that the thread has ended: there would be no other way to stop.
        let _ = self.stops.recv();
    }
}

async fn watch(
    mut signals: [(Signal, SignalKind); 3],
    stage: &AtomicU8,
    stop: &Sender<()>,
    stop_timeout: Duration,
) {
    let kind = next(&mut signals).await;
    if stage.swap(STOPPING, Ordering::AcqRel) != SERVING {
        tracing::info!("Ending: nothing is served yet");
        leave(status_of(kind));
    }
    // An error means that the stop has already begun.
    let _ = stop.send(());
    let end = Instant::now() + stop_timeout + STOP_GRACE;
    tokio::select! {
        kind = next(&mut signals) => leave(status_of(kind)),
        () = tokio::time::sleep_until(end) => {
            tracing::error!("stopping takes longer than allowed: ending the process");
            leave(0);
        }
    }
}

async fn next(signals: &mut [(Signal, SignalKind); 3]) -> SignalKind {
    let [terminate, interrupt, quit] = signals;
    tokio::select! {
        _ = terminate.0.recv() => terminate.1,
        _ = interrupt.0.recv() => interrupt.1,
        _ = quit.0.recv() => quit.1,
    }
}

/// The shell's convention for a process that was ended by a signal.
fn status_of(kind: SignalKind) -> u8 {
    u8::try_from(128 + kind.as_raw_value()).unwrap_or(u8::MAX)
}

/// Ignores signals that would end or stop the process although they do not concern it: a terminal that
/// hangs up, timers, limits, and the signals for any use.
pub fn ignore_harmless() {
    const HARMLESS: &[libc::c_int] = &[
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGPIPE,
        libc::SIGIO,
        // The soft limit of CPU time: the hard one holds.
        libc::SIGXCPU,
        // Beyond the file size limit (`ulimit -f`) a write fails, as on a full disk.
        libc::SIGXFSZ,
        // A background job can write to its terminal, and this program reads nothing from it.
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGPWR,
        libc::SIGSTKFLT,
    ];
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    for signal in HARMLESS.iter().copied().chain(real_time) {
        // SAFETY: sets a disposition and no handler.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}
