//! The header of NumPy's `.npy` format (NEP 1).
//!
//! The header is a flat dictionary of three keys. It is read here, and not as the Python expression that the format
//! allows, so that a crafted file can neither nest it without end nor claim gigabytes or axes that overflow.

/// NumPy's own headers are below 200 bytes.
const MAX_HEADER_BYTES: usize = 64 << 10;
const MAGIC: &[u8; 6] = b"\x93NUMPY";
/// Magic, version and the longest form of the header's length.
pub(super) const PRELUDE_BYTES: usize = 12;
const MAX_AXES: usize = 32;

/// A flat array's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// NumPy's type string: byte order, kind, bytes an element, as in `<f4`.
    pub(super) dtype: String,
    pub(super) shape: Vec<u64>,
    /// Where the elements begin.
    pub(super) data_start: u64,
}

impl Header {
    /// Length of the whole file for elements of so many bytes; `None` if it overflows.
    pub(super) fn file_bytes(&self, element_bytes: usize) -> Option<u64> {
        self.shape
            .iter()
            .try_fold(element_bytes as u64, |bytes, &axis| bytes.checked_mul(axis))?
            .checked_add(self.data_start)
    }
}

/// How many bytes the file's header takes, from its first [`PRELUDE_BYTES`].
pub(super) fn header_bytes(prelude: &[u8]) -> Result<usize, String> {
    if prelude.len() < PRELUDE_BYTES || !prelude.starts_with(MAGIC) {
        return Err("a file that does not start with \\x93NUMPY".into());
    }
    let (start, length) = match prelude[6] {
        1 => (
            10,
            usize::from(u16::from_le_bytes([prelude[8], prelude[9]])),
        ),
        2 | 3 => {
            let length = [prelude[8], prelude[9], prelude[10], prelude[11]];
            let length = u32::from_le_bytes(length);
            (12, usize::try_from(length).unwrap_or(usize::MAX))
        }
        version => return Err(format!("format version {version}")),
    };
    if length > MAX_HEADER_BYTES {
        return Err(format!("a header of {length} bytes"));
    }
    Ok(start + length)
}

/// Reads a header of the length that [`header_bytes`] gave.
pub(super) fn parse(head: &[u8]) -> Result<Header, String> {
    let length = header_bytes(head)?;
    let start = if head[6] == 1 { 10 } else { 12 };
    let text = head.get(start..length).ok_or("a header that is cut off")?;
    let text = std::str::from_utf8(text).map_err(|_| "a header that is not text")?;
    let mut scanner = Scanner { rest: text };
    let (mut dtype, mut fortran, mut shape) = (None, None, None);
    scanner.expect('{')?;
    while !scanner.accept('}') {
        let key = scanner.quoted()?;
        scanner.expect(':')?;
        match key {
            "descr" => dtype = Some(scanner.quoted()?.to_owned()),
            "fortran_order" => fortran = Some(scanner.boolean()?),
            "shape" => shape = Some(scanner.tuple()?),
            key => return Err(format!("a header with the key {key:?}")),
        }
        if !scanner.accept(',') {
            scanner.expect('}')?;
            break;
        }
    }
    if !scanner.rest.trim().is_empty() {
        return Err("a header with something behind its end".into());
    }
    match (dtype, fortran, shape) {
        (Some(dtype), Some(false), Some(shape)) => Ok(Header {
            dtype,
            shape,
            data_start: length as u64,
        }),
        (_, Some(true), _) => Err("Fortran order (save it with numpy.ascontiguousarray)".into()),
        _ => Err("a header without descr, fortran_order or shape".into()),
    }
}

/// What is left of the header's text.
struct Scanner<'a> {
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    fn accept(&mut self, token: char) -> bool {
        match self.rest.trim_start().strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: char) -> Result<(), String> {
        if self.accept(token) {
            return Ok(());
        }
        let found: String = self.rest.trim_start().chars().take(16).collect();
        Err(format!("a header with {found:?} where {token:?} belongs"))
    }

    fn quoted(&mut self) -> Result<&'a str, String> {
        let quote = if self.accept('\'') {
            '\''
        } else if self.accept('"') {
            '"'
        } else {
            // structured types are lists
            return Err("a header with something other than a plain type or key".into());
        };
        let (text, rest) = self
            .rest
            .split_once(quote)
            .ok_or("a header with an open string")?;
        self.rest = rest;
        Ok(text)
    }

    fn boolean(&mut self) -> Result<bool, String> {
        let text = self.rest.trim_start();
        for (word, value) in [("True", true), ("False", false)] {
            if let Some(rest) = text.strip_prefix(word) {
                self.rest = rest;
                return Ok(value);
            }
        }
        Err("a header whose fortran_order is neither True nor False".into())
    }

    fn tuple(&mut self) -> Result<Vec<u64>, String> {
        self.expect('(')?;
        let mut axes = Vec::new();
        while !self.accept(')') {
            let text = self.rest.trim_start();
            let end = text
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(text.len());
            let axis = text[..end]
                .parse()
                .map_err(|_| "a shape that is not a tuple of sizes")?;
            self.rest = &text[end..];
            axes.push(axis);
            if axes.len() > MAX_AXES {
                return Err(format!("a shape of more than {MAX_AXES} axes"));
            }
            if !self.accept(',') {
                self.expect(')')?;
                break;
            }
        }
        Ok(axes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(version: u8, text: &str) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([version, 0]);
        let length = u32::try_from(text.len()).unwrap().to_le_bytes();
        bytes.extend(&length[..if version == 1 { 2 } else { 4 }]);
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn numpys_own_headers_are_read() {
        for version in [1, 2, 3] {
            for (text, dtype, shape) in [
                (
                    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5), }   \n",
                    "<f4",
                    vec![3, 4, 5],
                ),
                (
                    "{'descr':'|u1','shape':(7,),'fortran_order':False}",
                    "|u1",
                    vec![7],
                ),
                (
                    "{\"descr\": \">f8\", \"fortran_order\": False, \"shape\": ()}\n",
                    ">f8",
                    vec![],
                ),
            ] {
                let bytes = file(version, text);
                let header = parse(&bytes).unwrap();
                assert_eq!(header.dtype, dtype);
                assert_eq!(header.shape, shape);
                assert_eq!(header.data_start, bytes.len() as u64);
            }
        }
    }

    #[test]
    fn anything_else_is_named() {
        let shape =
            |shape: &str| format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}");
        for (text, hint) in [
            (shape("(3, -4)"), "not a tuple of sizes"),
            (shape("(99999999999999999999,)"), "not a tuple of sizes"),
            (shape("3"), "where '(' belongs"),
            (shape("(1, 2"), "not a tuple of sizes"),
            (shape("(1 2)"), "where ')' belongs"),
            (format!("({}", "1,".repeat(40)), "where '{' belongs"),
            (
                shape(&format!("({})", "1,".repeat(40))),
                "more than 32 axes",
            ),
            (
                "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}".into(),
                "plain type",
            ),
            (
                "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}".into(),
                "Fortran order",
            ),
            (
                "{'descr': '<f4', 'fortran_order': 0, 'shape': (1, 2)}".into(),
                "neither True nor False",
            ),
            ("{'descr': '<f4'}".into(), "without descr"),
            ("{'descr': '<f4".into(), "open string"),
            ("{'colour': 'red'}".into(), "the key \"colour\""),
            (shape("(1,)") + "x", "behind its end"),
        ] {
            let reason = parse(&file(1, &text)).unwrap_err();
            assert!(reason.contains(hint), "{text}: {reason}");
        }
        assert!(header_bytes(b"PK\x03\x04aaaaaaaa").is_err());
        assert!(header_bytes(b"\x93NUMPY\x01\x00").is_err());
        assert!(
            header_bytes(b"\x93NUMPY\x04\x00aaaa")
                .unwrap_err()
                .contains("version 4")
        );
        let huge = b"\x93NUMPY\x02\x00\xff\xff\xff\xff";
        assert!(header_bytes(huge).unwrap_err().contains("4294967295 bytes"));
        assert!(parse(&file(1, "{}")[..11]).is_err());
    }

    #[test]
    fn sizes_that_overflow_are_none() {
        let header = Header {
            dtype: "<f8".into(),
            shape: vec![u64::MAX / 2, 3],
            data_start: 128,
        };
        assert_eq!(header.file_bytes(8), None);
    }

    proptest! {
        #[test]
        fn no_header_panics(text in "[{}()',:a-z0-9 ]{0,80}", cut in 0usize..100) {
            let bytes = file(1, &text);
            let _ = parse(&bytes[..bytes.len().min(cut)]);
            let _ = parse(&bytes);
        }
    }
}
