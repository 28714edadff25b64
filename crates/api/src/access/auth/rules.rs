//! The rules of an `--auth_config_file`, checked and indexed by credential.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{digest, hmac};
use subtle::ConstantTimeEq;

use super::argon2_hash::is_argon2;
use base::error::{Result, ServingError};
use net::tls::PeerNames;
use proto::onnx_model_server::{self as pb, AuthConfig};

const TOKEN_HASH_LEN: usize = digest::SHA256_OUTPUT_LEN;

/// The keyed hash of a password (HMAC with SHA-256).
pub(super) type PasswordTag = [u8; digest::SHA256_OUTPUT_LEN];

/// All models.
const ALL: &str = "*";

/// The identities and their permissions. Immutable.
pub(super) struct Rules {
    tokens: Vec<([u8; TOKEN_HASH_LEN], Arc<Identity>)>,
    by_user: HashMap<String, Arc<Identity>>,
    by_certificate: HashMap<String, Arc<Identity>>,
    /// Created when the process starts, so the keyed hashes of passwords are useless elsewhere.
    password_key: hmac::Key,
    pub(super) metrics_need_identity: bool,
}

/// A caller that the rules name.
pub struct Identity {
    pub(crate) name: String,
    /// In PHC form; empty if there is none.
    pub(super) password_argon2: String,
    /// The keyed hash of the right password; unset until it was first sent.
    right_password: OnceLock<PasswordTag>,
    pub(super) predict: Models,
    pub(super) metadata: Models,
    pub(super) status: Models,
    pub(super) admin: Models,
}

/// A list of allowed models.
pub(super) enum Models {
    All,
    Listed(BTreeSet<String>),
}

impl Rules {
    /// # Errors
    ///
    /// Those of [`Auth::try_new`](super::Auth::try_new).
    pub(super) fn try_new(config: &AuthConfig) -> Result<Self> {
        if config.identity.is_empty() {
            // No client could call then. A truncated file looks like this.
            return Err(ServingError::invalid_argument("there is no identity"));
        }
        let password_key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map_err(|_| ServingError::internal("the system has no random numbers"))?;
        let mut rules = Self {
            tokens: Vec::new(),
            by_user: HashMap::new(),
            by_certificate: HashMap::new(),
            password_key,
            metrics_need_identity: config.metrics_need_identity,
        };
        let mut names = BTreeSet::new();
        for identity in &config.identity {
            if !names.insert(&identity.name) {
                return Err(wrong(identity, "is there twice"));
            }
            rules.add(identity)?;
        }
        Ok(rules)
    }

    fn add(&mut self, message: &pb::Identity) -> Result<()> {
        let identity = Arc::new(Identity::try_new(message)?);
        for hash in &message.token_sha256 {
            let hash = token_hash(hash)
                .ok_or_else(|| wrong(message, "has a token_sha256 that is not 64 hex digits"))?;
            if self.tokens.iter().any(|(other, _)| *other == hash) {
                return Err(wrong(message, "has a token that is there twice"));
            }
            self.tokens.push((hash, Arc::clone(&identity)));
        }
        if !message.password_argon2.is_empty() {
            if message.name.contains(':') {
                return Err(wrong(message, "has a colon, which no user name can have"));
            }
            if !is_argon2(&message.password_argon2) {
                return Err(wrong(
                    message,
                    "has a password_argon2 that is not an Argon2 hash, or is too expensive",
                ));
            }
            self.by_user
                .insert(message.name.clone(), Arc::clone(&identity));
        }
        for subject in &message.certificate_subject {
            if subject.is_empty() {
                return Err(wrong(message, "has an empty certificate_subject"));
            }
            let other = self
                .by_certificate
                .insert(subject.clone(), Arc::clone(&identity));
            if other.is_some() {
                return Err(wrong(
                    message,
                    "has a certificate_subject that is there twice",
                ));
            }
        }
        Ok(())
    }

    /// Compares with every token, in a time that reveals nothing about them.
    pub(super) fn by_token(&self, token: &[u8]) -> Option<&Arc<Identity>> {
        let hash = digest::digest(&digest::SHA256, token);
        let mut found = None;
        for (known, identity) in &self.tokens {
            if bool::from(known.ct_eq(hash.as_ref())) {
                found = Some(identity);
            }
        }
        found
    }

    /// The identity of the first of these names that has one.
    pub(super) fn by_certificate(&self, names: &PeerNames) -> Option<&Arc<Identity>> {
        names.iter().find_map(|name| self.by_certificate.get(name))
    }

    /// The identity with this name, if it has a password.
    pub(super) fn by_user(&self, name: &str) -> Option<&Arc<Identity>> {
        self.by_user.get(name)
    }

    pub(super) fn any_with_password(&self) -> Option<&Arc<Identity>> {
        self.by_user.values().next()
    }

    /// Takes over the passwords that were right under the `earlier` rules, for identities with an unchanged
    /// hash.
    pub(super) fn know_passwords_of(&mut self, earlier: &Self) {
        self.password_key = earlier.password_key.clone();
        for (name, identity) in &self.by_user {
            let before = earlier.by_user.get(name);
            let before = before.filter(|it| it.password_argon2 == identity.password_argon2);
            if let Some(tag) = before.and_then(|it| it.right_password.get()) {
                identity.remember_password(*tag);
            }
        }
    }

    /// The keyed hash of a login, which changes when the user gets another password.
    pub(super) fn login_tag(&self, phc: &str, user: &str, password: &[u8]) -> PasswordTag {
        let mut context = hmac::Context::with_key(&self.password_key);
        for part in [phc.as_bytes(), user.as_bytes(), password] {
            context.update(&part.len().to_be_bytes());
            context.update(part);
        }
        let mut bytes = [0; TOKEN_HASH_LEN];
        bytes.copy_from_slice(context.sign().as_ref());
        bytes
    }

    /// The keyed hash of a password.
    pub(super) fn password_tag(&self, password: &[u8]) -> PasswordTag {
        let tag = hmac::sign(&self.password_key, password);
        let mut bytes = [0; TOKEN_HASH_LEN];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }
}

impl Identity {
    /// Whether the password with this keyed hash was right before.
    pub(super) fn has_password(&self, tag: &PasswordTag) -> bool {
        let known = self.right_password.get();
        known.is_some_and(|known| known.ct_eq(tag).into())
    }

    /// Remembers that the password with this keyed hash is right.
    pub(super) fn remember_password(&self, tag: PasswordTag) {
        // Another check of the same password might have been quicker.
        let _ = self.right_password.set(tag);
    }

    fn try_new(message: &pb::Identity) -> Result<Self> {
        if message.name.is_empty() {
            return Err(ServingError::invalid_argument("an identity has no name"));
        }
        if message.token_sha256.is_empty()
            && message.password_argon2.is_empty()
            && message.certificate_subject.is_empty()
        {
            return Err(wrong(message, "has no credential"));
        }
        Ok(Self {
            name: message.name.clone(),
            password_argon2: message.password_argon2.clone(),
            right_password: OnceLock::new(),
            predict: Models::new(&message.predict),
            metadata: Models::new(&message.metadata),
            status: Models::new(&message.status),
            admin: Models::new(&message.admin),
        })
    }
}

/// Prints only the name: the rest is secret.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.name).finish()
    }
}

impl Models {
    fn new(names: &[String]) -> Self {
        if names.iter().any(|name| name == ALL) {
            Self::All
        } else {
            Self::Listed(names.iter().cloned().collect())
        }
    }

    pub(super) fn contains(&self, model: &str) -> bool {
        match self {
            Self::All => true,
            Self::Listed(names) => names.contains(model),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Listed(names) if names.is_empty())
    }
}

fn wrong(identity: &pb::Identity, what: &str) -> ServingError {
    ServingError::invalid_argument(format!("identity '{}' {what}", identity.name))
}

fn token_hash(hex: &str) -> Option<[u8; TOKEN_HASH_LEN]> {
    let digits: Option<Vec<u8>> = hex
        .chars()
        .map(|digit| digit.to_digit(16).and_then(|it| u8::try_from(it).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() == 2 * TOKEN_HASH_LEN)?;
    let mut hash = [0; TOKEN_HASH_LEN];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Some(hash)
}

/// The `token_sha256` of a token.
pub fn hash_token(token: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, token);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
