//! Passwords: hashed once for the file, and checked off the async workers.
//!
//! Argon2 takes tens of milliseconds and of megabytes, on purpose. So few checks run at a time, each on
//! a thread of its own that uses its memory again, in an order that is fair (`login_queue`). A password
//! that was right once is known again by a keyed hash (`rules::Identity`), and so are the last wrong ones,
//! with their users; one that is being checked is not checked a second time meanwhile.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use argon2::password_hash::{Output, PasswordHash, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use super::login_queue::{LoginQueue, Turn, User};
use super::rules::{Identity, PasswordTag, Rules};
use base::allocator;
use base::error::{Code, Result, ServingError};
use base::panics;
use net::peer::{ConnectionNumber, Peer, Source};
use net::shares::Shares;

/// Checks that run at a time, where there are processors for them: each has its memory.
const MAX_RUNNING: usize = 2;
/// Callers that wait, altogether and on one connection; beyond, they are sent away. Each holds the
/// headers of its request.
const MAX_CALLERS: usize = 4096;
const MAX_CALLERS_OF_ONE: usize = 256;
/// Headers that waiting callers hold together.
const MAX_CALLERS_BYTES: usize = 32 << 20;
/// Wrong logins that are known again.
const MAX_WRONG: usize = 4096;
/// How much later a caller is sent away for whom there is no room. Those who guess would be back
/// immediately, and leave even less.
const AWAY_AFTER: Duration = Duration::from_secs(1);
/// How much later a wrong login is answered for each other one of the same user and source that waits,
/// and at most: who guesses on many connections has most of them wait for their answers and not before
/// the user.
const WRONG_AFTER_EACH: Duration = Duration::from_millis(200);
const MAX_WRONG_AFTER: Duration = Duration::from_secs(10);
/// A thread without a check to run keeps its memory for so long.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// By how much the priority of checks is lower than that of requests.
const NICENESS: i32 = 5;

/// The longest password. Those that wait are held in memory.
const MAX_PASSWORD_BYTES: usize = 4096;

/// What a hash in the file may cost at most, in KiB, passes and lanes: each check pays it.
const MAX_MEMORY_KIB: u32 = 256 << 10;
const MAX_PASSES: u32 = 32;
const MAX_LANES: u32 = 16;

/// The checks that run and wait.
pub(super) struct PasswordChecks {
    shared: Arc<Shared>,
    callers: Shares,
    callers_bytes: AtomicUsize,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A check has come.
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: LoginQueue<Arc<Check>>,
    /// Those that run or wait.
    checks: HashMap<Key, Arc<Check>>,
    wrong: Wrong,
    threads: usize,
    idle: usize,
}

/// The last logins that were wrong.
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

/// Of which user, and the keyed hash of the password.
type Key = (User, PasswordTag);

struct Check {
    key: Key,
    /// The keyed hash of what the user is called, its password and the hash that this is compared with.
    login: PasswordTag,
    /// Whose hash it is compared with; the user's own if there is one.
    costs_as: Arc<Identity>,
    password: Vec<u8>,
    outcome: watch::Sender<Outcome>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Unknown,
    Right,
    Wrong,
    Panicked,
}

/// A caller that waits, with so many bytes of headers.
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

    /// The identity of this user name, if the password is its. The caller holds so many bytes meanwhile.
    ///
    /// A wrong user name costs what a wrong password does, so that the two cannot be told apart.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` if too many of this client, its source or altogether wait.
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
                outcome: watch::Sender::new(Outcome::Unknown),
            },
        );
        let outcome = match submitted {
            // Its sender goes where the check had to make room for another.
            Ok(mut outcome) => {
                let known = outcome.wait_for(|it| *it != Outcome::Unknown).await;
                known.map(|it| *it).ok()
            }
            Err(_) => None,
        };
        let Some(outcome) = outcome else {
            tokio::time::sleep(AWAY_AFTER).await;
            return Err(exhausted());
        };
        peer.note_login(outcome == Outcome::Right);
        if outcome == Outcome::Wrong {
            let others = self.shared.waiting_of_user(peer.source(), &user_of(found));
            let others = u32::try_from(others).unwrap_or(u32::MAX);
            let pause = WRONG_AFTER_EACH.saturating_mul(others);
            tokio::time::sleep(pause.min(MAX_WRONG_AFTER)).await;
        }
        drop(caller);
        match outcome {
            Outcome::Right => Ok(found),
            Outcome::Panicked => Err(panics::ended_abnormally("a password check")),
            Outcome::Wrong | Outcome::Unknown => Ok(None),
        }
    }

    /// Lets a caller wait.
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

    /// Has the password checked, unless the same is being checked already.
    fn submit(self: &Arc<Self>, peer: &Peer, check: Check) -> Result<watch::Receiver<Outcome>> {
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

    /// Starts a thread, which is counted already. Without any, nothing waits.
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
            let is_right = panics::round("a password check", || check.is_right(&mut memory));
            let outcome = match is_right {
                Some(true) => Outcome::Right,
                Some(false) => Outcome::Wrong,
                None => Outcome::Panicked,
            };
            let mut state = self.lock();
            state.checks.remove(&check.key);
            if outcome == Outcome::Wrong {
                state.wrong.note(check.login);
            }
            drop(state);
            check.outcome.send_replace(outcome);
        }
        drop(memory);
        allocator::release_freed();
    }

    /// Waits for a check; `None` where the thread has to end.
    fn next(&self) -> Option<Arc<Check>> {
        let mut state = self.lock();
        loop {
            while let Some(check) = state.queue.pop() {
                // Whoever asks for the same from now on finds it in the table.
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

/// Lowers the priority of this thread, where threads have one of their own.
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

/// Whether a password has this hash in PHC form; `None` for what is no such hash. `memory` is left as
/// large as it was needed.
fn is_password(phc: &str, password: &[u8], memory: &mut Vec<Block>) -> Option<bool> {
    let hash = PasswordHash::new(phc).ok()?;
    let algorithm = Algorithm::try_from(hash.algorithm).ok()?;
    let version = hash.version.map(Version::try_from).transpose().ok()?;
    let params = Params::try_from(&hash).ok()?;
    let mut salt = [0; Salt::MAX_LENGTH];
    let salt = hash.salt?.decode_b64(&mut salt).ok()?;
    let expected = hash.hash?;
    if memory.len() < params.block_count() {
        memory.resize(params.block_count(), Block::new());
    }
    let mut computed = vec![0; expected.len()];
    Argon2::new(algorithm, version.unwrap_or_default(), params)
        .hash_password_into_with_memory(password, salt, &mut computed, &mut memory[..])
        .ok()?;
    // Compared in a time that tells nothing.
    Some(Output::new(&computed).ok()? == expected)
}

/// Whether a text is an Argon2 hash in PHC form, of bearable cost.
pub(super) fn is_argon2(phc: &str) -> bool {
    let Ok(hash) = PasswordHash::new(phc) else {
        return false;
    };
    let is_algorithm = argon2::Algorithm::try_from(hash.algorithm).is_ok();
    let is_bearable = argon2::Params::try_from(&hash).is_ok_and(|cost| {
        cost.m_cost() <= MAX_MEMORY_KIB && cost.t_cost() <= MAX_PASSES && cost.p_cost() <= MAX_LANES
    });
    is_algorithm && is_bearable && hash.salt.is_some() && hash.hash.is_some()
}

/// The Argon2 hash of a password in PHC form, with a salt of its own and the costs that the
/// algorithm's authors recommend.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a password that is too long, `INTERNAL` where the hash cannot be made.
pub fn hash_password(password: &[u8]) -> Result<String> {
    if password.len() > MAX_PASSWORD_BYTES {
        let text = format!("a password has at most {MAX_PASSWORD_BYTES} bytes");
        return Err(ServingError::invalid_argument(text));
    }
    let mut salt = [0; Salt::RECOMMENDED_LENGTH];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| ServingError::internal("the system has no random numbers"))?;
    let hash = SaltString::encode_b64(&salt).and_then(|salt| {
        Ok(Argon2::default()
            .hash_password(password, &salt)?
            .to_string())
    });
    hash.map_err(|error| ServingError::internal(error.to_string()))
}
