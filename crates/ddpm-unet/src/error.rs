//! What can go wrong when a network is configured, loaded or called.

/// Errors of this crate.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UnetError {
    /// A configuration value that no network can have.
    #[error("`{key}` = {got}: {expected}")]
    Config {
        /// The configuration key.
        key: String,
        /// The value that was given.
        got: String,
        /// What is possible instead.
        expected: String,
    },
    /// A value that `UNet2DModel` may have, but that this crate does not implement.
    #[error("config.json: `{key}` = {got} is not supported; supported: {supported}")]
    Unsupported {
        /// The key of `config.json`.
        key: String,
        /// The value that was given.
        got: String,
        /// The values that would work.
        supported: String,
    },
    /// An image size that the levels do not divide.
    #[error(
        "{height}x{width} images do not fit {levels} levels: height and width must be multiples of {multiple}; \
         the nearest sizes that fit are {smaller} and {larger}, or set `pad = true`"
    )]
    Size {
        /// Rows of the image.
        height: usize,
        /// Columns of the image.
        width: usize,
        /// Number of resolution levels of the network.
        levels: usize,
        /// Both sides must be a multiple of this.
        multiple: usize,
        /// The next smaller size that fits, as `HxW`.
        smaller: String,
        /// The next larger size that fits, as `HxW`.
        larger: String,
    },
    /// An input whose shape the network does not take.
    #[error("the network's input `{input}` has shape {got:?}, expected {expected}")]
    Shape {
        /// Which input.
        input: &'static str,
        /// Its shape.
        got: Vec<usize>,
        /// The shape that is taken, in words.
        expected: String,
    },
    /// Class labels are missing, or were given to a network without classes.
    #[error("class labels: {problem}")]
    Labels {
        /// What is wrong and what to do.
        problem: String,
    },
    /// Parameters that the network has and the file has not, or the other way round.
    #[error("the weights do not fit this network: {}", list(.missing, .unused))]
    Parameters {
        /// Parameters of the network that were not given.
        missing: Vec<String>,
        /// Given tensors that the network has no parameter for.
        unused: Vec<String>,
    },
    /// A tensor of another program's network that has no place in one of this crate's.
    #[error("tensor `{name}` {problem}")]
    Foreign {
        /// The tensor's name in that program.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A tensor of another shape than its parameter.
    #[error("tensor `{name}` has shape {got:?}, the network's parameter has {expected:?}")]
    ParameterShape {
        /// The parameter's name.
        name: String,
        /// The parameter's shape.
        expected: Vec<usize>,
        /// The tensor's shape.
        got: Vec<usize>,
    },
}

/// What a file says, short enough for a message and without line breaks and the like: a name or value in a crafted
/// file may have megabytes of them.
pub(crate) fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 200;
    let mut shown = String::new();
    for letter in text.chars().take(MAX_CHARS) {
        match letter.is_control() {
            true => shown.extend(letter.escape_default()),
            false => shown.push(letter),
        }
    }
    if text.chars().nth(MAX_CHARS).is_some() {
        shown += &format!("… ({} bytes in all)", text.len());
    }
    shown
}

fn list(missing: &[String], unused: &[String]) -> String {
    let part = |what: &str, names: &[String]| match names {
        [] => None,
        [only] => Some(format!("{what} `{}`", excerpt(only))),
        [first, rest @ ..] => Some(format!(
            "{what} `{}` and {} more",
            excerpt(first),
            rest.len()
        )),
    };
    [part("missing", missing), part("unexpected", unused)]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}
