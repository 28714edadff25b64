//! Passwords: hashed once for the file, and checked off the async workers.
//!
//! Argon2 needs tens of milliseconds and tens of megabytes, on purpose. So only a few checks run at a time,
//! each on a thread of its own that reuses its memory, in a fair order (`login_queue`). A password that was
//! right once is recognised by a keyed hash (`rules::Identity`), and so are the most recent wrong ones with
//! their users. A password that is already being checked is not checked a second time meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use argon2::Block;
use tokio::sync::watch;

use super::argon2_hash::{MAX_PASSWORD_BYTES, is_password};
use super::login_queue::{LoginQueue, Turn, User};
use super::rules::{Identity, PasswordTag, Rules};
use base::error::{Code, Result, ServingError};
use base::{allocator, panics};
use net::peer::{ConnectionNumber, Peer, Source};
use net::shares::Shares;

/// The largest number of checks that run at a time, given enough processors: each needs its own memory.
const MAX_RUNNING: usize = 2;
/// The numbers of callers that can wait, in total and on one connection; more are refused. Each holds the
/// headers of its request.
const MAX_CALLERS: usize = 4096;
const MAX_CALLERS_OF_ONE: usize = 256;
/// The size of the headers that all waiting callers together can hold.
const MAX_CALLERS_BYTES: usize = 32 << 20;
/// The number of wrong logins that are remembered.
const MAX_WRONG: usize = 4096;
/// How long a caller waits before it is refused for lack of room. Clients that guess would otherwise be
/// back immediately, and leave even less room.
const AWAY_AFTER: Duration = Duration::from_secs(1);
/// How long the answer to a wrong login is delayed for each other waiting check of the same user and
/// source, and the longest delay. So a client that guesses on many connections mostly waits for its
/// answers, instead of standing in the queue before the user.
const WRONG_AFTER_EACH: Duration = Duration::from_millis(200);
const MAX_WRONG_AFTER: Duration = Duration::from_secs(10);
/// How long a thread without a check to run keeps its memory.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How much lower the priority of checks is than that of requests.
const NICENESS: i32 = 5;

/// The running and waiting checks.
pub(super) struct PasswordChecks {
    shared: Arc<Shared>,
    callers: Shares,
    callers_bytes: AtomicUsize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when a check arrives.
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: LoginQueue<Arc<Check>>,
    /// Checks that run or wait.
    checks: HashMap<Key, Arc<Check>>,
    wrong: Wrong,
    threads: usize,
    idle: usize,
}

/// The most recent wrong logins.
#[derive(Default)]
struct Wrong {
    known: HashSet<PasswordTag>,
    /// The oldest first.
    order: VecDeque<PasswordTag>,
}

impl Wrong {
    fn note(&mut self, login: PasswordTag) {
        if self.known.insert(login) {
            self.order.push_back(login);
        }
        if self.order.len() > MAX_WRONG
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// The user, and the keyed hash of the password.
type Key = (User, PasswordTag);

struct Check {
    key: Key,
    /// The keyed hash of the user name, the password and the hash that the password is compared with.
    login: PasswordTag,
    /// The identity with that hash: the user's own, or any with a password if the user is unknown.
    costs_as: Arc<Identity>,
    password: Vec<u8>,
    outcome: watch::Sender<LoginOutcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum LoginOutcome {
    Unknown,
    Right,
    Wrong,
    Panicked,
}

/// A waiting caller on this connection, with this many bytes of headers.
struct Caller<'a>(&'a PasswordChecks, ConnectionNumber, usize);

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.0.callers.give_back(self.1);
        self.0.callers_bytes.fetch_sub(self.2, Ordering::Relaxed);
    }
}

impl PasswordChecks {
    pub(super) fn new() -> Self {
        Self {
            shared: Arc::default(),
            callers: Shares::new(MAX_CALLERS, MAX_CALLERS_OF_ONE),
            callers_bytes: AtomicUsize::new(0),
        }
    }

    /// The identity with this user name, if the password is right. The caller holds `bytes` bytes
    /// meanwhile.
    ///
    /// An unknown user name costs as much as a wrong password, so that clients cannot distinguish the two.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` if too many checks of this client, of its source or in total are waiting.
    pub(super) async fn check<'a>(
        &self,
        rules: &'a Arc<Rules>,
        user: &str,
        password: Vec<u8>,
        peer: &Peer,
        bytes: usize,
    ) -> Result<Option<&'a Arc<Identity>>> {
        let found = rules.by_user(user);
        let tag = rules.password_tag(&password);
        if found.is_some_and(|it| it.has_password(&tag)) {
            return Ok(found);
        }
        let Some(costs_as) = found.or_else(|| rules.any_with_password()).map(Arc::clone) else {
            return Ok(None);
        };
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(None);
        }
        let login = rules.login_tag(&costs_as.password_argon2, user, &password);
        if self.shared.is_known_as_wrong(&login) {
            peer.note_login(false);
            return Ok(None);
        }
        let caller = self.enter(peer.connection(), bytes)?;
        let _waits = peer.login_waits();
        let submitted = self.shared.submit(
            peer,
            Check {
                key: (user_of(found), tag),
                login,
                costs_as,
                password,
                outcome: watch::Sender::new(LoginOutcome::Unknown),
            },
        );
        let outcome = match submitted {
            // The sender is dropped if the check has to make room for another.
            Ok(mut outcome) => {
                let known = outcome.wait_for(|it| *it != LoginOutcome::Unknown).await;
                known.map(|it| *it).ok()
            }
            Err(_) => None,
        };
        let Some(outcome) = outcome else {
            tokio::time::sleep(AWAY_AFTER).await;
            return Err(exhausted());
        };
        peer.note_login(outcome == LoginOutcome::Right);
        if outcome == LoginOutcome::Wrong {
            self.pause_after_wrong(peer, found).await;
        }
        drop(caller);
        match outcome {
            LoginOutcome::Right => Ok(found),
            LoginOutcome::Panicked => Err(panics::ended_abnormally("a password check")),
            LoginOutcome::Wrong | LoginOutcome::Unknown => Ok(None),
        }
    }

    /// Waits after a wrong password, for longer the more checks of this user wait.
    async fn pause_after_wrong(&self, peer: &Peer, found: Option<&Arc<Identity>>) {
        let others = self.shared.waiting_of_user(peer.source(), &user_of(found));
        let others = u32::try_from(others).unwrap_or(u32::MAX);
        let pause = WRONG_AFTER_EACH.saturating_mul(others);
        tokio::time::sleep(pause.min(MAX_WRONG_AFTER)).await;
    }

    /// Counts a caller as waiting.
    fn enter(&self, connection: ConnectionNumber, bytes: usize) -> Result<Caller<'_>> {
        self.callers.take(connection).map_err(|_| exhausted())?;
        let before = self.callers_bytes.fetch_add(bytes, Ordering::Relaxed);
        let caller = Caller(self, connection, bytes);
        match before + bytes <= MAX_CALLERS_BYTES {
            true => Ok(caller),
            false => Err(exhausted()),
        }
    }
}

fn user_of(identity: Option<&Arc<Identity>>) -> User {
    identity.map(|it| it.name.as_str().into())
}

fn exhausted() -> ServingError {
    ServingError::new(
        Code::ResourceExhausted,
        "too many passwords are being checked",
    )
}

impl Shared {
    fn waiting_of_user(&self, source: Source, user: &User) -> usize {
        self.lock().queue.len_of_user(source, user)
    }

    fn is_known_as_wrong(&self, login: &PasswordTag) -> bool {
        self.lock().wrong.known.contains(login)
    }

    /// Submits the password for checking, unless the same check is already submitted.
    fn submit(
        self: &Arc<Self>,
        peer: &Peer,
        check: Check,
    ) -> Result<watch::Receiver<LoginOutcome>> {
        let mut state = self.lock();
        if let Some(same) = state.checks.get(&check.key) {
            return Ok(same.outcome.subscribe());
        }
        let check = Arc::new(check);
        let outcome = check.outcome.subscribe();
        let turn = Turn {
            source: peer.source(),
            user: check.key.0.clone(),
            connection: peer.connection(),
            has_been_wrong: peer.has_been_wrong(),
        };
        let displaced = state.queue.push(&turn, Arc::clone(&check));
        let displaced = displaced.map_err(|_| exhausted())?;
        if let Some(displaced) = &displaced {
            state.checks.remove(&displaced.key);
        }
        state.checks.insert(check.key.clone(), check);
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        let max_threads = MAX_RUNNING.min(processors.div_ceil(2));
        if state.idle > 0 {
            self.work.notify_one();
        } else if state.threads < max_threads {
            state.threads += 1;
            drop(state);
            self.start_thread();
        }
        Ok(outcome)
    }

    /// Starts a thread that is already counted. If that fails and no other is running, the waiting checks are
    /// dropped.
    fn start_thread(self: &Arc<Self>) {
        let shared = Arc::clone(self);
        let thread = thread::Builder::new().name("login".to_owned());
        if let Err(error) = thread.spawn(move || shared.work()) {
            tracing::error!(%error, "cannot start a thread for password checks");
            let mut state = self.lock();
            state.threads -= 1;
            if state.threads == 0 {
                let given_up = std::mem::take(&mut *state);
                drop(state);
                drop(given_up);
            }
        }
    }

    fn work(&self) {
        lower_priority();
        let mut memory = Vec::new();
        while let Some(check) = self.next() {
            let is_right = panics::catch_panic("a password check", || check.is_right(&mut memory));
            let outcome = match is_right {
                Some(true) => LoginOutcome::Right,
                Some(false) => LoginOutcome::Wrong,
                None => LoginOutcome::Panicked,
            };
            let mut state = self.lock();
            state.checks.remove(&check.key);
            if outcome == LoginOutcome::Wrong {
                state.wrong.note(check.login);
            }
            drop(state);
            check.outcome.send_replace(outcome);
        }
        drop(memory);
        allocator::release_freed();
    }

    /// Waits for a check; `None` if the thread has to end.
    fn next(&self) -> Option<Arc<Check>> {
        let mut state = self.lock();
        loop {
            while let Some(check) = state.queue.pop() {
                // From now on, callers with the same password find the check in the table.
                if check.outcome.receiver_count() > 0 {
                    return Some(check);
                }
                state.checks.remove(&check.key);
            }
            state.idle += 1;
            let waited = self.work.wait_timeout(state, KEEP_ALIVE);
            let (woken, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.idle -= 1;
            if waited.timed_out() && state.queue.is_empty() {
                state.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Check {
    fn is_right(&self, memory: &mut Vec<Block>) -> bool {
        let (user, tag) = &self.key;
        let is_right = is_password(&self.costs_as.password_argon2, &self.password, memory);
        let is_right = is_right.unwrap_or(false) && user.is_some();
        if is_right {
            self.costs_as.remember_password(*tag);
        }
        is_right
    }
}

/// Lowers the priority of this thread, on systems with thread priorities.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    // SAFETY: nice takes a number and touches no memory.
    unsafe {
        // A lower priority is never refused.
        libc::nice(NICENESS);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = NICENESS;
}
