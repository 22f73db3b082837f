//! The stack machine of Python's pickles over plain values (protocols 2 to 5, as `pickletools` documents them).
//!
//! Values lie in one vector and refer to each other by index, so what refers to itself, is nested deep or is used a
//! million times costs no more than the bytes that say so.

mod machine;

use std::ops::Range;

use super::input::Input;
use crate::error::Result;

pub(super) use machine::MAX_OPCODES;

/// The first byte of a pickle of protocol 2 or later.
pub(super) const PROTO: u8 = 0x80;

/// A value of a pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id(u32);

#[derive(Debug)]
pub(super) enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    /// Bytes, a long text or a large number: where it lies in the file.
    Bytes(Box<Range<u64>>),
    /// A list, tuple or set.
    Sequence(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// `module.name`
    Global(Box<str>),
    Made(Box<Made>),
    /// What lies outside of the pickle, by the value that names it.
    Persistent(Id),
}

/// What a call would have made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) maker: Id,
    pub(super) arguments: Id,
    /// Its attributes.
    pub(super) state: Option<Id>,
    /// Its entries, if it is a kind of dict.
    pub(super) entries: Vec<(Id, Id)>,
}

#[derive(Debug)]
pub(super) struct Pickle {
    nodes: Vec<Node>,
    root: Id,
}

impl Pickle {
    /// Reads one pickle, and leaves `input` behind it.
    pub(super) fn read(input: &mut Input<'_>) -> Result<Self> {
        Self::read_within(input, MAX_OPCODES)
    }

    /// [`read`](Self::read) with a limit on its opcodes.
    pub(super) fn read_within(input: &mut Input<'_>, max_opcodes: u32) -> Result<Self> {
        machine::run(input, max_opcodes)
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        self.nodes.get(id.0 as usize).unwrap_or(&Node::None)
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The elements of a list, tuple or set; none of anything else.
    pub(super) fn sequence(&self, id: Id) -> &[Id] {
        match self.node(id) {
            Node::Sequence(elements) => elements,
            _ => &[],
        }
    }

    pub(super) fn text(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn int(&self, id: Id) -> Option<i64> {
        match *self.node(id) {
            Node::Int(number) => Some(number),
            _ => None,
        }
    }

    /// The name of a function or class.
    pub(super) fn global(&self, id: Id) -> Option<&str> {
        match self.node(id) {
            Node::Global(name) => Some(name),
            _ => None,
        }
    }
}
