use half::f16;

/// A type of NumPy's numbers, by its type string: byte order, kind, bytes an element, as in `<f4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) struct Number {
    kind: Kind,
    bytes: usize,
    big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

impl Number {
    /// None for strings, objects, dates, complex and structured types.
    pub(in crate::source) fn parse(dtype: &str) -> Option<Self> {
        let (order, rest) = dtype.split_at_checked(1)?;
        let (kind, bytes) = match rest {
            "b1" => (Kind::Bool, 1),
            "u1" => (Kind::Unsigned, 1),
            "u2" => (Kind::Unsigned, 2),
            "u4" => (Kind::Unsigned, 4),
            "u8" => (Kind::Unsigned, 8),
            "i1" => (Kind::Signed, 1),
            "i2" => (Kind::Signed, 2),
            "i4" => (Kind::Signed, 4),
            "i8" => (Kind::Signed, 8),
            "f2" => (Kind::Float, 2),
            "f4" => (Kind::Float, 4),
            "f8" => (Kind::Float, 8),
            _ => return None,
        };
        let known = match order {
            "<" | ">" => true,
            "|" | "=" => bytes == 1,
            _ => false,
        };
        known.then_some(Self {
            kind,
            bytes,
            big_endian: order == ">",
        })
    }

    /// Bytes an element.
    pub(in crate::source) fn bytes(self) -> usize {
        self.bytes
    }

    pub(in crate::source) fn is_bool(self) -> bool {
        self.kind == Kind::Bool
    }

    pub(in crate::source) fn is_u8(self) -> bool {
        self.kind == Kind::Unsigned && self.bytes == 1
    }

    pub(in crate::source) fn is_u16(self) -> bool {
        self.kind == Kind::Unsigned && self.bytes == 2
    }

    pub(in crate::source) fn is_float(self) -> bool {
        self.kind == Kind::Float
    }

    /// The numbers of a piece of a file whose length is a multiple of [`Number::bytes`].
    pub(in crate::source) fn read(self, bytes: &[u8]) -> Vec<f32> {
        self.map(bytes, |number| number as f32)
    }

    /// As [`Number::read`]; whole numbers beyond 2⁵³ are rounded.
    pub(in crate::source) fn read_f64(self, bytes: &[u8]) -> Vec<f64> {
        self.map(bytes, |number| number)
    }

    /// The numbers as `of` makes them of doubles.
    fn map<T>(self, bytes: &[u8], of: impl Fn(f64) -> T) -> Vec<T> {
        fn each<const N: usize, T>(
            bytes: &[u8],
            big_endian: bool,
            convert: impl Fn([u8; N]) -> T,
        ) -> Vec<T> {
            let (numbers, _) = bytes.as_chunks::<N>();
            let ordered = |mut number: [u8; N]| {
                if big_endian {
                    number.reverse();
                }
                number
            };
            numbers
                .iter()
                .map(|&number| convert(ordered(number)))
                .collect()
        }
        let big = self.big_endian;
        match (self.kind, self.bytes) {
            (Kind::Bool, _) => each(bytes, big, |[byte]| of(if byte == 0 { 0.0 } else { 1.0 })),
            (Kind::Unsigned, 1) => each(bytes, big, |[byte]| of(f64::from(byte))),
            (Kind::Unsigned, 2) => each(bytes, big, |n| of(f64::from(u16::from_le_bytes(n)))),
            (Kind::Unsigned, 4) => each(bytes, big, |n| of(f64::from(u32::from_le_bytes(n)))),
            (Kind::Unsigned, _) => each(bytes, big, |n| of(u64::from_le_bytes(n) as f64)),
            (Kind::Signed, 1) => each(bytes, big, |n| of(f64::from(i8::from_le_bytes(n)))),
            (Kind::Signed, 2) => each(bytes, big, |n| of(f64::from(i16::from_le_bytes(n)))),
            (Kind::Signed, 4) => each(bytes, big, |n| of(f64::from(i32::from_le_bytes(n)))),
            (Kind::Signed, _) => each(bytes, big, |n| of(i64::from_le_bytes(n) as f64)),
            (Kind::Float, 2) => each(bytes, big, |n| of(f16::from_le_bytes(n).to_f64())),
            (Kind::Float, 4) => each(bytes, big, |n| of(f64::from(f32::from_le_bytes(n)))),
            (Kind::Float, _) => each(bytes, big, |n| of(f64::from_le_bytes(n))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_by_kind_size_and_order() {
        for (dtype, bytes, want) in [
            ("|b1", vec![0, 1], vec![0.0, 1.0]),
            ("|u1", vec![255], vec![255.0]),
            ("|i1", vec![255], vec![-1.0]),
            ("<u2", vec![1, 2], vec![513.0]),
            (">u2", vec![1, 2], vec![258.0]),
            ("<i2", vec![254, 255], vec![-2.0]),
            (">i4", vec![0, 0, 0, 7], vec![7.0]),
            ("<u4", vec![0, 0, 1, 0], vec![65536.0]),
            (">i8", vec![255; 8], vec![-1.0]),
            ("<u8", vec![3, 0, 0, 0, 0, 0, 0, 0], vec![3.0]),
            ("<f2", vec![0, 0x3c, 0, 0xb8], vec![1.0, -0.5]),
            (">f2", vec![0x3c, 0], vec![1.0]),
            (">f4", vec![0x3f, 0x80, 0, 0], vec![1.0]),
            ("<f8", 0.25f64.to_le_bytes().to_vec(), vec![0.25]),
        ] {
            let number = Number::parse(dtype).unwrap();
            assert_eq!(number.read(&bytes), want, "{dtype}");
            let wide: Vec<f64> = want.into_iter().map(f64::from).collect();
            assert_eq!(number.read_f64(&bytes), wide, "{dtype}");
        }
        for dtype in [
            "", "é", "<c8", "<U5", "|S3", "|O", "<M8[s]", "f4", "|u2", "=f4", "<f16",
        ] {
            assert_eq!(Number::parse(dtype), None, "{dtype}");
        }
    }
}
