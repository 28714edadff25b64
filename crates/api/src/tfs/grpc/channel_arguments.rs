//! `--grpc_channel_arguments`: gRPC's names for settings that the HTTP/2 stack here has as well.

use std::time::Duration;

use base::error::{Result, ServingError};
use net::connection::ConnectionOptions;

/// gRPC's own default timeout for the answer to a keepalive ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

/// Applies a comma-separated list of `key=value` to `options`. Unsupported keys are logged and ignored, as
/// in gRPC.
///
/// # Errors
///
/// `INVALID_ARGUMENT` for an item without `=`, and for a number that is malformed or out of range.
pub fn apply(list: &str, options: &mut ConnectionOptions) -> Result<()> {
    let mut keepalive_time = None;
    let mut keepalive_timeout = KEEPALIVE_TIMEOUT;
    for item in list.split(',').filter(|item| !item.is_empty()) {
        let Some((key, value)) = item.split_once('=') else {
            return Err(ServingError::invalid_argument(format!(
                "grpc_channel_arguments: '{item}' is not key=value"
            )));
        };
        match key {
            "grpc.max_concurrent_streams" => {
                options.max_concurrent_streams = number(key, value, 1, u32::MAX)?;
            }
            // The range that HTTP/2 allows.
            "grpc.http2.max_frame_size" => {
                options.max_frame_bytes = number(key, value, 16_384, 16_777_215)?;
            }
            "grpc.max_connection_age_ms" => options.max_age = Some(millis(key, value)?),
            "grpc.max_connection_idle_ms" => options.idle_timeout = Some(millis(key, value)?),
            "grpc.keepalive_time_ms" => keepalive_time = Some(millis(key, value)?),
            "grpc.keepalive_timeout_ms" => keepalive_timeout = millis(key, value)?,
            _ => tracing::warn!("grpc_channel_arguments: {key} has no effect"),
        }
    }
    options.keepalive = keepalive_time.map(|time| (time, keepalive_timeout));
    Ok(())
}

fn number(key: &str, value: &str, min: u32, max: u32) -> Result<u32> {
    let number = value
        .parse::<u32>()
        .ok()
        .filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| {
        ServingError::invalid_argument(format!(
            "grpc_channel_arguments: {key}={value} is not a number from {min} to {max}"
        ))
    })
}

fn millis(key: &str, value: &str) -> Result<Duration> {
    // gRPC treats larger values as "never".
    number(key, value, 1, i32::MAX as u32).map(|millis| Duration::from_millis(millis.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use net::protocols::Protocols;

    fn applied(list: &str) -> Result<ConnectionOptions> {
        let mut options = ConnectionOptions::new(Protocols::Http2);
        apply(list, &mut options).map(|()| options)
    }

    #[test]
    fn known_arguments_are_applied() {
        let options = applied(
            "grpc.max_concurrent_streams=7,grpc.max_connection_age_ms=1500,unknown=x,\
             grpc.max_connection_idle_ms=700,grpc.keepalive_time_ms=9000,grpc.http2.max_frame_size=16384",
        )
        .unwrap();
        assert_eq!(options.max_concurrent_streams, 7);
        assert_eq!(options.max_frame_bytes, 16_384);
        assert_eq!(options.max_age, Some(Duration::from_millis(1500)));
        assert_eq!(options.idle_timeout, Some(Duration::from_millis(700)));
        assert_eq!(
            options.keepalive,
            Some((Duration::from_secs(9), KEEPALIVE_TIMEOUT))
        );
    }

    #[test]
    fn malformed_items_are_refused() {
        for list in [
            "novalue",
            "grpc.max_concurrent_streams=many",
            "grpc.keepalive_time_ms=-1",
        ] {
            assert!(applied(list).is_err(), "{list}");
        }
        assert!(applied("").is_ok());
    }
}
