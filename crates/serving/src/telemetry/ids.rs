//! Identifies requests: request ids, and W3C's trace context.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The longest request id that is accepted from a client.
const MAX_ID_BYTES: usize = 128;

/// A request's id: visible ASCII characters, at most 128.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    /// A client's id. `None` if it has another form, because it could then break the lines of a log.
    pub fn from_client(bytes: &[u8]) -> Option<Self> {
        let is_fine = (1..=MAX_ID_BYTES).contains(&bytes.len())
            && bytes.iter().all(|byte| byte.is_ascii_graphic());
        let text = is_fine.then(|| std::str::from_utf8(bytes).ok()).flatten()?;
        Some(Self(text.to_owned()))
    }

    /// A new id of 32 hexadecimal digits.
    pub fn new_random() -> Self {
        Self(format!("{:016x}{:016x}", random(), random()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// 64 bits that differ from call to call and from process to process; not for secrets (SplitMix64
/// with a random start).
pub fn random() -> u64 {
    static STATE: LazyLock<AtomicU64> =
        LazyLock::new(|| AtomicU64::new(RandomState::new().hash_one(std::process::id())));
    let mut bits = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The header `traceparent` (W3C Trace Context): the trace and the span that made the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Not 0.
    pub trace_id: u128,
    /// The caller's span; not 0.
    pub span_id: u64,
    /// Bit 0: the caller records the trace.
    pub flags: u8,
}

impl TraceParent {
    /// Reads the header's value; `None` for a value that the standard says to ignore.
    pub fn parse(header: &[u8]) -> Option<Self> {
        /// `00-<32 digits>-<16 digits>-<2 digits>`.
        const LENGTH: usize = 55;
        let (known, rest) = header.split_at_checked(LENGTH)?;
        let version = hex(&known[..2])?;
        // Later versions can add fields after a dash.
        let ends_well = rest.is_empty() || (version > 0 && rest[0] == b'-');
        let dashes = [2, 35, 52].iter().all(|&at| known[at] == b'-');
        if version == 0xff || !ends_well || !dashes {
            return None;
        }
        let parent = Self {
            trace_id: hex(&known[3..35])?,
            span_id: u64::try_from(hex(&known[36..52])?).ok()?,
            flags: u8::try_from(hex(&known[53..])?).ok()?,
        };
        (parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
    }
}

/// Reads hexadecimal digits, which must be in lower case according to the standard.
fn hex(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_clients_are_taken_if_harmless() {
        for id in ["a", "7b1e-42_x.y/z", &"x".repeat(128)] {
            let taken = RequestId::from_client(id.as_bytes());
            assert_eq!(taken.unwrap().as_str(), id);
        }
        for id in [
            "",
            "a b",
            "a\tb",
            "a\nb",
            "\u{e9}",
            "a\u{7f}",
            &"x".repeat(129),
        ] {
            assert_eq!(RequestId::from_client(id.as_bytes()), None, "{id:?}");
        }
    }

    #[test]
    fn new_ids_differ() {
        let ids: std::collections::BTreeSet<_> = (0..1000).map(|_| random()).collect();
        assert_eq!(ids.len(), 1000);
        let id = RequestId::new_random();
        assert!(RequestId::from_client(id.as_str().as_bytes()).is_some());
        assert_eq!(id.as_str().len(), 32);
    }

    // W3C Trace Context, sections 3.2.2 and 4: its example, and values that must be ignored.
    #[test]
    fn traceparent_follows_the_standard() {
        let example = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let expected = TraceParent {
            trace_id: 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c,
            span_id: 0xb7ad_6b71_6920_3331,
            flags: 1,
        };
        for header in [
            example.to_owned(),
            example.replace("00-", "cc-"),
            example.replace("00-", "cc-") + "-more",
        ] {
            assert_eq!(
                TraceParent::parse(header.as_bytes()),
                Some(expected),
                "{header}"
            );
        }
        for header in [
            String::new(),
            example.to_uppercase(),
            example.replace("00-", "ff-"),
            example.replace("00-", "cc-") + "x",
            example.to_owned() + "-more",
            example.replace('7', "g"),
            example.replace("b7ad6b7169203331", "0000000000000000"),
            example.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            example[..54].to_owned(),
            example.replace('-', "_"),
        ] {
            assert_eq!(TraceParent::parse(header.as_bytes()), None, "{header}");
        }
    }
}
