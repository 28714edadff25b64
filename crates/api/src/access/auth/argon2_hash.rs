//! Argon2 hashes of passwords in PHC form: making, judging and comparing them.
//!
//! Not here: when a password is checked, and on which thread (`password`).

use argon2::password_hash::{Output, PasswordHash, Salt, SaltString};
use argon2::{Algorithm, Argon2, Block, Params, PasswordHasher, Version};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use base::error::{Result, ServingError};

/// The longest password. Waiting ones are held in memory.
pub(super) const MAX_PASSWORD_BYTES: usize = 4096;

/// The limits on the cost of a hash in the file, in KiB, passes and lanes: each check pays it.
const MAX_MEMORY_KIB: u32 = 256 << 10;
const MAX_PASSES: u32 = 32;
const MAX_LANES: u32 = 16;

/// Whether a password has this hash in PHC form; `None` if the hash is malformed. `memory` keeps the size
/// that was needed.
pub(super) fn is_password(phc: &str, password: &[u8], memory: &mut Vec<Block>) -> Option<bool> {
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
    // Compared in constant time.
    Some(Output::new(&computed).ok()? == expected)
}

/// Whether a text is an Argon2 hash in PHC form, of acceptable cost.
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

/// The Argon2 hash of a password in PHC form, with a random salt and the cost that the algorithm's authors
/// recommend.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a password that is too long, `INTERNAL` if hashing fails.
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
