//! CRC-32 with Castagnoli's polynomial, masked as TensorFlow and LevelDB store it.
//!
//! Not here: which bytes a checksum covers (`tfrecord`, `saved_model_import::checkpoint`).

/// CRC-32C, rotated and shifted so that checksums within the data do not weaken the checksum.
pub fn masked_crc32c(data: &[u8]) -> u32 {
    let mut crc = Crc32c::default();
    crc.extend(data);
    crc.masked()
}

/// The checksum of bytes that come in parts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Adds bytes. Eight at a time, because a checkpoint has gigabytes of them.
    pub fn extend(&mut self, data: &[u8]) {
        let mut crc = !self.0;
        let (eights, rest) = data.as_chunks::<8>();
        for eight in eights {
            let [a, b, c, d, e, f, g, h] = *eight;
            let low = crc ^ u32::from_le_bytes([a, b, c, d]);
            let at = |table: usize, byte: u32| TABLES[table][(byte & 0xff) as usize];
            crc = at(7, low)
                ^ at(6, low >> 8)
                ^ at(5, low >> 16)
                ^ at(4, low >> 24)
                ^ at(3, u32::from(e))
                ^ at(2, u32::from(f))
                ^ at(1, u32::from(g))
                ^ at(0, u32::from(h));
        }
        for &byte in rest {
            crc = TABLES[0][((crc ^ u32::from(byte)) & 0xff) as usize] ^ (crc >> 8);
        }
        self.0 = !crc;
    }

    /// The form in which files store it.
    pub fn masked(self) -> u32 {
        self.0.rotate_right(15).wrapping_add(0xa282_ead8)
    }
}

/// Table `n` gives the effect of a byte that `n` other bytes follow.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    /// The polynomial 0x1EDC6F41, its bits in reverse order.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut tables = [[0; 256]; 8];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            crc = (crc >> 1) ^ carry;
            bit += 1;
        }
        tables[0][index] = crc;
        index += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut index = 0;
        while index < 256 {
            let before = tables[table - 1][index];
            tables[table][index] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            index += 1;
        }
        table += 1;
    }
    tables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc32c(data: &[u8]) -> u32 {
        let mut crc = Crc32c::default();
        crc.extend(data);
        crc.0
    }

    // RFC 3720, appendix B.4, and the check value of the polynomial.
    #[test]
    fn crc_matches_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        let ascending: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&ascending), 0x46dd_794e);
    }

    #[test]
    fn parts_have_the_checksum_of_the_whole() {
        let data: Vec<u8> = (0..=255).collect();
        for split in [0, 1, 7, 8, 9, 250, 256] {
            let mut crc = Crc32c::default();
            crc.extend(&data[..split]);
            crc.extend(&data[split..]);
            assert_eq!(crc.masked(), masked_crc32c(&data), "{split}");
        }
    }
}
