//! The container before torch 1.6: pickles of a magic number, of the version, of the machine, of the object and of its
//! storages' keys, then each storage as a count and its numbers.

use std::collections::HashMap;
use std::ops::Range;

use super::input::Input;
use super::pickle::{Node, Pickle};
use super::storage::Storage;
use super::{Content, malformed};
use crate::error::Result;

/// The number 0x1950a86a20f9469cfc6c as a pickle, whatever its protocol.
const MAGIC: [u8; 13] = *b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e";
const VERSION: i64 = 1001;

pub(super) fn begins(head: &[u8]) -> bool {
    head.first() == Some(&super::pickle::PROTO) && head.get(2..15) == Some(MAGIC.as_slice())
}

/// Reads what [`begins`] so; none of its pickles may have more than `max_opcodes`.
pub(super) fn read(input: &mut Input<'_>, max_opcodes: u32) -> Result<Content> {
    input.skip(15)?;
    let version = Pickle::read_within(input, max_opcodes)?;
    let version = version.int(version.root());
    if version != Some(VERSION) {
        let problem = format!("its version is {version:?} where torch writes {VERSION}");
        return Err(malformed(input.path(), problem));
    }
    let machine = Pickle::read_within(input, max_opcodes)?;
    if let Node::Dict(entries) = machine.node(machine.root())
        && entries.iter().any(|&(key, value)| {
            machine.text(key) == Some("little_endian")
                && matches!(machine.node(value), Node::Bool(false))
        })
    {
        return Err(malformed(input.path(), super::archive::BIG_ENDIAN));
    }
    let pickle = Pickle::read_within(input, max_opcodes)?;
    let keys = Pickle::read_within(input, max_opcodes)?;
    let known = Storage::all(&pickle, input.path())?;
    let mut storages = HashMap::new();
    for &key in keys.sequence(keys.root()) {
        let Some(storage) = keys.text(key).and_then(|key| known.get(key)) else {
            let problem = "its list of storages has one that no tensor uses; the file was altered";
            return Err(malformed(input.path(), problem));
        };
        let numbers = input.u64()?;
        if numbers != storage.numbers {
            let problem = format!(
                "storage {} has {numbers} numbers and its tensors say {}; the file was altered, so take another copy",
                storage.key, storage.numbers
            );
            return Err(malformed(input.path(), problem));
        }
        let place = place(input, storage)?;
        storages.insert(storage.key.clone(), place);
    }
    Ok(Content { pickle, storages })
}

fn place(input: &mut Input<'_>, storage: &Storage) -> Result<Range<u64>> {
    let bytes = storage.bytes(input.path())?;
    input.skip(bytes)
}
