//! One line in the process log for each request, or for a share of them.

use super::random;
use super::record::{Finished, RequestRecord};
use base::error::Code;

/// Which requests are logged. The event's target is `onnx_model_server::access`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct AccessLog {
    /// `--access_log`.
    pub mode: AccessLogMode,
    /// `--access_log_sampling_rate`, from 0 to 1.
    pub sampling_rate: f64,
}

/// The values of `--access_log`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLogMode {
    /// None.
    #[default]
    Off,
    /// Requests that were answered with an error.
    Errors,
    /// Errors, and a share of the others.
    Sampled,
    /// All.
    All,
}

impl AccessLogMode {
    /// The mode with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "errors" => Some(Self::Errors),
            "sampled" => Some(Self::Sampled),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

impl AccessLog {
    pub(super) fn is_on(&self) -> bool {
        self.mode != AccessLogMode::Off
    }

    /// Logs the request, if the mode selects it.
    pub(super) fn write(
        &self,
        record: &RequestRecord,
        finished: &Finished,
        trace_id: Option<u128>,
    ) {
        if !self.selects(finished.is_error()) {
            return;
        }
        let (head, details) = (&record.head, &finished.details);
        let trace_id = trace_id.map(|id| format!("{id:032x}"));
        tracing::info!(
            target: "onnx_model_server::access",
            protocol = head.protocol,
            method = head.method,
            path = head.path,
            api = details.api,
            model = details.model,
            version = details.version,
            signature = details.signature,
            code = details.code.map(Code::name),
            http_status = details.http_status,
            duration_ms = (finished.elapsed.as_micros() as f64) / 1000.0,
            bytes_in = finished.bytes_in,
            bytes_out = finished.bytes_out,
            request_id = head.id.as_str(),
            trace_id,
            identity = details.identity,
            "request",
        );
    }

    fn selects(&self, is_error: bool) -> bool {
        match self.mode {
            AccessLogMode::Off => false,
            AccessLogMode::Errors => is_error,
            AccessLogMode::Sampled => is_error || is_sampled(self.sampling_rate, random()),
            AccessLogMode::All => true,
        }
    }
}

/// Whether the random number `bits` falls into this share of all numbers.
pub fn is_sampled(rate: f64, bits: u64) -> bool {
    // A double holds 53 bits: from 0 to just below 1.
    ((bits >> 11) as f64) / ((1u64 << 53) as f64) < rate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_takes_its_share() {
        for bits in [0, 1 << 63, u64::MAX] {
            assert!(is_sampled(1.0, bits));
            assert!(!is_sampled(0.0, bits));
        }
        assert!(is_sampled(0.25, (1 << 62) - 1));
        assert!(!is_sampled(0.25, 1 << 62));
        assert!(!is_sampled(f64::NAN, 0));
    }

    #[test]
    fn each_mode_selects_its_requests() {
        for (mode, rate, errors, others) in [
            ("off", 1.0, false, false),
            ("errors", 1.0, true, false),
            ("sampled", 0.0, true, false),
            ("sampled", 1.0, true, true),
            ("all", 0.0, true, true),
        ] {
            let log = AccessLog {
                mode: AccessLogMode::from_name(mode).unwrap(),
                sampling_rate: rate,
            };
            assert_eq!(
                (log.selects(true), log.selects(false)),
                (errors, others),
                "{mode}"
            );
        }
        assert_eq!(AccessLogMode::from_name("none"), None);
    }
}
