use std::collections::BTreeSet;

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

    /// The class of an image is the folder that it lies in; classes are numbered in the order of their names.
    /// Unless every image lies in one, there are none.
    pub(crate) fn from_folders(folders: &[Option<String>]) -> Self {
        let Some(folders) = folders.iter().cloned().collect::<Option<Vec<String>>>() else {
            if folders.iter().any(Option::is_some) {
                tracing::warn!(
                    "some images lie in folders and some do not: the folders are not taken for classes"
                );
            }
            return Self::default();
        };
        let names: Vec<String> = folders
            .iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .cloned()
            .collect();
        let labels = folders
            .iter()
            .map(|folder| names.partition_point(|name| name < folder))
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

    fn folders(list: &[&str]) -> Vec<Option<String>> {
        list.iter()
            .map(|name| (!name.is_empty()).then(|| (*name).to_owned()))
            .collect()
    }

    #[test]
    fn folders_are_numbered_by_name() {
        let classes = Classes::from_folders(&folders(&["b", "a", "c", "a"]));
        assert_eq!(classes.labels, Some(vec![1, 0, 2, 0]));
        assert_eq!(classes.names.unwrap(), ["a", "b", "c"]);
        assert_eq!(classes.count, Some(3));
    }

    #[test]
    fn a_loose_image_means_no_classes() {
        assert_eq!(
            Classes::from_folders(&folders(&["b", "", "c"])),
            Classes::default()
        );
    }

    #[test]
    fn numbers_count_up_to_the_largest() {
        assert_eq!(Classes::numbered(vec![0, 4, 1]).count, Some(5));
    }
}
