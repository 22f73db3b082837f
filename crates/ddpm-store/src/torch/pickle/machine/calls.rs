//! Functions and classes that a pickle names, and what calling them would make.

use super::{MAX_VALUES, Machine};
use crate::error::Result;
use crate::torch::pickle::{Id, Made, Node};

impl Machine<'_, '_> {
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<()> {
        if attacks(module, name) {
            let problem = format!(
                "its pickle would call `{module}.{name}`, which would attack whoever opens it in Python; nothing was \
                 run, and the file is not to be trusted"
            );
            return Err(self.broken(problem));
        }
        let whole = format!("{module}.{name}");
        self.count_text(whole.len())?;
        self.push(Node::Global(whole.into()))
    }

    /// What calling would make: data where the function is one of those that make data.
    pub(super) fn call(&mut self, maker: Id, arguments: Id) -> Result<()> {
        let first = match &self.nodes[arguments.0 as usize] {
            Node::Sequence(arguments) => arguments.first().copied(),
            _ => return Err(self.broken("the arguments of a call are not a tuple")),
        };
        let name = match &self.nodes[maker.0 as usize] {
            Node::Global(name) => &**name,
            _ => "",
        };
        let elements = |id: Option<Id>| match id.map(|id| &self.nodes[id.0 as usize]) {
            Some(Node::Sequence(elements)) => elements.as_slice(),
            _ => &[],
        };
        // A short call can name a long list, again and again.
        let copied = self.copied + elements(first).len();
        if copied > MAX_VALUES {
            return Err(self.too_many("values", MAX_VALUES));
        }
        let node = match name {
            "collections.OrderedDict" => {
                // Python 2 gives all entries as a list of pairs.
                let pairs = elements(first).iter().map(|&pair| elements(Some(pair)));
                Node::Dict(
                    pairs
                        .filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)))
                        .collect(),
                )
            }
            "collections.defaultdict" => Node::Dict(Vec::new()),
            "torch.Size" | "builtins.set" | "__builtin__.set" | "builtins.frozenset" => {
                Node::Sequence(elements(first).to_vec())
            }
            _ => Node::Made(Box::new(Made {
                maker,
                arguments,
                state: None,
                entries: Vec::new(),
            })),
        };
        self.copied = copied;
        self.push(node)
    }
}

/// Whether a function is one with which pickles take over a machine. None of them is ever called here; a file that has
/// one is not a checkpoint.
fn attacks(module: &str, name: &str) -> bool {
    let top = module.split('.').next().unwrap_or(module);
    let program = matches!(
        top,
        "os" | "posix"
            | "nt"
            | "subprocess"
            | "pty"
            | "sys"
            | "socket"
            | "shutil"
            | "runpy"
            | "importlib"
            | "ctypes"
            | "commands"
            | "webbrowser"
            | "pdb"
            | "code"
            | "asyncio"
            | "http"
            | "urllib"
            | "requests"
            | "pip"
    );
    let built_in = matches!(top, "builtins" | "__builtin__")
        && matches!(
            name.split('.').next(),
            Some(
                "eval"
                    | "exec"
                    | "execfile"
                    | "compile"
                    | "open"
                    | "__import__"
                    | "input"
                    | "apply"
            )
        );
    program || built_in
}
