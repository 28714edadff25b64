//! A call that has passed the door: its caller, deadline and place, and how it is counted.
//!
//! Not here: the checks (`layer`), the metrics (`request_metrics`).

use std::sync::Arc;
use std::time::Instant;

use super::auth::Caller;
use super::request_metrics::{AnsweredBy, Observation};
use base::error::{Code, Result, ServingError};
use base::vocabulary::Api;
use net::limit::Admitted;
use serving::servable::Servable;

/// A call that was admitted. It is counted once: by [`end`](Self::end), or as cancelled or failed if it is
/// dropped before.
pub struct CallContext {
    /// The end of the client's patience; `None` for no limit.
    pub deadline: Option<Instant>,
    api: Api,
    caller: Caller,
    admitted: Arc<Admitted>,
    observation: Observation,
}

impl CallContext {
    pub(super) fn new(
        api: Api,
        caller: Caller,
        admitted: Arc<Admitted>,
        observation: Observation,
    ) -> Self {
        Self {
            deadline: None,
            api,
            caller,
            admitted,
            observation,
        }
    }

    /// The caller.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The call's place, to be held until the answer is written: until then it counts for as much memory as
    /// the request.
    pub fn admitted(&self) -> &Arc<Admitted> {
        &self.admitted
    }

    /// Checks the models that a message names.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED`, for the first that the caller has no right to. It is counted.
    pub fn authorize<'a>(&mut self, models: impl IntoIterator<Item = &'a str>) -> Result<()> {
        for model in models {
            if let Err(error) = self.caller.may(self.api, model) {
                self.observation.restart(model);
                self.observation.count(error.code(), None);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Does not count the call if it ends before [`begin`](Self::begin).
    pub fn leave_uncounted(&mut self) {
        self.observation.leave_uncounted();
    }

    /// Counts and times the call from now on, under the model that its message names.
    pub fn begin(&mut self, model: &str) {
        self.observation.restart(model);
    }

    /// Notes the version that the call was resolved to, and its signature if the version has it, so that
    /// failures are counted with them, too.
    pub fn reached(&mut self, servable: &Servable, signature_name: Option<&str>) {
        self.observation.reached(servable, signature_name);
    }

    /// Counts the call as answered by this servable, or as failed.
    pub fn end(&mut self, outcome: std::result::Result<AnsweredBy<'_>, &ServingError>) {
        match outcome {
            Ok(answered_by) => self.end_with_code(Code::Ok, Some(answered_by)),
            Err(error) => self.end_with_code(error.code(), None),
        }
    }

    /// Counts the call as answered with this code.
    pub fn end_with_code(&mut self, code: Code, answered_by: Option<AnsweredBy<'_>>) {
        self.observation.count(code, answered_by);
    }
}
