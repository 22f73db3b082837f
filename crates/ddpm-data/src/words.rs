/// `1 image`, `2 images`: for nouns whose plural is an s more.
pub(crate) fn some(count: usize, noun: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn one_has_no_ending() {
        let said = [0, 1, 2].map(|count| super::some(count, "image"));
        assert_eq!(said, ["0 images", "1 image", "2 images"]);
    }
}
