//! Row 16: a slip in every key of a configuration.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use ddpm_cli::{configuration, configuration_keys};
use serde_json::Value;

use super::{Form, Passed};
use crate::Sandbox;

/// Every key of each kind of network with a letter left out, doubled, swapped with the next or replaced, each as a
/// line of a file and as a `--set`.
///
/// # Errors
/// The first slip that was not refused with the key and a name as near as the right one.
pub fn typos(form: Form) -> Result<Passed> {
    let mut found = Found::default();
    let mut keys = BTreeSet::new();
    for kind in ["unet", "plain", "edm", "edm2", "lucidrains"] {
        let all: Vec<String> = configuration_keys(kind)?;
        let real: BTreeSet<&str> = all.iter().map(String::as_str).collect();
        for key in &all {
            for slip in slips(key, form) {
                found.check(kind, key, &slip, &real)?;
            }
        }
        keys.extend(all);
    }
    for section in keys.iter().filter_map(|key| Some(key.split_once('.')?.0)) {
        found.sections.insert(section.to_owned());
    }
    for section in found.sections.clone() {
        for slip in slips(&section, form) {
            found.check_section(&section, &slip)?;
        }
    }
    found.tried += everything_is_listed(&keys)?;
    // Those of the kind that is taken without a file.
    let usual: BTreeSet<String> = configuration_keys("unet")?.into_iter().collect();
    found.tried += through_the_binary(&usual, form)?;
    Ok(Passed {
        count: found.tried,
        note: format!(
            "{} keys and {} sections; {} slips are nearer, or as near, to another key and name that, {} make a \
             real key and are left out",
            keys.len(),
            found.sections.len(),
            found.nearer,
            found.real
        ),
    })
}

#[derive(Default)]
struct Found {
    tried: u64,
    nearer: u64,
    real: u64,
    sections: BTreeSet<String>,
}

impl Found {
    fn check(&mut self, kind: &str, key: &str, slip: &str, real: &BTreeSet<&str>) -> Result<()> {
        if real.contains(slip) {
            self.real += 1;
            return Ok(());
        }
        let (section, name) = slip.rsplit_once('.').unwrap_or(("", slip));
        let in_file = match section {
            "" => format!("{name} = 1\n[model]\nkind = \"{kind}\"\n"),
            "model" => format!("[model]\nkind = \"{kind}\"\n{name} = 1\n"),
            _ => format!("[model]\nkind = \"{kind}\"\n[{section}]\n{name} = 1\n"),
        };
        // Where the kind itself is misspelt there is none.
        let in_file = match key {
            "model.kind" => format!("[model]\n{name} = 1\n"),
            _ => in_file,
        };
        let base = format!("[model]\nkind = \"{kind}\"\n");
        let set = [format!("{slip}=1")];
        for (text, set) in [(&in_file, &[][..]), (&base, &set[..])] {
            let message = match configuration("slip.toml", text, set) {
                Ok(_) => bail!("{slip} (for {key}) was taken"),
                Err(error) => error.to_string(),
            };
            let named =
                named(&message, slip).with_context(|| format!("{slip} (for {key}): {message}"))?;
            let (right, other) = (distance(slip, key), distance(slip, &named));
            ensure!(
                named == key || other <= right,
                "{slip}: `{named}` is named, which is further than `{key}`: {message}"
            );
            self.nearer += u64::from(named != key);
            self.tried += 1;
        }
        Ok(())
    }

    fn check_section(&mut self, section: &str, slip: &str) -> Result<()> {
        if self.sections.contains(slip) {
            self.real += 1;
            return Ok(());
        }
        let message = match configuration("slip.toml", &format!("[{slip}]\n"), &[]) {
            Ok(_) => bail!("[{slip}] (for [{section}]) was taken"),
            Err(error) => error.to_string(),
        };
        let named = named(&message, slip).with_context(|| format!("[{slip}]: {message}"))?;
        ensure!(
            named == section || distance(slip, &named) <= distance(slip, section),
            "[{slip}]: {message}"
        );
        self.nearer += u64::from(named != section);
        self.tried += 1;
        Ok(())
    }
}

/// The name that a message offers for the key `slip`.
fn named(message: &str, slip: &str) -> Option<String> {
    let (before, after) = message.split_once("; did you mean `")?;
    before.contains(&format!("`{slip}`")).then_some(())?;
    Some(after.split_once('`')?.0.to_owned())
}

/// The key with its last part misspelt, each slip once.
fn slips(key: &str, form: Form) -> BTreeSet<String> {
    let (section, name) = match key.rsplit_once('.') {
        Some((section, name)) => (format!("{section}."), name),
        None => (String::new(), key),
    };
    let letters: Vec<char> = name.chars().collect();
    let mut slips = BTreeSet::new();
    for at in 0..letters.len() {
        let changed = |change: &dyn Fn(&mut Vec<char>)| {
            let mut letters = letters.clone();
            change(&mut letters);
            section.clone() + &letters.into_iter().collect::<String>()
        };
        slips.insert(changed(&|letters| {
            letters.remove(at);
        }));
        slips.insert(changed(&|letters| letters.insert(at, letters[at])));
        slips.insert(changed(&|letters| letters[at] = neighbour(letters[at])));
        if at + 1 < letters.len() {
            slips.insert(changed(&|letters| letters.swap(at, at + 1)));
        }
        if form == Form::Full {
            for letter in 'a'..='z' {
                slips.insert(changed(&|letters| letters[at] = letter));
                slips.insert(changed(&|letters| letters.insert(at, letter)));
            }
        }
    }
    // Two equal letters swapped are no slip, and a name of one letter cannot lose it.
    slips.remove(key);
    slips.remove(&section);
    slips
}

/// The letter to the right on a keyboard.
fn neighbour(letter: char) -> char {
    const ROWS: &str = "qwertyuiopq asdfghjkla zxcvbnmz 1234567890-_1";
    let mut after = ROWS.chars().skip_while(|&key| key != letter);
    after.next();
    after.next().unwrap_or('x')
}

/// Letters inserted, left out, replaced or swapped with the next (Damerau 1964), each once at a place.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = match (i, j) {
                (0, _) => j,
                (_, 0) => i,
                _ => {
                    let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                    let mut least = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                    if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                        least = least.min(rows[i - 2][j - 2] + 1);
                    }
                    least
                }
            };
        }
    }
    rows[a.len()][b.len()]
}

/// Every key that `--dry-run --json` prints is among those that were misspelt.
fn everything_is_listed(keys: &BTreeSet<String>) -> Result<u64> {
    fn leaves(value: &Value, holder: &str, into: &mut Vec<String>) {
        match value.as_object() {
            Some(object) => {
                for (name, value) in object {
                    leaves(value, &format!("{holder}.{name}"), into);
                }
            }
            None => into.push(holder.trim_start_matches('.').to_owned()),
        }
    }
    let place = Sandbox::new();
    let kinds: [&[&str]; 2] = [&["--set", "model.head_dim=8"], &["plain.toml"]];
    place.file(
        "plain.toml",
        "[model]\nkind = \"plain\"\nfeatures = [4, 8]\n[train]\nsteps = 1\n",
    );
    let mut printed = Vec::new();
    for arguments in kinds {
        let ended = place.ddpm(["train", "--dry-run", "--json"].iter().chain(arguments));
        ensure!(ended.code == Some(0), "{}", ended.stderr);
        leaves(&ended.json()["config"], "", &mut printed);
    }
    // What may be below a choice depends on what is chosen.
    let below = |key: &str, holder: &str| {
        key.strip_prefix(holder)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    let choices = [
        "process",
        "objective.weighting",
        "sample.sampler",
        "sample.spacing",
    ];
    for key in &printed {
        ensure!(
            keys.contains(key) || choices.iter().any(|choice| below(key, choice)),
            "`{key}` is printed and was not misspelt"
        );
    }
    Ok(0)
}

/// A few slips through the command line: exit code 2 and one sentence.
fn through_the_binary(keys: &BTreeSet<String>, form: Form) -> Result<u64> {
    let place = Sandbox::new();
    let step = form.pick(8, 1);
    let mut tried = 0;
    for key in keys.iter().step_by(step) {
        let slip = format!("{key}x");
        let ended = place.ddpm(["train", "--dry-run", "--set", &format!("{slip}=1")]);
        // Below a choice a key is named without its holder, which stands before it.
        let says = |key: &str| {
            let last = key.rsplit('.').next().unwrap_or(key);
            let whole = ended.stderr.contains(&format!("`{key}`"));
            whole || ended.stderr.contains(&format!("`{last}`"))
        };
        ensure!(
            ended.code == Some(2)
                && says(&slip)
                // What a choice is called is its tag, not one of its fields.
                && (says(key) || key.ends_with(".kind"))
                && !ended.stderr.contains("panicked"),
            "{slip}: {:?} {}",
            ended.code,
            ended.stderr
        );
        tried += 1;
    }
    Ok(tried)
}
