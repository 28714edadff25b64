//! Single steps through the bytes of a JSON text.
//!
//! Not here: tokens (`syntax`, `string`, `number`).

/// The byte at `pos`. Zero at the end, as in RapidJSON's stream, so a zero byte in the body ends
/// the text.
#[inline(always)]
pub fn byte_at(text: &[u8], pos: usize) -> u8 {
    text.get(pos).copied().unwrap_or(0)
}

/// The first position from `pos` on that is not white space.
#[inline(always)]
pub fn skip_whitespace(text: &[u8], mut pos: usize) -> usize {
    while matches!(byte_at(text, pos), b' ' | b'\n' | b'\r' | b'\t') {
        pos += 1;
    }
    pos
}

/// Where the text starts after a byte order mark. RapidJSON tests the mark's three bytes one by
/// one, so any part of it in the right order is skipped.
pub fn skip_byte_order_mark(text: &[u8]) -> usize {
    let mut pos = 0;
    for byte in [0xEF, 0xBB, 0xBF] {
        pos += usize::from(byte_at(text, pos) == byte);
    }
    pos
}

/// The value of the digit at `pos`.
#[inline(always)]
pub(super) fn digit_at(text: &[u8], pos: usize) -> Option<u8> {
    let digit = byte_at(text, pos).wrapping_sub(b'0');
    (digit < 10).then_some(digit)
}
