//! The zip archive that `torch.save` writes: `NAME/data.pkl`, and each storage as `NAME/data/KEY`.
//!
//! torch packs nothing, so that it can map storages into memory; what another program has packed is refused, and with it
//! whatever unpacks to more than it takes. The directory's form: PKWARE's APPNOTE 6.3, sections 4.3.12 to 4.3.16.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;

use super::input::Input;
use super::pickle::Pickle;
use super::{Content, malformed};
use crate::error::Result;

pub(super) const BIG_ENDIAN: &str =
    "its numbers are big-endian, which is not supported; save it again on another machine";

const END: &[u8] = b"PK\x05\x06";
const END_BYTES: u64 = 22;
/// A comment of at most 64 KiB may follow the end.
const MAX_END_BYTES: u64 = END_BYTES + 0xffff;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;
const LOCATOR_64_BYTES: u64 = 20;
const ENTRY: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// A tensor each, at most: [`Pickle`] has the same bound.
const MAX_ENTRIES: u64 = 100_000;

pub(super) fn read(path: &Path, file: &File, bytes: u64) -> Result<Content> {
    let entries = directory(path, file, bytes)?;
    let named = |suffix: &str| {
        entries.iter().find(|(name, _)| {
            name.strip_suffix(suffix)
                .is_some_and(|top| !top.contains('/'))
        })
    };
    let Some((name, place)) = named("/data.pkl") else {
        let problem = "the archive has no data.pkl, so it is not one of `torch.save`";
        return Err(malformed(path, problem));
    };
    if named("/constants.pkl").is_some() {
        let problem = "this is a TorchScript program, not weights; save the `state_dict()` of the model instead";
        return Err(malformed(path, problem));
    }
    if let Some((_, order)) = named("/byteorder") {
        let order = located(path, file, bytes, order)?;
        let length = (order.end - order.start).min(6) as usize;
        if Input::new(path, file, order)?.bytes(length)? != b"little" {
            return Err(malformed(path, BIG_ENDIAN));
        }
    }
    let pickle = located(path, file, bytes, place)?;
    let pickle = Pickle::read(&mut Input::new(path, file, pickle)?)?;
    let folder = format!("{}/data/", name.trim_end_matches("/data.pkl"));
    let mut storages = HashMap::new();
    for (name, place) in &entries {
        if let Some(key) = name.strip_prefix(&folder) {
            storages.insert(key.to_owned(), located(path, file, bytes, place)?);
        }
    }
    Ok(Content { pickle, storages })
}

/// Where an entry's header lies, and how many bytes follow it.
struct Place {
    header: u64,
    bytes: u64,
}

/// All entries by name.
fn directory(path: &Path, file: &File, bytes: u64) -> Result<Vec<(String, Place)>> {
    let broken = |problem: &str| {
        malformed(
            path,
            format!("{problem}; the file was cut or altered, so take another copy"),
        )
    };
    let tail = bytes.saturating_sub(MAX_END_BYTES)..bytes;
    let tail_start = tail.start;
    let tail = Input::new(path, file, tail)?.bytes((bytes - tail_start) as usize)?;
    let end = tail.windows(END.len()).rposition(|window| window == END);
    let end = end.ok_or_else(|| broken("the archive has no end"))? as u64 + tail_start;
    let mut input = Input::new(path, file, end..bytes)?;
    input.skip(10)?;
    let mut count = u64::from(input.u16()?);
    let mut length = u64::from(input.u32()?);
    let mut start = u64::from(input.u32()?);
    if u64::from(input.u16()?) != input.rest() {
        return Err(broken("the archive's end is not the file's"));
    }
    if count == 0xffff || length == 0xffff_ffff || start == 0xffff_ffff {
        let locator = end.saturating_sub(LOCATOR_64_BYTES);
        let mut input = Input::new(path, file, locator..end)?;
        if input.u32()? == LOCATOR_64 {
            input.skip(4)?;
            let end_64 = input.u64()?;
            if end_64 > end {
                return Err(broken("the archive's end lies outside of the file"));
            }
            let mut input = Input::new(path, file, end_64..end)?;
            if input.u32()? != END_64 {
                return Err(broken("the archive has no end"));
            }
            input.skip(28)?;
            count = input.u64()?;
            length = input.u64()?;
            start = input.u64()?;
        }
    }
    if count > MAX_ENTRIES {
        let problem =
            format!("the archive has {count} entries, and no checkpoint has over {MAX_ENTRIES}");
        return Err(malformed(path, problem));
    }
    if start.checked_add(length).is_none_or(|stop| stop > end) {
        return Err(broken("the archive's directory lies outside of the file"));
    }
    let mut input = Input::new(path, file, start..start + length)?;
    (0..count).map(|_| entry(&mut input)).collect()
}

fn entry(input: &mut Input<'_>) -> Result<(String, Place)> {
    let path = input.path();
    if input.u32()? != ENTRY {
        let problem = "the archive's directory is not what it should be; the file was altered, so take another copy";
        return Err(malformed(path, problem));
    }
    input.skip(4)?;
    let flags = input.u16()?;
    let method = input.u16()?;
    input.skip(8)?;
    let packed = input.u32()?;
    let unpacked = input.u32()?;
    let [name, extra, comment] = [input.u16()?, input.u16()?, input.u16()?];
    input.skip(8)?;
    let header = input.u32()?;
    let name = String::from_utf8_lossy(&input.bytes(name.into())?).into_owned();
    let mut extra = {
        let bytes = input.bytes(extra.into())?;
        wide(&bytes).into_iter()
    };
    input.skip(comment.into())?;
    // Sizes and places that do not fit 32 bits follow in this order.
    let mut whole = |narrow: u32| match narrow {
        u32::MAX => extra.next().unwrap_or(u64::MAX),
        _ => narrow.into(),
    };
    let (unpacked, packed, header) = (whole(unpacked), whole(packed), whole(header));
    if method != 0 || flags & 1 != 0 || packed != unpacked {
        let problem = format!(
            "`{name}` is packed or encrypted, and torch writes neither; save the file again with `torch.save`"
        );
        return Err(malformed(path, problem));
    }
    Ok((
        name,
        Place {
            header,
            bytes: unpacked,
        },
    ))
}

/// The numbers of an entry's extra field 1, "zip64".
fn wide(mut extra: &[u8]) -> Vec<u64> {
    while let [a, b, c, d, rest @ ..] = extra {
        let length = usize::from(u16::from_le_bytes([*c, *d])).min(rest.len());
        let (field, after) = rest.split_at(length);
        if u16::from_le_bytes([*a, *b]) == 1 {
            let (numbers, _) = field.as_chunks::<8>();
            return numbers.iter().map(|&n| u64::from_le_bytes(n)).collect();
        }
        extra = after;
    }
    Vec::new()
}

/// Where an entry's bytes lie: behind its header, whose length is its own.
fn located(path: &Path, file: &File, bytes: u64, place: &Place) -> Result<Range<u64>> {
    let mut input = Input::new(path, file, place.header.min(bytes)..bytes)?;
    if input.u32()? != LOCAL {
        let problem = "an entry of the archive does not begin where its directory says; the file was altered, so take \
                       another copy";
        return Err(malformed(path, problem));
    }
    input.skip(22)?;
    let skipped = u64::from(input.u16()?) + u64::from(input.u16()?);
    input.skip(skipped)?;
    input.skip(place.bytes)
}
