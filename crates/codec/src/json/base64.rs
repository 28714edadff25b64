//! Base64 as Abseil reads it: only `+` and `/`, white space ignored, `.` allowed for `=`. Padding is
//! optional but must be right if present.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// Reads the usual form at full speed. Text that it refuses can still be valid.
const USUAL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Appends the decoded bytes of `text` to `out`. If `text` is not base64, returns `None` and leaves
/// `out` unchanged.
pub fn decode(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    // `Indifferent` also takes `YQ=`, so padded text must consist of whole groups of four.
    if text.last() != Some(&b'=') || text.len().is_multiple_of(4) {
        if USUAL.decode_vec(text, out).is_ok() {
            return Some(());
        }
        out.truncate(start);
    }
    let done = decode_loosely(text, out);
    if done.is_none() {
        out.truncate(start);
    }
    done
}

fn decode_loosely(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let is_padding = |byte: u8| matches!(byte, b'=' | b'.');
    let is_space = |byte: u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let data_end = text
        .iter()
        .position(|&byte| is_padding(byte))
        .unwrap_or(text.len());
    let (data, rest) = text.split_at(data_end);

    let mut bits: u32 = 0;
    let mut sextets = 0;
    for &byte in data.iter().filter(|&&byte| !is_space(byte)) {
        bits = bits << 6 | sextet(byte)?;
        sextets += 1;
        if sextets == 4 {
            out.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, sextets) = (0, 0);
        }
    }
    let wanted_padding = match sextets {
        0 => 0,
        2 => {
            out.push((bits >> 4) as u8);
            2
        }
        3 => {
            out.extend_from_slice(&(bits >> 2).to_be_bytes()[2..]);
            1
        }
        _ => return None,
    };

    if !rest.iter().all(|&byte| is_padding(byte) || is_space(byte)) {
        return None;
    }
    let padding = rest.iter().filter(|&&byte| is_padding(byte)).count();
    (padding == 0 || padding == wanted_padding).then_some(())
}

fn sextet(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

/// Appends `bytes` in base64 with padding.
pub fn encode(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    // The slice has exactly the size of the padded form; a wrong size is the only possible error.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert_eq!(written.ok(), Some(out.len() - start));
}
