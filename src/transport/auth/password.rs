//! Passwords: hashed once for the file, and checked off the async workers.
//!
//! Argon2 takes tens of milliseconds and of megabytes, on purpose. So few checks run at a time, and
//! a password that was right once is known again by a keyed hash (`rules::Identity`).

use std::sync::Arc;

use argon2::password_hash::{PasswordHash, Salt, SaltString};
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;

use super::rules::{Identity, Rules};
use crate::error::{Code, Result, ServingError};
use crate::panics;

/// Checks that run at a time: each has its memory.
const MAX_RUNNING: usize = 2;
/// Checks that run or wait; beyond, callers are sent away.
const MAX_WAITING: usize = 1024;

/// What a hash in the file may cost at most, in KiB, passes and lanes: each check pays it.
const MAX_MEMORY_KIB: u32 = 256 << 10;
const MAX_PASSES: u32 = 32;
const MAX_LANES: u32 = 16;

/// The bound on password checks under way.
pub(super) struct PasswordChecks {
    waiting: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

impl PasswordChecks {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
            running: Arc::new(Semaphore::new(MAX_RUNNING)),
        }
    }

    /// The identity of this user name, if the password is its.
    ///
    /// A wrong user name costs what a wrong password does, so that nobody can tell them apart.
    ///
    /// # Errors
    ///
    /// `RESOURCE_EXHAUSTED` if too many wait.
    pub(super) async fn check<'a>(
        &self,
        rules: &'a Arc<Rules>,
        user: &str,
        password: Vec<u8>,
    ) -> Result<Option<&'a Arc<Identity>>> {
        let found = rules.by_user(user);
        let is_known = || found.is_some_and(|it| rules.knows_password(it, &password));
        if is_known() {
            return Ok(found);
        }
        let Some(costs_as) = found.or_else(|| rules.any_with_password()).map(Arc::clone) else {
            return Ok(None);
        };
        let exhausted = || {
            ServingError::new(
                Code::ResourceExhausted,
                "too many passwords are being checked",
            )
        };
        let _waiting = self.waiting.try_acquire().map_err(|_| exhausted())?;
        let running = Arc::clone(&self.running).acquire_owned().await;
        let running = running.map_err(|_| exhausted())?;
        // Somebody before may have had the same password.
        if is_known() {
            return Ok(found);
        }
        let is_user = found.is_some();
        let rules = Arc::clone(rules);
        let checked = tokio::task::spawn_blocking(move || {
            // Held to the end, also where the client goes away before.
            let _running = running;
            let is_right = verify(&costs_as.password_argon2, &password) && is_user;
            if is_right {
                rules.remember_password(&costs_as, &password);
            }
            is_right
        });
        let is_right = checked
            .await
            .map_err(|_| panics::ended_abnormally("a password check"))?;
        Ok(found.filter(|_| is_right))
    }
}

fn verify(phc: &str, password: &[u8]) -> bool {
    PasswordHash::new(phc)
        .and_then(|hash| Argon2::default().verify_password(password, &hash))
        .is_ok()
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
/// `INTERNAL` where the hash cannot be made.
pub fn hash_password(password: &[u8]) -> Result<String> {
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
