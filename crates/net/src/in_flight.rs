//! Tracks the in_flight of connections: requests in flight, bodies and answers in transfer, unread answers
//! and idle time.
//!
//! A request is in flight from its headers until the last byte of its answer is written. A stopping server
//! waits for requests in flight, and a connection without any is idle.
//!
//! Each answer has its own clock: reading one answer does not keep the others alive. A client that reads
//! less than `MIN_PROGRESS` of an answer within the stall timeout counts as not reading it.
//!
//! Not here: bodies and their pieces (`request_body`, `answer_body`), closing such connections
//! (`connection`).

mod answer_body;
mod request_body;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use http::{Request, Response, Version};
use tokio::time::{Instant, sleep};

pub(super) use self::answer_body::AnswerBody;
pub use self::request_body::RequestBody;

use self::request_body::AwaitsRest;
use super::back_to_back::BackToBack;
use super::limit::Admitted;

/// How much of an answer a client has to read, or of a body it has to send, within the stall timeout; less
/// if less is left. With the default of 50 s that is 330 bytes a second, which any line carries.
pub(super) const MIN_PROGRESS: usize = 16 << 10;

/// The stall timeout is divided into this many periods, in which pieces are counted. The counts of
/// `COUNTED_PERIODS` periods are kept: a connection with an older piece has ended by then.
const PERIODS: u32 = 4;
const COUNTED_PERIODS: usize = 32;

/// Counts the requests in flight on all connections that share it.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    begun: AtomicUsize,
}

impl InFlight {
    /// The number of requests in flight.
    pub fn count(&self) -> usize {
        self.0.now.load(Ordering::Relaxed)
    }

    /// The number of requests that ever began.
    pub fn begun(&self) -> usize {
        self.0.begun.load(Ordering::Relaxed)
    }
}

/// The in_flight of one connection, as its driver sees it.
pub(super) struct ConnectionInFlight {
    opened: Instant,
    stall: Duration,
    /// Microseconds from `opened` to the last event of a request.
    changed: AtomicU64,
    /// Microseconds from `opened` to the last time that a part of an answer was written or became ready.
    written: AtomicU64,
    /// Microseconds from `opened` to the earliest time at which the oldest unwritten piece can have been
    /// ready.
    unwritten_since: AtomicU64,
    requests: AtomicUsize,
    /// Requests that wait for more of their body.
    receiving: AtomicUsize,
    /// Requests with pieces of an answer that were handed over but are not written yet.
    answering: AtomicUsize,
    /// Requests that last until either side ends them, such as watches.
    lasting: AtomicUsize,
    /// The unwritten pieces, and how many of them last made progress in which period.
    unwritten: AtomicUsize,
    by_period: [AtomicUsize; COUNTED_PERIODS],
    is_http2: AtomicBool,
    /// The latest HTTP/2 request, until its stream is polled.
    latest: Mutex<Option<Arc<Ongoing>>>,
    back_to_back: BackToBack,
    everywhere: InFlight,
}

/// Answers that a client does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Unread {
    /// Whether nothing else happens on the connection.
    pub(super) is_all: bool,
    pub(super) answers: usize,
}

/// A client that reads its answers has read some of them within this time.
const MOMENT: Duration = Duration::from_millis(100);

/// Why a connection should end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    /// The connection was idle for too long.
    Idle,
    /// An answer was left unread for too long.
    Unread,
}

impl ConnectionInFlight {
    /// The in_flight of a connection that was opened now. Its next bytes are [expected](Self::expects_until)
    /// for `busy_poll` after an answer and after the head of a request. Its client stalls if it reads
    /// nothing of an answer for `stall`.
    pub(super) fn new(everywhere: InFlight, busy_poll: Duration, stall: Duration) -> Arc<Self> {
        Arc::new(Self {
            opened: Instant::now(),
            stall,
            changed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            unwritten_since: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            receiving: AtomicUsize::new(0),
            answering: AtomicUsize::new(0),
            lasting: AtomicUsize::new(0),
            unwritten: AtomicUsize::new(0),
            by_period: Default::default(),
            is_http2: AtomicBool::new(false),
            latest: Mutex::default(),
            back_to_back: BackToBack::new(busy_poll),
            everywhere,
        })
    }

    /// Whether a request came over HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.is_http2.load(Ordering::Relaxed)
    }

    /// Whether exactly one request is in flight.
    pub(super) fn is_lone(&self) -> bool {
        self.requests.load(Ordering::Relaxed) == 1
    }

    /// Notes a request, which is in flight until the returned value is dropped.
    pub(super) fn begin<B>(self: &Arc<Self>, request: &Request<B>) -> InFlightRequest {
        let others = self.requests.fetch_add(1, Ordering::Relaxed);
        self.everywhere.0.now.fetch_add(1, Ordering::Relaxed);
        let number = self.everywhere.0.begun.fetch_add(1, Ordering::Relaxed);
        let before = self.changed();
        self.touch();
        match others {
            0 => self
                .back_to_back
                .note(number, self.changed().saturating_sub(before)),
            _ => self.back_to_back.reset(),
        }
        let is_http2 = request.version() == Version::HTTP_2;
        let ongoing = Arc::new(Ongoing {
            in_flight: Arc::clone(self),
            is_http2,
            pieces: AtomicUsize::new(0),
            taken: AtomicU64::new(0),
            all_written: AtomicWaker::new(),
            admitted: OnceLock::new(),
            lasts: AtomicBool::new(false),
        });
        if is_http2 {
            self.is_http2.store(true, Ordering::Relaxed);
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            *latest = Some(Arc::clone(&ongoing));
        }
        InFlightRequest(ongoing)
    }

    /// Takes the latest HTTP/2 request, whose stream is to be polled next.
    pub(super) fn take_latest(&self) -> Option<InFlightRequest> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.take().map(InFlightRequest)
    }

    /// Waits until the connection has been idle for `idle`, or its client stalls in reading its answers. A
    /// request that the server is working on counts as neither.
    pub(super) async fn overdue(&self, idle: Option<Duration>) -> Overdue {
        let shortest = idle.map_or(self.stall, |idle| idle.min(self.stall));
        loop {
            let pause = if self.unwritten.load(Ordering::Relaxed) > 0 {
                if self.is_stuck() {
                    return Overdue::Unread;
                }
                self.period()
            } else if self.requests.load(Ordering::Relaxed) > 0 {
                self.period().min(shortest)
            } else {
                let quiet = self.quiet_for();
                match idle {
                    Some(idle) if quiet >= idle => return Overdue::Idle,
                    Some(idle) => shortest.min(idle - quiet),
                    None => shortest,
                }
            };
            // Not shorter than the timer's tick.
            sleep(pause.max(Duration::from_millis(1))).await;
        }
    }

    /// Whether the connection has to end because its client does not read an answer: either all of its
    /// requests wait for that, or the stream of this answer cannot be reset on its own (`stalled`).
    fn is_stuck(&self) -> bool {
        let requests = self.requests.load(Ordering::Relaxed);
        let answering = self.answering.load(Ordering::Relaxed);
        let written = Duration::from_micros(self.written.load(Ordering::Relaxed));
        let nothing_moves = self.opened.elapsed().saturating_sub(written) >= self.stall;
        if nothing_moves && (answering >= requests || !self.is_http2()) {
            return true;
        }
        let periods = match self.is_http2() {
            // By then `stalled` has reset all streams that it can reset.
            true => 3 * PERIODS,
            false => PERIODS,
        };
        let now = self.period_now();
        let recent = (now.saturating_sub(periods as usize)..=now)
            .map(|period| self.by_period[period % COUNTED_PERIODS].load(Ordering::Relaxed));
        self.unwritten.load(Ordering::Relaxed) > recent.sum()
    }

    /// How long the connection has waited for its client: to send a request or the rest of one, or to read
    /// an answer. `None` while the server works on one of its requests. `others` is the number of its
    /// requests that are known to wait for something else.
    pub(super) fn waits_for_client(&self, others: usize) -> Option<Duration> {
        let load = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let waiting = load(&self.receiving) + load(&self.answering) + load(&self.lasting) + others;
        (waiting >= load(&self.requests)).then(|| self.quiet_for())
    }

    /// The answers that the client does not read; `None` if there were none a moment ago.
    pub(super) fn unread(&self) -> Option<Unread> {
        if self.unwritten.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let for_so_long = |since: &AtomicU64| {
            let since = Duration::from_micros(since.load(Ordering::Relaxed));
            self.opened.elapsed().saturating_sub(since) >= MOMENT
        };
        for_so_long(&self.unwritten_since).then(|| Unread {
            is_all: for_so_long(&self.written) && self.waits_for_client(0).is_some(),
            answers: self.answering.load(Ordering::Relaxed),
        })
    }

    /// The number of requests that can turn out to wait for their client: the body is incomplete, or the
    /// answer is not written.
    pub(super) fn in_transfer(&self) -> usize {
        self.receiving.load(Ordering::Relaxed) + self.answering.load(Ordering::Relaxed)
    }

    fn period(&self) -> Duration {
        self.stall / PERIODS
    }

    fn period_now(&self) -> usize {
        let period = self.period().as_micros().max(1);
        usize::try_from(self.opened.elapsed().as_micros() / period).unwrap_or(usize::MAX)
    }

    fn quiet_for(&self) -> Duration {
        self.opened.elapsed().saturating_sub(self.changed())
    }

    fn now_micros(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn touch(&self) {
        self.changed.store(self.now_micros(), Ordering::Relaxed);
    }

    fn touch_written(&self) {
        let now = self.now_micros();
        self.changed.store(now, Ordering::Relaxed);
        self.written.store(now, Ordering::Relaxed);
    }

    fn changed(&self) -> Duration {
        Duration::from_micros(self.changed.load(Ordering::Relaxed))
    }

    /// The time until which the next request, or the rest of the current one, is likely to arrive. `None`
    /// while any other request is in flight, or if the client does not send requests back to back.
    pub(super) fn expects_until(&self) -> Option<std::time::Instant> {
        let window = self.back_to_back.window()?;
        if self.everywhere.count() != self.receiving.load(Ordering::Relaxed) {
            return None;
        }
        let until = (self.opened + self.changed() + window).into_std();
        (std::time::Instant::now() < until).then_some(until)
    }
}

/// A request in flight.
pub(super) struct InFlightRequest(Arc<Ongoing>);

struct Ongoing {
    in_flight: Arc<ConnectionInFlight>,
    is_http2: bool,
    /// Pieces of its answer that are not written yet.
    pieces: AtomicUsize,
    /// Written bytes of its answer, plus [`MIN_PROGRESS`] each time all of its pieces are written.
    taken: AtomicU64,
    /// Woken when no piece is left.
    all_written: AtomicWaker,
    /// Held until the answer is written.
    admitted: OnceLock<Arc<Admitted>>,
    lasts: AtomicBool,
}

impl InFlightRequest {
    /// Wraps the body of the request.
    pub(super) fn body<B>(&self, body: B) -> RequestBody<B> {
        RequestBody::new(body, Arc::clone(&self.0.in_flight))
    }

    /// Notes that the request waits for the rest of its body, until the returned value is dropped.
    pub(super) fn awaits_rest(&self) -> AwaitsRest {
        AwaitsRest::new(Arc::clone(&self.0.in_flight))
    }

    /// Wraps the answer, which keeps the request in flight until it is written. If the service has put an
    /// [`Admitted`] into the extensions, it is held until then, too.
    pub(super) fn answered<B>(self, mut response: Response<B>) -> Response<AnswerBody<B>> {
        if let Some(admitted) = response.extensions_mut().remove::<Arc<Admitted>>() {
            if admitted.lasts() {
                self.0.lasts.store(true, Ordering::Relaxed);
                self.0.in_flight.lasting.fetch_add(1, Ordering::Relaxed);
            }
            // It was not set before.
            let _ = self.0.admitted.set(admitted);
        }
        response.map(|body| AnswerBody::new(body, self.0))
    }

    /// How many bytes of the answer the client has read so far; `None` if no piece waits for the client.
    pub(super) fn unread(&self) -> Option<u64> {
        let pieces = self.0.pieces.load(Ordering::Relaxed);
        (pieces > 0).then(|| self.0.taken.load(Ordering::Relaxed))
    }

    /// The time within which a client has to read a part of the answer.
    pub(super) fn stall_timeout(&self) -> Duration {
        self.0.in_flight.stall
    }
}

impl Drop for Ongoing {
    fn drop(&mut self) {
        let in_flight = &self.in_flight;
        in_flight.touch();
        if *self.lasts.get_mut() {
            in_flight.lasting.fetch_sub(1, Ordering::Relaxed);
        }
        in_flight.requests.fetch_sub(1, Ordering::Relaxed);
        in_flight.everywhere.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
