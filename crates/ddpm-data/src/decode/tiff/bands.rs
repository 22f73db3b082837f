use crate::error::Fault;

const PHOTOMETRIC: u64 = 262;
/// "Black is zero": what the library hands out untouched, however many samples a pixel has.
const BLACK_IS_ZERO: u64 = 1;

/// A copy of a TIFF whose first page is said to be bands without a colour, and the PhotometricInterpretation it had.
///
/// The library refuses palettes, grey with alpha and more by that tag alone, and drops samples or inverts them by it.
pub(super) fn split(bytes: &[u8]) -> Result<(Vec<u8>, u16), Fault> {
    let cut = || super::bad("it is cut off in its first directory");
    let big_endian = bytes.starts_with(b"MM");
    let number = |at: u64, len: u64| read(bytes, at, len, big_endian);
    // BigTIFF: longer counts and offsets
    let big = number(2, 2).ok_or_else(cut)? == 43;
    let (first, count_len, entry_len, value_at) = match big {
        true => (number(8, 8), 8, 20, 12),
        false => (number(4, 4), 2, 12, 8),
    };
    let first = first.ok_or_else(cut)?;
    let entries = number(first, count_len).ok_or_else(cut)?;
    for index in 0..entries {
        let at = index
            .checked_mul(entry_len)
            .and_then(|at| at.checked_add(first)?.checked_add(count_len))
            .ok_or_else(cut)?;
        if number(at, 2).ok_or_else(cut)? != PHOTOMETRIC {
            continue;
        }
        // a SHORT; some write a LONG
        let len = match number(at + 2, 2) {
            Some(3) => 2,
            Some(4) => 4,
            _ => return Err(super::bad("its PhotometricInterpretation is no number")),
        };
        let value = number(at + value_at, len).ok_or_else(cut)?;
        let mut bands = bytes.to_vec();
        let place = (at + value_at) as usize;
        let black = match big_endian {
            true => BLACK_IS_ZERO.to_be_bytes()[8 - len as usize..].to_vec(),
            false => BLACK_IS_ZERO.to_le_bytes()[..len as usize].to_vec(),
        };
        bands[place..place + len as usize].copy_from_slice(&black);
        let value = u16::try_from(value)
            .map_err(|_| super::bad("its PhotometricInterpretation is no such number"))?;
        return Ok((bands, value));
    }
    Err(super::bad("it has no PhotometricInterpretation"))
}

/// The unsigned number of so many bytes; none beyond the end.
fn read(bytes: &[u8], at: u64, len: u64, big_endian: bool) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = bytes.get(at..at.checked_add(len as usize)?)?;
    let join = |number: u64, &byte: &u8| (number << 8) | u64::from(byte);
    Some(match big_endian {
        true => bytes.iter().fold(0, join),
        false => bytes.iter().rev().fold(0, join),
    })
}
