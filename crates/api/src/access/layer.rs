//! The one door in front of inference, for every API and both protocols. It identifies the caller, checks the
//! caller's right, takes a place within the limits, and starts to count the call.
//!
//! A port describes a request by its head and enters it here before it reads the body. A request that gets
//! no [`CallContext`] is refused and counted; nothing behind the door works without one.
//!
//! Not here: the rules (`auth`), the limits (`net::limit`), the form of a refusal (each port's).

use std::sync::Arc;

use http::Request;

use super::auth::{Auth, Caller};
use super::call_context::CallContext;
use super::request_metrics::Observation;
use base::error::Result;
use base::vocabulary::{Api, Protocol};
use net::head::Head;
use net::limit::{Admitted, ExemptCall, LoadShed};
use net::peer::Peer;
use serving::monitoring::Metrics;

/// The checks in front of all services of a server.
#[derive(Clone)]
pub struct Access {
    auth: Auth,
    load_shed: LoadShed,
    metrics: Arc<Metrics>,
}

/// The facts about a call that its head states.
#[derive(Clone, Copy, Debug)]
pub struct CallHead<'a> {
    /// The protocol of the port.
    pub protocol: Protocol,
    /// The call; `Other` if it is not one of inference or model management.
    pub api: Api,
    /// The model, if the head names it.
    pub model: Option<&'a str>,
    /// The right that the caller needs.
    pub right: Right,
    /// How the call counts towards the server's limits.
    pub counts_as: CountsAs,
}

/// The right that a call needs, if there are rules at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// None: load balancers have no credentials.
    Open,
    /// An identity.
    Identity,
    /// Permission to use the API, for the model that the head names. If it names none, for any model: the
    /// models are [checked](CallContext::authorize) once the message is read.
    Permission,
}

/// How a call counts towards the limits and in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CountsAs {
    /// As a request, in the limits and in the metrics.
    Request,
    /// As a request in the limits only.
    UncountedRequest,
    /// Towards limits of its own.
    Exempt(ExemptCall),
}

impl CountsAs {
    fn exempt(self) -> Option<ExemptCall> {
        match self {
            Self::Request | Self::UncountedRequest => None,
            Self::Exempt(exempt) => Some(exempt),
        }
    }
}

impl Access {
    /// Enforces these rules and limits, and counts calls in `metrics`.
    pub fn new(auth: Auth, load_shed: LoadShed, metrics: Arc<Metrics>) -> Self {
        Self {
            auth,
            load_shed,
            metrics,
        }
    }

    /// Whether callers need an identity at all.
    pub fn is_enforced(&self) -> bool {
        self.auth.is_enforced()
    }

    /// The right that the metrics pages need.
    pub fn right_to_metrics(&self) -> Right {
        match self.auth.guards_metrics() {
            true => Right::Identity,
            false => Right::Open,
        }
    }

    /// Identifies the caller, checks the right, and takes a place. Does not read the body. Refusals are
    /// counted.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED`; `PERMISSION_DENIED`;
    /// [`Overloaded`](base::error::ServingError::Overloaded).
    pub async fn enter<B>(
        &self,
        request: &mut Request<B>,
        call: &CallHead<'_>,
    ) -> Result<CallContext> {
        let model = call.model.unwrap_or_default();
        let mut observation = Observation::start(&self.metrics, call.protocol, call.api, model);
        match self.check(request, call).await {
            Ok((caller, admitted)) => {
                if call.counts_as != CountsAs::Request {
                    observation.leave_uncounted();
                }
                let admitted = Arc::new(admitted);
                Ok(CallContext::new(call.api, caller, admitted, observation))
            }
            Err(error) => {
                observation.count(error.code(), None);
                Err(error)
            }
        }
    }

    async fn check<B>(
        &self,
        request: &mut Request<B>,
        call: &CallHead<'_>,
    ) -> Result<(Caller, Admitted)> {
        let caller = match call.right {
            Right::Open => Caller::Anybody,
            Right::Identity | Right::Permission => {
                let peer = request.extensions().get::<Peer>().cloned();
                let peer = peer.unwrap_or_default();
                self.auth.authenticate(request.headers_mut(), &peer).await?
            }
        };
        match (call.right, call.model) {
            (Right::Permission, Some(model)) => caller.may(call.api, model)?,
            (Right::Permission, None) => caller.may_any(call.api)?,
            (Right::Open | Right::Identity, _) => {}
        }
        let head = Head::of(request);
        let admitted = self.load_shed.enter(call.counts_as.exempt(), &head).await?;
        Ok((caller, admitted))
    }
}
