//! The value of one flag as an address, a number, a time or a list. Not here: which option it is for
//! (`options`).

use std::fmt::Display;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use base::error::{Result, ServingError};

/// The address to listen on: `host` can be a name, or empty for `any`.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for a name without an address.
pub(super) fn address(host: &str, any: IpAddr, port: u16) -> Result<SocketAddr> {
    if host.is_empty() {
        return Ok((any, port).into());
    }
    let unknown = |reason: String| {
        ServingError::invalid_argument(format!("cannot listen on host '{host}': {reason}"))
    };
    let mut addresses = (host, port)
        .to_socket_addrs()
        .map_err(|error| unknown(error.to_string()))?;
    addresses
        .next()
        .ok_or_else(|| unknown("it has no address".to_owned()))
}

pub(super) fn seconds(name: &str, value: i32, min: i32) -> Result<Duration> {
    number(name, value, min).map(Duration::from_secs)
}

/// The value of a flag that is a limit.
///
/// # Errors
///
/// `INVALID_ARGUMENT` below `min`.
pub(super) fn number<T: TryFrom<i32>>(name: &str, value: i32, min: i32) -> Result<T> {
    let number = T::try_from(value).ok().filter(|_| value >= min);
    number.ok_or_else(|| too_small(name, value, min))
}

pub(super) fn too_small(name: &str, value: impl Display, min: i32) -> ServingError {
    ServingError::invalid_argument(format!("--{name}={value} is less than {min}"))
}

pub(super) fn not_one_of(name: &str, value: &str, expected: &str) -> ServingError {
    ServingError::invalid_argument(format!("--{name}={value}: expected one of {expected}"))
}

pub(super) fn share(name: &str, flag: f32) -> Result<f64> {
    if (0.0..=1.0).contains(&flag) {
        return Ok(flag.into());
    }
    let text = format!("--{name}={flag}: expected a number from 0 to 1");
    Err(ServingError::invalid_argument(text))
}

pub(super) fn folders(flag: &str) -> Vec<PathBuf> {
    let folders = flag.split(',').filter(|folder| !folder.is_empty());
    folders.map(PathBuf::from).collect()
}

pub(super) fn tags(flag: &str) -> Vec<String> {
    let tags = flag.split(',').filter(|tag| !tag.is_empty());
    tags.map(str::to_owned).collect()
}

/// The port of a flag, `None` for 0.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for an invalid port, as for TensorFlow Serving's failure to bind it.
pub(super) fn port(name: &str, flag: i32) -> Result<Option<u16>> {
    let port = u16::try_from(flag).map_err(|_| {
        ServingError::invalid_argument(format!("--{name}={flag} is not a port number"))
    })?;
    Ok(Some(port).filter(|&port| port != 0))
}

pub(crate) fn non_empty(flag: &str) -> Option<PathBuf> {
    (!flag.is_empty()).then(|| flag.into())
}
