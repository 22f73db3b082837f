//! Which classes are drawn: `--class cat,dog:4,7`.

use ddpm_model::Told;
use ddpm_unet::Conditioning;

use crate::exit::UsageError;
use crate::words;

/// Images of each class unless something else is said.
const EACH: usize = 8;
/// Images of all classes together, where nobody asks for classes.
const IMAGES: usize = 64;

/// The classes in the order in which they are drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Classes {
    entries: Vec<Entry>,
    null: Option<usize>,
}

/// Images of one class, which follow each other.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    class: usize,
    name: String,
    count: usize,
}

/// What a model knows of classes.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    pub conditioning: Conditioning,
    /// In the order of their numbers.
    pub names: Option<&'a [String]>,
}

impl Known<'_> {
    fn name(&self, class: usize) -> String {
        let name = self.names.and_then(|names| names.get(class));
        name.cloned().unwrap_or_else(|| class.to_string())
    }

    /// The number of a class by its name, or else by its number.
    fn number(&self, text: &str, count: Option<usize>) -> Option<usize> {
        let mut names = self.names.unwrap_or_default().iter();
        let named = names.position(|name| name == text);
        let fits = |class: &usize| count.is_none_or(|count| *class < count);
        named.or_else(|| text.parse().ok().filter(fits))
    }
}

impl Classes {
    /// What `--class` and `--n` ask of a model; none for a model without classes.
    ///
    /// # Errors   [`UsageError`] for classes that there are not, and images that the classes do not share evenly
    pub fn asked(
        asked: Option<&str>,
        n: Option<usize>,
        known: Known<'_>,
    ) -> Result<Option<Self>, UsageError> {
        let refuse = |text: String| Err(UsageError(text));
        let (count, null) = match (known.conditioning, asked) {
            (Conditioning::None, None) => return Ok(None),
            (Conditioning::None, Some(class)) => {
                return refuse(format!(
                    "--class {class}: this network has no classes; leave --class out"
                ));
            }
            (Conditioning::Embedding, _) => {
                return refuse(
                    "this network takes ready-made embeddings as classes, which `sample` has no option for".into(),
                );
            }
            (Conditioning::Number, None) => {
                return refuse("this network is class-conditional; choose with --class".into());
            }
            (Conditioning::Number, Some(_)) => (None, None),
            (Conditioning::Classes { count, null }, _) => (Some(count), null),
        };
        let entries = match (asked, count) {
            (None, Some(count)) => in_turn(n, count, known),
            (asked, count) => listed(asked.unwrap_or("all"), n, count, known)?,
        };
        Ok(Some(Self { entries, null }))
    }

    /// How many images there are.
    pub fn total(&self) -> usize {
        self.entries.iter().map(|entry| entry.count).sum()
    }

    /// What the network is told of the first `n` of them.
    pub fn told(&self, n: usize) -> Told {
        Told {
            classes: self.of_images().take(n).map(|class| class as i64).collect(),
            null_class: self.null.map(|null| null as i64),
            ..Told::default()
        }
    }

    fn of_images(&self) -> impl Iterator<Item = usize> {
        let entries = self.entries.iter();
        entries.flat_map(|entry| std::iter::repeat_n(entry.class, entry.count))
    }

    /// Images a row and the name of each row, where the grid has a row a class.
    pub fn rows(&self) -> Option<(usize, Vec<String>)> {
        let columns = self.entries.first()?.count;
        let even = self.entries.iter().all(|entry| entry.count == columns);
        let names = self.entries.iter().map(|entry| entry.name.clone());
        (even && columns > 0).then(|| (columns, names.collect()))
    }

    /// The same without the first `done` images, as it is written behind `--class`.
    pub fn rest(&self, done: usize) -> String {
        let mut done = done;
        let mut left = Vec::new();
        for entry in &self.entries {
            let drawn = done.min(entry.count);
            done -= drawn;
            if entry.count > drawn {
                left.push(format!("{}:{}", entry.class, entry.count - drawn));
            }
        }
        left.join(",")
    }
}

/// All classes, where nobody chose any: as evenly as n images allow.
fn in_turn(n: Option<usize>, count: usize, known: Known<'_>) -> Vec<Entry> {
    let n = n.unwrap_or_else(|| match IMAGES / count.max(1) {
        0 => IMAGES,
        each => each.min(EACH) * count,
    });
    let entries = (0..count).map(|class| Entry {
        class,
        name: known.name(class),
        count: (class + 1) * n / count - class * n / count,
    });
    entries.filter(|entry| entry.count > 0).collect()
}

/// The classes of a list.
fn listed(
    text: &str,
    n: Option<usize>,
    count: Option<usize>,
    known: Known<'_>,
) -> Result<Vec<Entry>, UsageError> {
    let mut found: Vec<(usize, Option<usize>)> = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        if part == "all" && known.number(part, count).is_none() {
            let Some(count) = count else {
                return Err(UsageError(
                    "--class all: this network takes any number as its class; name the numbers"
                        .into(),
                ));
            };
            found.extend((0..count).map(|class| (class, None)));
            continue;
        }
        let (class, images) = match (known.number(part, count), part.rsplit_once(':')) {
            (Some(class), _) => (class, None),
            (None, Some((class, images))) => {
                let number = known.number(class, count);
                let images = images.parse().ok().filter(|&images| images > 0);
                match (number, images) {
                    (Some(class), Some(images)) => (class, Some(images)),
                    _ => return Err(unknown(part, count, known)),
                }
            }
            (None, None) => return Err(unknown(part, count, known)),
        };
        found.push((class, images));
    }
    let fixed: usize = found.iter().filter_map(|(_, images)| *images).sum();
    let open = found.iter().filter(|(_, images)| images.is_none()).count();
    let each = match (n, open) {
        (None, _) if open > IMAGES => 1,
        (None, _) => EACH,
        (Some(n), 0) if n == fixed => 0,
        (Some(n), open) => match n.checked_sub(fixed) {
            Some(left) if open > 0 && left > 0 && left.is_multiple_of(open) => left / open,
            _ => {
                return Err(UsageError(format!(
                    "--n {n}: {} of --class do not share so many images evenly; take another number, or say how many \
                     of each, as in --class {}:4",
                    words::some(found.len() as u64, "entry").replace("entrys", "entries"),
                    known.name(found[0].0),
                )));
            }
        },
    };
    let entries = found.into_iter().map(|(class, images)| Entry {
        class,
        name: known.name(class),
        count: images.unwrap_or(each),
    });
    Ok(entries.collect())
}

/// Names that a message lists, at most.
const LISTED: usize = 12;

fn unknown(part: &str, count: Option<usize>, known: Known<'_>) -> UsageError {
    let there = match (known.names, count) {
        (Some(names), _) => {
            let shown: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
            let more = match names.len() > LISTED {
                true => format!(" and {} more", names.len() - LISTED),
                false => String::new(),
            };
            format!("the classes are {}{more}", shown.join(", "))
        }
        (None, Some(count)) => format!("the classes are 0 to {}", count.saturating_sub(1)),
        (None, None) => "classes are whole numbers".to_owned(),
    };
    UsageError(format!(
        "--class {part}: no such class; {there} (or all; NAME:4 draws four)"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: Conditioning = Conditioning::Classes {
        count: 3,
        null: Some(3),
    };

    fn names() -> Vec<String> {
        ["cat", "dog", "2:1"].map(str::to_owned).to_vec()
    }

    fn counts(asked: Option<&str>, n: Option<usize>) -> Result<Vec<(usize, usize)>, String> {
        let names = names();
        let known = Known {
            conditioning: THREE,
            names: Some(&names),
        };
        let found = Classes::asked(asked, n, known)
            .map_err(|error| error.0)?
            .unwrap();
        Ok(found
            .entries
            .iter()
            .map(|entry| (entry.class, entry.count))
            .collect())
    }

    #[test]
    fn names_numbers_counts_and_all_are_understood() {
        for (asked, n, expected) in [
            (Some("cat"), None, vec![(0, 8)]),
            (Some("cat,dog:4,2"), None, vec![(0, 8), (1, 4), (2, 8)]),
            (Some("cat,dog:4,2"), Some(10), vec![(0, 3), (1, 4), (2, 3)]),
            (Some("all"), Some(6), vec![(0, 2), (1, 2), (2, 2)]),
            (Some("dog:3"), Some(3), vec![(1, 3)]),
            // A name goes before a count.
            (Some("2:1"), None, vec![(2, 8)]),
            (Some("2:1:5"), None, vec![(2, 5)]),
            (Some(" dog , 0"), None, vec![(1, 8), (0, 8)]),
            (None, None, vec![(0, 8), (1, 8), (2, 8)]),
            (None, Some(4), vec![(0, 1), (1, 1), (2, 2)]),
            (None, Some(1), vec![(2, 1)]),
        ] {
            assert_eq!(counts(asked, n).unwrap(), expected, "{asked:?} {n:?}");
        }
    }

    #[test]
    fn what_is_no_class_or_not_even_is_refused_with_the_names() {
        for (asked, n, word) in [
            ("bird", None, "cat, dog"),
            ("3", None, "no such class"),
            ("cat:0", None, "cat:0"),
            ("cat:", None, "no such class"),
            ("", None, "no such class"),
            ("cat,dog", Some(3), "--n 3"),
            ("cat:3", Some(4), "--n 4"),
            ("cat:3,dog", Some(3), "--n 3"),
        ] {
            let refused = counts(Some(asked), n).unwrap_err();
            assert!(refused.contains(word), "{asked}: {refused}");
        }
    }

    #[test]
    fn networks_without_classes_and_of_other_kinds_say_so() {
        let of = |conditioning, asked| {
            let known = Known {
                conditioning,
                names: None,
            };
            Classes::asked(asked, None, known).map_err(|error| error.0)
        };
        assert_eq!(of(Conditioning::None, None), Ok(None));
        assert!(of(Conditioning::None, Some("0")).is_err());
        assert!(of(Conditioning::Embedding, Some("0")).is_err());
        assert!(of(Conditioning::Number, None).is_err());
        assert!(of(Conditioning::Number, Some("all")).is_err());
        let found = of(Conditioning::Number, Some("7")).unwrap().unwrap();
        assert_eq!(found.told(2).classes, [7, 7]);
    }

    #[test]
    fn rows_are_of_one_class_and_the_rest_goes_on_where_it_stopped() {
        let names = names();
        let known = Known {
            conditioning: THREE,
            names: Some(&names),
        };
        let of = |asked| Classes::asked(Some(asked), None, known).unwrap().unwrap();
        let two = of("dog:2,cat:2");
        let rows = ["dog", "cat"].map(str::to_owned).to_vec();
        assert_eq!(two.rows(), Some((2, rows)));
        assert_eq!((two.total(), two.told(3).classes), (4, vec![1, 1, 0]));
        assert_eq!(two.told(3).null_class, Some(3));
        assert_eq!((two.rest(0), two.rest(3)), ("1:2,0:2".into(), "0:1".into()));
        assert_eq!(of("dog:2,cat:3").rows(), None);
    }
}
