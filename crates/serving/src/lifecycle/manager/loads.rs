//! Loads from beginning to end: threads, retries after failures, and the handling of results.
//!
//! A load holds a slot while its thread works on it. Between two tries it has neither thread nor
//! slot. A load that takes longer than `--model_load_timeout_seconds`, or that is no longer wanted,
//! gives its slot back; its thread ends later, and its result is dropped.
//!
//! Not here: which version loads next (`serving::lifecycle::policy`), the work of the thread
//! (`manager::load`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{info, info_span, warn};

use super::load::{LoadJob, LoadOutcome, cancelled};
use super::managed::{GivenUp, Left, Managed, Phase, Progress};
use super::threads::{MAX_STUCK_OF_VERSION, Ticket};
use super::{Shared, State};
use crate::lifecycle::PollWait;
use crate::lifecycle::signal::Signal;
use crate::servable::{Servable, ServableHandle};
use base::error::{Code, ServingError};
use base::id::ServableId;
use base::vocabulary::ManagerState;
use storage::local::{Files, Fingerprint};

/// After this many consecutive loads whose files changed meanwhile, the load counts as failed.
const MAX_UNSETTLED_LOADS: u32 = 8;
/// The first pause for files to settle. It doubles up to the last one.
const FIRST_SETTLE_PAUSE: Duration = Duration::from_millis(50);
const LAST_SETTLE_PAUSE: Duration = Duration::from_secs(4);
/// A load waits for the source to see the files if the source looks at least this often.
const LONGEST_SETTLING_POLL: Duration = Duration::from_secs(10);

impl Shared {
    /// Begins a load: the first one of a version, a retry, or the second one of a version that
    /// serves.
    pub(super) fn begin_load(
        self: &Arc<Self>,
        state: &mut State,
        id: ServableId,
        now: Instant,
    ) -> bool {
        let is_stuck = state.threads.stuck(&id) >= MAX_STUCK_OF_VERSION;
        let Some(managed) = state.registry.get_mut(&id) else {
            return false;
        };
        let is_first = match managed.phase {
            Phase::New => true,
            Phase::Loading(_) | Phase::Ready(..) => false,
            Phase::Draining(_) | Phase::Dropping | Phase::Failed { .. } => return false,
        };
        if is_first {
            info!("Successfully reserved resources to load servable {id}");
            info!("Approving load for servable version {id}");
            self.parts.monitor.publish(&id, ManagerState::Loading, None);
        }
        if is_stuck {
            managed.note_tried();
            self.end_failed(state, &id, &too_many_stuck(&id), true);
            return true;
        }
        let deadline = self.parts.options.model_load_timeout;
        let deadline = deadline.and_then(|timeout| now.checked_add(timeout));
        let (ticket, given_up) = state.threads.begin(id.clone(), now, deadline);
        managed.begin(ticket);
        let directory = managed.directory.clone();
        let is_polled_soon = match self.parts.options.file_system_poll_wait {
            PollWait::Every(interval) => interval <= LONGEST_SETTLING_POLL,
            PollWait::Once | PollWait::Never => false,
        };
        let wanted = managed.wanted(is_polled_soon);
        let (shared, loaded) = (Arc::clone(self), id.clone());
        let work =
            move || shared.load_on_this_thread(ticket, &loaded, directory, wanted, &given_up);
        let spawned = (self.spawn)("load", Box::new(work));
        if let Err(error) = spawned {
            state.threads.end(ticket);
            let text = format!("no thread for a load: {error}");
            let error = ServingError::new(Code::ResourceExhausted, text).caused_by(error);
            self.note_failure(state, &id, &error, now);
        }
        true
    }

    fn load_on_this_thread(
        &self,
        ticket: Ticket,
        id: &ServableId,
        directory: PathBuf,
        wanted: Option<Fingerprint>,
        given_up: &Arc<Signal>,
    ) {
        let _span = info_span!("load", servable = %id).entered();
        info!("Loading servable version {id}");
        let (outcome, found) = LoadJob {
            id,
            directory: &directory,
            loader: self.parts.loader.as_ref(),
            storage: self.parts.storage.as_ref(),
            wanted,
            given_up,
        }
        .run();
        let unused = self.finish_load(ticket, outcome, found);
        self.wakeup.wake();
        // Dropped while no lock is held.
        drop(unused);
    }

    /// Handles the result of a thread. Returns the servable if it is not used.
    fn finish_load(
        &self,
        ticket: Ticket,
        outcome: LoadOutcome,
        found: Option<Arc<Files>>,
    ) -> Option<Servable> {
        let now = Instant::now();
        let mut state = self.lock();
        let thread = state.threads.end(ticket)?;
        state.registry.room_was_made(now);
        let id = thread.id.clone();
        let managed = state.registry.get_mut(&id);
        let managed = managed.filter(|it| it.ticket() == Some(ticket));
        let Some(managed) = managed.filter(|_| !thread.is_given_up()) else {
            self.note_late_end(&mut state, &id, now - thread.began);
            return match outcome {
                LoadOutcome::Loaded(servable) => Some(servable),
                _ => None,
            };
        };
        managed.found(found.as_deref());
        match outcome {
            LoadOutcome::Loaded(servable) => {
                managed.loaded = found;
                self.serve(&mut state, &id, servable, now);
            }
            _ if managed.is_as_loaded() => managed.set_progress(None),
            LoadOutcome::Failed(error) => self.note_failure(&mut state, &id, &error, now),
            LoadOutcome::Unsettled => self.note_unsettled(&mut state, &id, now),
            LoadOutcome::NoRoom => {
                let wait = match state.threads.is_any_wanted() {
                    true => Progress::ForRoom,
                    false => Progress::Until(now),
                };
                self.wait(&mut state, &id, wait);
            }
        }
        None
    }

    fn wait(&self, state: &mut State, id: &ServableId, progress: Progress) {
        if let Some(managed) = state.registry.get_mut(id) {
            managed.set_progress(Some(progress));
        }
    }

    /// Makes a loaded version visible to requests. If the version already served, it is replaced.
    fn serve(&self, state: &mut State, id: &ServableId, servable: Servable, now: Instant) {
        let Some(managed) = state.registry.get_mut(id) else {
            return;
        };
        (managed.retries, managed.unsettled) = (0, 0);
        // The files can have changed again.
        let again = managed.has_changed().then_some(Progress::Until(now));
        let servable = Arc::new(servable);
        let wakeup = Arc::clone(&self.wakeup);
        let handle = ServableHandle::lend(&servable, move || wakeup.wake());
        self.parts.table.insert(handle);
        let before = std::mem::replace(&mut managed.phase, Phase::Ready(servable, again));
        if let Phase::Ready(before, _) = before {
            info!("Replaced servable version {id} by one of its files as they are now");
            state.replaced.push(before);
            return;
        }
        info!("Successfully loaded servable version {id}");
        self.parts
            .monitor
            .publish(id, ManagerState::Available, None);
    }

    /// Schedules a retry for a load that failed, if retries are left. If the files have changed
    /// since, the version is loaded again immediately.
    fn note_failure(&self, state: &mut State, id: &ServableId, error: &ServingError, now: Instant) {
        let Some(managed) = state.registry.get_mut(id) else {
            return;
        };
        if !managed.has_changed() {
            self.note_try(state, id, error, now);
            return;
        }
        warn_failed(id, error);
        info!("the files of {id} changed, loading it again");
        managed.retries = 0;
        managed.set_progress(Some(Progress::Until(now)));
    }

    fn note_try(&self, state: &mut State, id: &ServableId, error: &ServingError, now: Instant) {
        let options = &self.parts.options;
        let Some(managed) = state.registry.get_mut(id) else {
            return;
        };
        warn_failed(id, error);
        managed.unsettled = 0;
        if managed.retries == options.max_num_load_retries {
            self.end_failed(state, id, error, false);
            return;
        }
        managed.retries += 1;
        self.parts.monitor.note_failed_try(id, error);
        let (retry, max) = (managed.retries, options.max_num_load_retries);
        info!("Retrying of Loading servable: {id} retry: {retry} of {max}");
        managed.set_progress(Some(after(now, options.load_retry_interval)));
    }

    fn note_unsettled(&self, state: &mut State, id: &ServableId, now: Instant) {
        let Some(managed) = state.registry.get_mut(id) else {
            return;
        };
        managed.unsettled += 1;
        if managed.unsettled == MAX_UNSETTLED_LOADS {
            let text = format!("the files of {id} keep changing");
            self.note_try(state, id, &ServingError::new(Code::Aborted, text), now);
            return;
        }
        info!("the files of {id} changed while it was loaded, loading it again");
        let pause = FIRST_SETTLE_PAUSE * 2u32.saturating_pow(managed.unsettled - 1);
        managed.set_progress(Some(after(now, pause.min(LAST_SETTLE_PAUSE))));
    }

    /// Ends all tries of a load.
    fn end_failed(&self, state: &mut State, id: &ServableId, error: &ServingError, is_stuck: bool) {
        let Some(managed) = state.registry.get_mut(id) else {
            return;
        };
        if matches!(managed.phase, Phase::Ready(..)) {
            managed.set_progress(None);
            warn!(
                "the files of {id} changed, and loading them failed: the version that was loaded before goes \
                 on serving, until they change again: {}",
                error.report()
            );
            return;
        }
        managed.phase = Phase::Failed { is_stuck };
        self.parts
            .monitor
            .publish(id, ManagerState::End, Some(error));
    }

    /// Lets other loads begin while slow ones continue, and gives up those that have timed out.
    pub(super) fn give_up_overdue(&self, state: &mut State, now: Instant) {
        for id in state.threads.free_slow(now) {
            info!("the load of {id} takes long, others begin meanwhile");
        }
        self.give_up_outdated(state, now);
        for (ticket, id) in state.threads.overdue(now) {
            state.threads.give_up(ticket);
            state.registry.room_was_made(now);
            let timeout = self.parts.options.model_load_timeout.unwrap_or_default();
            let error = timed_out(&id, timeout);
            warn_failed(&id, &error);
            let managed = state.registry.get_mut(&id);
            let Some(managed) = managed.filter(|it| it.ticket() == Some(ticket)) else {
                continue;
            };
            if managed.has_changed() {
                managed.set_progress(Some(Progress::Until(now)));
            } else {
                self.end_failed(state, &id, &error, true);
            }
        }
    }

    /// Restarts slow loads whose files have changed, because their results would not be used.
    fn give_up_outdated(&self, state: &mut State, now: Instant) {
        for (ticket, id) in state.threads.slow(now) {
            let managed = state.registry.get_mut(&id);
            let managed = managed.filter(|it| it.ticket() == Some(ticket) && it.has_changed());
            if let Some(managed) = managed {
                info!("the files of {id} changed while it was loaded for long, loading it again");
                managed.set_progress(Some(Progress::Until(now)));
                state.threads.give_up(ticket);
                state.registry.room_was_made(now);
            }
        }
    }

    /// Ends loads that are no longer wanted, and reports it.
    pub(super) fn give_up(&self, state: &mut State, given_up: Vec<GivenUp>) {
        for GivenUp { id, ticket, left } in given_up {
            if let Some(ticket) = ticket {
                info!("the load of {id} is not wanted any more, its result will be dropped");
                state.threads.give_up(ticket);
                state.registry.room_was_made(Instant::now());
            }
            let monitor = &self.parts.monitor;
            match left {
                Left::Untried => monitor.publish(&id, ManagerState::End, None),
                Left::Unloaded => monitor.publish(&id, ManagerState::End, Some(&cancelled())),
                Left::Serving => {}
            }
        }
    }

    /// Handles the end of a load that was given up: its version can now be tried again.
    fn note_late_end(&self, state: &mut State, id: &ServableId, took: Duration) {
        info!(
            "the load of {id} that was given up has ended after {took:.1?}, its result is dropped"
        );
        let max_retries = self.parts.options.max_num_load_retries;
        let is_stuck = |it: &&mut Managed| matches!(it.phase, Phase::Failed { is_stuck: true });
        let managed = state.registry.get_mut(id).filter(is_stuck);
        if let Some(managed) = managed
            && managed.is_aspired
            && managed.retries < max_retries
        {
            managed.retries += 1;
            managed.phase = Phase::New;
            self.parts.monitor.publish(id, ManagerState::Start, None);
        }
    }
}

fn warn_failed(id: &ServableId, error: &ServingError) {
    let code = error.code();
    let report = error.report();
    warn!("Loading servable: {id} failed: {code}: {report}");
}

fn after(now: Instant, pause: Duration) -> Progress {
    // A clock cannot represent very long pauses; a year is as good.
    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
    Progress::Until(now + pause.min(YEAR))
}

fn timed_out(id: &ServableId, timeout: Duration) -> ServingError {
    let seconds = timeout.as_secs_f64();
    ServingError::new(
        Code::DeadlineExceeded,
        format!(
            "Loading of servable {id} has not ended after {seconds} s \
             (--model_load_timeout_seconds): it is not waited for any more"
        ),
    )
}

fn too_many_stuck(id: &ServableId) -> ServingError {
    ServingError::new(
        Code::ResourceExhausted,
        format!(
            "{MAX_STUCK_OF_VERSION} earlier loads of servable {id} have not ended: it is loaded \
             again when one of them has"
        ),
    )
}
