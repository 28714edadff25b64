//! Signals: those that stop the server, taken by a dedicated thread, and those that would end the process
//! although they do not concern it.
//!
//! Not here: how the server stops (`server`).

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use super::leave;
use crate::logging;

/// The stage of the server, for signals. Until it serves there is nothing to finish.
const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// The time that a stop can take in addition to the requests' time.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// The signals that ask for a stop.
const SIGNALS: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];

/// SIGTERM, SIGINT and SIGQUIT, held back. The kernel keeps them for the thread that waits for
/// them.
///
/// They have no handler, because the kernel could choose any thread to run it: a thread that is in a call
/// to a file system that hangs runs none.
pub struct HeldSignals(libc::sigset_t);

impl HeldSignals {
    /// From now on these signals wait until they are [watched](Self::watch). To be called before other
    /// threads are started: they inherit it.
    pub fn hold() -> Self {
        let mut signals = MaybeUninit::uninit();
        // SAFETY: `sigemptyset` initialises the set; the other calls get it initialised, and numbers that
        // exist. They change no memory but the set. Setting a disposition
        // installs no handler.
        unsafe {
            libc::sigemptyset(signals.as_mut_ptr());
            let mut signals = signals.assume_init();
            for signal in SIGNALS {
                libc::sigaddset(&mut signals, signal);
            }
            libc::pthread_sigmask(libc::SIG_BLOCK, &signals, ptr::null_mut());
            for signal in SIGNALS {
                // An ignored signal does not wait. A shell's background job begins with ignored ones.
                libc::signal(signal, libc::SIG_DFL);
            }
            Self(signals)
        }
    }

    /// From now on they end the process with status 128 + their number, both before
    /// [`start_serving`](Signals::start_serving) and after the first of them. The first one in between
    /// ends [`wait`](Signals::wait), and the process ends once `stop_timeout` and a few seconds have
    /// passed.
    ///
    /// This depends on no other thread, so that it works even if everything else is blocked. While a
    /// library is loaded, the C library's loader has a lock that a thread needs to set up a thread-local
    /// with a destructor. So this returns once the watching thread has set up all that it uses.
    ///
    /// # Errors
    ///
    /// If no thread can be started.
    pub fn watch(self, stop_timeout: Duration) -> io::Result<Signals> {
        let stage = Arc::new(AtomicU8::new(STARTING));
        let (stop, stops) = channel();
        let (prepared, is_prepared) = sync_channel(1);
        let watched = Arc::clone(&stage);
        Builder::new().name("signals".to_owned()).spawn(move || {
            logging::prepare_thread();
            // The receiver waits for it.
            let _ = prepared.send(());
            self.run(&watched, &stop, stop_timeout);
        })?;
        // An error means that the thread has ended.
        let _ = is_prepared.recv();
        Ok(Signals { stage, stops })
    }

    fn run(&self, stage: &AtomicU8, stop: &Sender<()>, stop_timeout: Duration) {
        let signal = self.next();
        if stage.swap(STOPPING, Ordering::AcqRel) != SERVING {
            tracing::info!("Ending: nothing is served yet");
            leave(status_of(signal));
        }
        // An error means that the stop has already begun.
        let _ = stop.send(());
        match self.next_before(Instant::now() + stop_timeout + STOP_GRACE) {
            Some(signal) => leave(status_of(signal)),
            None => {
                tracing::error!("stopping takes longer than allowed: ending the process");
                leave(0);
            }
        }
    }

    /// Waits for the next signal.
    fn next(&self) -> libc::c_int {
        loop {
            // SAFETY: the set is initialised, and no further information is asked for.
            let signal = unsafe { libc::sigwaitinfo(&self.0, ptr::null_mut()) };
            // Otherwise a handler of another signal has run.
            if signal > 0 {
                return signal;
            }
        }
    }

    /// Waits for the next signal; `None` if there is none until `end`.
    fn next_before(&self, end: Instant) -> Option<libc::c_int> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let timeout = libc::timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            // SAFETY: the set and the time are initialised, and no further information is asked for.
            let signal = unsafe { libc::sigtimedwait(&self.0, ptr::null_mut(), &timeout) };
            if signal > 0 {
                return Some(signal);
            }
            if left.is_zero() {
                return None;
            }
        }
    }
}

/// The signals that ask for a stop, watched.
pub struct Signals {
    stage: Arc<AtomicU8>,
    stops: Receiver<()>,
}

impl Signals {
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

/// The shell's convention for a process that was ended by a signal.
fn status_of(signal: libc::c_int) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
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
