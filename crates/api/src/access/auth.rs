//! Authentication and authorization, for all transports.
//!
//! A transport calls `Auth::authenticate` with a request's headers, before its body is read, and then asks
//! the returned `Caller` for permission. A caller keeps the rules that it was authenticated by.
//!
//! Not here: reading and watching the file (`config`, `server`), verifying certificates (`net::tls`),
//! statuses of refusals (each transport's).

mod argon2_hash;
mod credential;
mod login_queue;
mod password;
mod rules;

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::HeaderMap;

use self::credential::Credential;
use self::password::PasswordChecks;
use self::rules::{Identity, Models, Rules};
use base::error::{Code, Result, ServingError};
use base::vocabulary::Api;
use net::head::headers_bytes;
use net::peer::Peer;
use proto::onnx_model_server::AuthConfig;
use serving::telemetry::note_identity;

pub use self::argon2_hash::hash_password;
pub use self::rules::hash_token;

/// The rules in force. By default there are none, and everyone is allowed to do everything.
#[derive(Clone, Default)]
pub struct Auth(Option<Arc<Enforced>>);

struct Enforced {
    rules: ArcSwap<Rules>,
    password_checks: PasswordChecks,
}

impl Auth {
    /// The rules of an `--auth_config_file`.
    ///
    /// # Errors
    ///
    /// `INVALID_ARGUMENT` for rules with no identity, with two of the same name or with one that lacks a
    /// credential, and for malformed hashes.
    pub fn try_new(config: &AuthConfig) -> Result<Self> {
        Ok(Self(Some(Arc::new(Enforced {
            rules: ArcSwap::from_pointee(Rules::try_new(config)?),
            password_checks: PasswordChecks::new(),
        }))))
    }

    /// Applies these rules to later requests. If an identity keeps its password hash, a password that was
    /// verified before need not be checked again, so that a change does not make everyone wait for a check.
    ///
    /// # Errors
    ///
    /// As [`try_new`](Self::try_new); then nothing changes.
    pub fn replace(&self, config: &AuthConfig) -> Result<()> {
        let mut rules = Rules::try_new(config)?;
        if let Some(enforced) = &self.0 {
            rules.know_passwords_of(&enforced.rules.load());
            enforced.rules.store(Arc::new(rules));
        }
        Ok(())
    }

    /// Whether there are rules at all.
    pub fn is_enforced(&self) -> bool {
        self.0.is_some()
    }

    /// Whether the metrics pages require authentication.
    pub(super) fn guards_metrics(&self) -> bool {
        self.0
            .as_ref()
            .is_some_and(|enforced| enforced.rules.load().metrics_need_identity)
    }

    /// Identifies the caller by the `Authorization` header or, without one, by the connection's
    /// certificate. The header is removed, so that no later code can leak it.
    ///
    /// # Errors
    ///
    /// `UNAUTHENTICATED` for missing or wrong credentials; `RESOURCE_EXHAUSTED` if too many passwords wait
    /// to be checked.
    pub async fn authenticate(&self, headers: &mut HeaderMap, peer: &Peer) -> Result<Caller> {
        let Some(enforced) = &self.0 else {
            return Ok(Caller::Anybody);
        };
        let rules = enforced.rules.load_full();
        let bytes = headers_bytes(headers);
        let found = match Credential::take(headers)? {
            Some(Credential::Bearer(token)) => rules.by_token(&token),
            Some(Credential::Basic { user, password }) => {
                enforced
                    .password_checks
                    .check(&rules, &user, password, peer, bytes)
                    .await?
            }
            None => match rules.by_certificate(peer.names()) {
                None => return Err(unauthenticated("authentication is required")),
                found => found,
            },
        };
        match found {
            Some(identity) => {
                note_identity(&identity.name);
                Ok(Caller::Known(Arc::clone(identity)))
            }
            None => Err(unauthenticated("the credentials are not valid")),
        }
    }
}

/// Prints no credentials.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Auth").field(&self.is_enforced()).finish()
    }
}

fn unauthenticated(reason: &str) -> ServingError {
    ServingError::new(Code::Unauthenticated, reason)
}

/// The identity of a caller.
#[derive(Clone, Debug)]
pub enum Caller {
    /// Any caller, because no rules are in force.
    Anybody,
    /// An identity from the rules.
    Known(Arc<Identity>),
}

impl Caller {
    /// Checks whether the caller is allowed to use this API for this model, which need not exist.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED`.
    pub fn may(&self, api: Api, model: &str) -> Result<()> {
        self.check(
            api,
            |models| models.contains(model),
            || format!("model '{}'", shortened(model)),
        )
    }

    /// Checks whether the caller is allowed to use this API for any model at all. More cannot be checked
    /// before the model's name is known.
    ///
    /// # Errors
    ///
    /// `PERMISSION_DENIED`.
    pub fn may_any(&self, api: Api) -> Result<()> {
        self.check(api, |models| !models.is_empty(), || "any model".to_owned())
    }

    fn check(
        &self,
        api: Api,
        is_allowed: impl FnOnce(&Models) -> bool,
        object: impl FnOnce() -> String,
    ) -> Result<()> {
        let Self::Known(identity) = self else {
            return Ok(());
        };
        let (models, verb) = match api {
            Api::Predict | Api::Classify | Api::Regress | Api::MultiInference => {
                (&identity.predict, "call")
            }
            Api::Metadata => (&identity.metadata, "read the metadata of"),
            Api::Status => (&identity.status, "read the status of"),
            Api::Reload => (&identity.admin, "configure"),
            // Not about a model: every known identity is allowed.
            Api::Other => return Ok(()),
        };
        if is_allowed(models) {
            return Ok(());
        }
        let text = format!("'{}' is not allowed to {verb} {}", identity.name, object());
        Err(ServingError::new(Code::PermissionDenied, text))
    }
}

/// Enough of the requested name for the client to recognise it.
fn shortened(model: &str) -> &str {
    const MAX_CHARS: usize = 100;
    match model.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => &model[..end],
        None => model,
    }
}

#[cfg(test)]
mod tests;
