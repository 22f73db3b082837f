//! What was found, as text.

use std::fmt::Write;

use crate::{Case, Set};

/// A table with a row a set, the failing cases by name, and the sets of an unknown kind.
#[must_use]
pub fn report(sets: &[Set]) -> String {
    let (known, unknown): (Vec<&Set>, Vec<&Set>) = sets.iter().partition(|set| set.known);
    let width = known
        .iter()
        .map(|set| set.name.len())
        .max()
        .unwrap_or(0)
        .max(3);
    let mut text = String::new();
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{words}");
    };
    line(format_args!(
        "{:width$}  cases     worst     limit  held",
        "set"
    ));
    for set in &known {
        let (worst, limit) = match set.worst() {
            Some(Case {
                difference, limit, ..
            }) => (words(difference), format!("{limit:.1e}")),
            None => ("-".to_owned(), "-".to_owned()),
        };
        let held = match set.held() {
            true => "yes".to_owned(),
            false => {
                let failed = set.cases.iter().filter(|case| !case.held()).count();
                format!("no: {failed} failed")
            }
        };
        line(format_args!(
            "{:width$}  {:>5}  {worst:>8}  {limit:>8}  {held}",
            set.name,
            set.cases.len()
        ));
    }
    for set in &known {
        for Case {
            name,
            difference,
            limit,
        } in set.cases.iter().filter(|case| !case.held())
        {
            let set = &set.name;
            match difference {
                Ok(difference) => line(format_args!(
                    "{set}: {name}: {difference:.1e}, limit {limit:.1e}"
                )),
                Err(problem) => line(format_args!("{set}: {name}: {problem}")),
            }
        }
    }
    for set in unknown {
        line(format_args!("{}: not known", set.name));
    }
    text
}

fn words(difference: &Result<f64, String>) -> String {
    match difference {
        Ok(difference) => format!("{difference:.1e}"),
        Err(_) => "none".to_owned(),
    }
}
