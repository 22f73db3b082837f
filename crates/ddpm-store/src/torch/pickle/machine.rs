//! The machine: a stack of values, marks in it, and a memory of values by number.

mod calls;

use std::collections::HashMap;

use super::{Id, Node, PROTO, Pickle};
use crate::error::{Result, StoreError};
use crate::torch::input::Input;
use crate::torch::malformed;

/// Some 20 opcodes and 10 values make a tensor, so this is a model of 40,000. Together they bound the memory of any
/// pickle to some 50 MiB.
pub(in crate::torch) const MAX_OPCODES: u32 = 3 << 20;
const MAX_VALUES: usize = 400_000;
const MAX_TEXT_BYTES: usize = 8 << 20;
/// Longer texts (sources of programs) stay in the file.
const MAX_TEXT: u64 = 4096;

/// The values that every pickle begins with, which are everybody's.
const NONE: Id = Id(0);
const FALSE: Id = Id(1);
const TRUE: Id = Id(2);
const EMPTY: Id = Id(3);

/// Reads one pickle of at most so many opcodes.
pub(super) fn run(input: &mut Input<'_>, max_opcodes: u32) -> Result<Pickle> {
    let mut machine = Machine {
        input,
        nodes: vec![
            Node::None,
            Node::Bool(false),
            Node::Bool(true),
            Node::Sequence(Vec::new()),
        ],
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        text_bytes: 0,
        copied: 0,
    };
    let root = machine.run(max_opcodes)?;
    Ok(Pickle {
        nodes: machine.nodes,
        root,
    })
}

struct Machine<'a, 'b> {
    input: &'a mut Input<'b>,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    text_bytes: usize,
    /// Elements that calls have copied from other values.
    copied: usize,
}

impl Machine<'_, '_> {
    fn run(&mut self, max_opcodes: u32) -> Result<Id> {
        for _ in 0..max_opcodes {
            if let Some(root) = self.step()? {
                return Ok(root);
            }
        }
        Err(self.too_many("opcodes", max_opcodes as usize))
    }

    /// One opcode; the whole object at the last.
    fn step(&mut self) -> Result<Option<Id>> {
        let at = self.input.at();
        let opcode = self.input.u8()?;
        match opcode {
            PROTO => {
                let protocol = self.input.u8()?;
                if !(2..=5).contains(&protocol) {
                    return Err(self.broken(format!("pickle protocol {protocol} is not known")));
                }
            }
            // FRAME says how much to read ahead.
            0x95 => drop(self.input.u64()?),
            b'.' => return Ok(Some(self.pop()?)),

            b'(' => self.marks.push(self.stack.len()),
            b'0' => match self.stack.len() == self.floor() {
                // What is popped above a mark is the mark itself.
                true => drop(self.marks.pop()),
                false => drop(self.pop()?),
            },
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }

            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'J' => {
                let number = i32::from_le_bytes(self.input.array()?);
                self.push(Node::Int(number.into()))?;
            }
            b'K' => {
                let number = self.input.u8()?;
                self.push(Node::Int(number.into()))?;
            }
            b'M' => {
                let number = self.input.u16()?;
                self.push(Node::Int(number.into()))?;
            }
            0x8a => {
                let length = self.input.u8()?;
                self.long(length.into())?;
            }
            0x8b => {
                let length = self.input.u32()?;
                self.long(length.into())?;
            }
            b'G' => {
                let number = f64::from_be_bytes(self.input.array()?);
                self.push(Node::Float(number))?;
            }

            // Texts of Python 3 in UTF-8, and those of Python 2.
            0x8c | b'U' => {
                let length = self.input.u8()?;
                self.text(length.into())?;
            }
            b'X' | b'T' => {
                let length = self.input.u32()?;
                self.text(length.into())?;
            }
            0x8d => {
                let length = self.input.u64()?;
                self.text(length)?;
            }
            b'C' => {
                let length = self.input.u8()?;
                self.bytes(length.into())?;
            }
            b'B' => {
                let length = self.input.u32()?;
                self.bytes(length.into())?;
            }
            0x8e | 0x96 => {
                let length = self.input.u64()?;
                self.bytes(length)?;
            }

            b')' => self.stack.push(EMPTY),
            b']' | 0x8f => self.push(Node::Sequence(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b't' | 0x91 => {
                let elements = self.pop_mark()?;
                self.push(Node::Sequence(elements))?;
            }
            0x85..=0x87 => {
                let elements = self.pop_many(usize::from(opcode - 0x84))?;
                self.push(Node::Sequence(elements))?;
            }
            b'a' => {
                let element = self.pop()?;
                self.append(vec![element])?;
            }
            b'e' | 0x90 => {
                let elements = self.pop_mark()?;
                self.append(elements)?;
            }
            b's' => {
                let entry = self.pop_many(2)?;
                self.insert(entry)?;
            }
            b'u' => {
                let entries = self.pop_mark()?;
                self.insert(entries)?;
            }

            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(&module, &name)?;
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let [module, name] = [0, 1].map(|at| match &self.nodes[names[at].0 as usize] {
                    Node::Text(text) => Some(text.to_string()),
                    _ => None,
                });
                match (module, name) {
                    (Some(module), Some(name)) => self.global(&module, &name)?,
                    _ => return Err(self.broken("a name of a function is not a text")),
                }
            }
            b'R' | 0x81 => {
                let parts = self.pop_many(2)?;
                self.call(parts[0], parts[1])?;
            }
            0x92 => {
                // The arguments by name are not looked at.
                let parts = self.pop_many(3)?;
                self.call(parts[0], parts[1])?;
            }
            b'b' => {
                let state = self.pop()?;
                let top = self.top()?;
                // Attributes of a plain value (the `_metadata` of a state dict) say nothing of its content.
                if let Node::Made(made) = &mut self.nodes[top.0 as usize] {
                    made.state = Some(state);
                }
            }
            b'Q' => {
                let name = self.pop()?;
                self.push(Node::Persistent(name))?;
            }

            b'h' => {
                let index = self.input.u8()?;
                self.get(index.into())?;
            }
            b'j' => {
                let index = self.input.u32()?;
                self.get(index)?;
            }
            b'q' => {
                let index = self.input.u8()?;
                self.put(index.into())?;
            }
            b'r' => {
                let index = self.input.u32()?;
                self.put(index)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,

            other => {
                let problem = format!(
                    "opcode {other:#04x} at byte {at} is not one that PyTorch writes; the file was altered, or it is of \
                     another program"
                );
                return Err(self.broken(problem));
            }
        }
        Ok(None)
    }

    fn broken(&self, problem: impl ToString) -> StoreError {
        malformed(self.input.path(), problem)
    }

    fn too_many(&self, what: &str, limit: usize) -> StoreError {
        self.broken(format!(
            "its pickle has more than {limit} {what}, which no checkpoint of a network has"
        ))
    }

    fn push(&mut self, node: Node) -> Result<()> {
        if self.nodes.len() >= MAX_VALUES {
            return Err(self.too_many("values", MAX_VALUES));
        }
        self.stack.push(Id(self.nodes.len() as u32));
        self.nodes.push(node);
        Ok(())
    }

    /// The height below which nothing may be taken.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        match self.stack.len() > self.floor() {
            true => self.stack.pop().ok_or_else(|| self.empty()),
            false => Err(self.empty()),
        }
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        match self.stack.len() - self.floor() >= count {
            true => Ok(self.stack.split_off(self.stack.len() - count)),
            false => Err(self.empty()),
        }
    }

    fn pop_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(height) => Ok(self.stack.split_off(height)),
            None => Err(self.empty()),
        }
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&top) if self.stack.len() > self.floor() => Ok(top),
            _ => Err(self.empty()),
        }
    }

    fn empty(&self) -> StoreError {
        self.broken(format!(
            "at byte {} its pickle takes more values than it made; the file was altered, so take another copy",
            self.input.at()
        ))
    }

    fn long(&mut self, length: u64) -> Result<()> {
        if length > 8 {
            return self.bytes(length);
        }
        let bytes = self.input.bytes(length as usize)?;
        let mut wide = [match bytes.last() {
            Some(last) if last & 0x80 != 0 => 0xff,
            _ => 0,
        }; 8];
        wide[..bytes.len()].copy_from_slice(&bytes);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    fn text(&mut self, length: u64) -> Result<()> {
        if length > MAX_TEXT {
            return self.bytes(length);
        }
        let bytes = self.input.bytes(length as usize)?;
        self.count_text(bytes.len())?;
        // Those of Python 2 may be in any code, or no text at all.
        let text = String::from_utf8_lossy(&bytes).into();
        self.push(Node::Text(text))
    }

    fn count_text(&mut self, bytes: usize) -> Result<()> {
        self.text_bytes += bytes;
        match self.text_bytes > MAX_TEXT_BYTES {
            true => Err(self.too_many("bytes of text", MAX_TEXT_BYTES)),
            false => Ok(()),
        }
    }

    fn bytes(&mut self, length: u64) -> Result<()> {
        let place = self.input.skip(length)?;
        self.push(Node::Bytes(Box::new(place)))
    }

    /// A name that ends with its line.
    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        loop {
            match self.input.u8()? {
                b'\n' => break,
                byte if line.len() < 256 => line.push(byte),
                _ => return Err(self.broken("a name of a function is over 256 bytes long")),
            }
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn append(&mut self, elements: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        match &mut self.nodes[top.0 as usize] {
            // The empty tuple is everybody's.
            Node::Sequence(list) if top != EMPTY => list.extend(elements),
            // A list of another kind, which nobody asks for.
            Node::Made(_) => {}
            _ => return Err(self.broken("elements are appended to what is not a list")),
        }
        Ok(())
    }

    /// Keys and values in turn.
    fn insert(&mut self, flat: Vec<Id>) -> Result<()> {
        let top = self.top()?;
        let (pairs, odd) = flat.as_chunks::<2>();
        let new = pairs.iter().map(|&[key, value]| (key, value));
        match &mut self.nodes[top.0 as usize] {
            Node::Dict(entries) if odd.is_empty() => entries.extend(new),
            Node::Made(made) if odd.is_empty() => made.entries.extend(new),
            _ => {
                return Err(
                    self.broken("entries are put into what is not a dict, or without a value")
                );
            }
        }
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<()> {
        match self.memo.get(&index) {
            Some(&id) => self.stack.push(id),
            None => {
                let problem = format!("its pickle refers to value {index}, which it does not have");
                return Err(self.broken(problem));
            }
        }
        Ok(())
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let top = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(self.too_many("remembered values", MAX_VALUES));
        }
        self.memo.insert(index, top);
        Ok(())
    }
}
