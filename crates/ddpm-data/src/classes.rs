use std::collections::{BTreeSet, HashMap};

/// The classes of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Classes {
    /// The class of each image; none if the set has no classes.
    pub(crate) labels: Option<Vec<usize>>,
    /// Number of classes, also of those that no image has.
    pub(crate) count: Option<usize>,
    /// Names, where the source has any.
    pub(crate) names: Option<Vec<String>>,
}

impl Classes {
    /// Classes by number, without names.
    pub(crate) fn numbered(labels: Vec<usize>) -> Self {
        let count = labels.iter().max().map_or(0, |&largest| largest + 1);
        Self {
            labels: Some(labels),
            count: Some(count),
            names: None,
        }
    }

    /// Classes by name: those of `first` in the order of their names, then the others in that order, so that a part of
    /// a set has the numbers of its first part. Unless every image has one, there are none; names of `first` that not
    /// all of it has do not count.
    pub(crate) fn named<'a>(
        images: &[Option<&'a str>],
        first: impl Iterator<Item = Option<&'a str>>,
    ) -> Self {
        let Some(images) = images.iter().copied().collect::<Option<Vec<&str>>>() else {
            return Self::default();
        };
        let first: BTreeSet<&str> = first.collect::<Option<_>>().unwrap_or_default();
        let others: BTreeSet<&str> = images
            .iter()
            .copied()
            .filter(|name| !first.contains(name))
            .collect();
        let names: Vec<String> = first
            .iter()
            .chain(&others)
            .map(|&name| name.to_owned())
            .collect();
        let numbers: HashMap<&str, usize> = first.iter().chain(&others).copied().zip(0..).collect();
        let labels = images
            .iter()
            .filter_map(|name| numbers.get(name).copied())
            .collect();
        Self {
            labels: Some(labels),
            count: Some(names.len()),
            names: Some(names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_in_their_order() {
        let images = ["b", "a", "c", "a"].map(Some);
        let classes = Classes::named(&images, std::iter::empty());
        assert_eq!(classes.labels, Some(vec![1, 0, 2, 0]));
        assert_eq!(classes.names.unwrap(), ["a", "b", "c"]);
        assert_eq!(classes.count, Some(3));
    }

    #[test]
    fn a_part_has_the_numbers_of_the_first_part() {
        let images = ["c", "a", "d"].map(Some);
        let classes = Classes::named(&images, ["d", "b", "c"].map(Some).into_iter());
        assert_eq!(classes.names.unwrap(), ["b", "c", "d", "a"]);
        assert_eq!(classes.labels, Some(vec![1, 3, 2]));
        let without = Classes::named(&images, [Some("d"), None].into_iter());
        assert_eq!(without.names.unwrap(), ["a", "c", "d"]);
    }

    #[test]
    fn a_loose_image_means_no_classes() {
        let images = [Some("b"), None, Some("c")];
        assert_eq!(
            Classes::named(&images, std::iter::empty()),
            Classes::default()
        );
    }

    #[test]
    fn numbers_count_up_to_the_largest() {
        assert_eq!(Classes::numbered(vec![0, 4, 1]).count, Some(5));
    }
}
