//! Numbers as people read them.

/// `1,234,567`.
pub fn count(number: impl Into<u128>) -> String {
    let digits = number.into().to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 grid`, `2 grids`: for nouns whose plural is an s more.
pub fn some(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", count(number))
}

/// `348 MiB`, `1.25 GiB`: three digits.
pub fn bytes(number: u128) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = number as f64;
    let mut unit = 0;
    // 999.5 would be printed as 1000.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{number} B"),
        _ if value > 1e4 => format!("{value:.1e} {}", UNITS[unit]),
        _ => format!("{} {}", three_digits(value), UNITS[unit]),
    }
}

/// `6.22 G`: three digits and the prefix of a power of 1000.
pub fn thousands(number: u128) -> String {
    const PREFIXES: [&str; 7] = ["", " k", " M", " G", " T", " P", " E"];
    let mut value = number as f64;
    let mut prefix = 0;
    while value >= 999.5 && prefix + 1 < PREFIXES.len() {
        value /= 1000.0;
        prefix += 1;
    }
    match prefix {
        0 => number.to_string(),
        _ if value > 1e4 => format!("{value:.1e}{}", PREFIXES[prefix]),
        _ => three_digits(value) + PREFIXES[prefix],
    }
}

/// `0.63%`, `23%`.
pub fn percent(share: f64) -> String {
    let value = share * 100.0;
    match value {
        value if value >= 9.95 => format!("{value:.0}%"),
        value if value >= 0.1 => format!("{value:.1}%"),
        0.0 => "0%".to_owned(),
        value if value >= 0.005 => format!("{value:.2}%"),
        _ => "less than 0.01%".to_owned(),
    }
}

/// `0.3 ms`, `26 ms`, `1.4 s`, `33 s`.
pub fn seconds(value: f64) -> String {
    match value {
        value if value < 0.01 => format!("{:.1} ms", value * 1e3),
        value if value < 1.0 => format!("{:.0} ms", value * 1e3),
        value if value < 9.95 => format!("{value:.1} s"),
        value => format!("{value:.0} s"),
    }
}

/// `0.002`, `5e-5`: without a row of zeros.
pub fn short(value: f64) -> String {
    match value.abs() {
        size if size == 0.0 || (1e-3..1e4).contains(&size) => value.to_string(),
        _ => format!("{value:e}"),
    }
}

fn three_digits(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(count(7u32), "7");
        assert_eq!(count(35_746_307u64), "35,746,307");
        assert_eq!(some(1, "step"), "1 step");
        assert_eq!(some(1000, "step"), "1,000 steps");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "0.98 KiB");
        assert_eq!(bytes(348 << 20), "348 MiB");
        assert_eq!(bytes(24 << 30), "24.0 GiB");
        assert_eq!(bytes(u128::MAX), "3.0e20 EiB");
        assert_eq!(thousands(12), "12");
        assert_eq!(thousands(6_221_856_768), "6.22 G");
        assert_eq!(thousands(u128::MAX), "3.4e20 E");
        assert_eq!(percent(0.006_35), "0.6%");
        assert_eq!(percent(0.231), "23%");
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(4.9e-5), "less than 0.01%");
        assert_eq!(
            [0.002, 5e-5, 0.0, 1e300].map(short),
            ["0.002", "5e-5", "0", "1e300"]
        );
        assert_eq!(seconds(0.000_31), "0.3 ms");
        assert_eq!(seconds(0.0259), "26 ms");
        assert_eq!(seconds(1.44), "1.4 s");
        assert_eq!(seconds(33.3), "33 s");
    }
}
