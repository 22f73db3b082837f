//! The commands that a document shows, as a person would type them.

/// A command and, where the document shows it, what it prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its words, without environment variables and without what stands behind a `|` or `#`.
    pub words: Vec<String>,
    /// The pattern of the `grep -v` that it is piped through.
    pub without: Option<String>,
    /// The lines below it, up to the end of their block; empty unless the line begins with `$`.
    pub output: Vec<String>,
}

/// Every command in the `sh` blocks of a Markdown text, after a `$` in its other blocks, and in inline code that begins
/// with `ddpm` and has arguments.
pub fn commands(text: &str) -> Vec<Shown> {
    let mut found = Vec::new();
    let mut block: Option<&str> = None;
    let mut with_output = false;
    for line in text.lines() {
        if let Some(language) = line.trim_start().strip_prefix("```") {
            block = match block {
                None => Some(language),
                Some(_) => None,
            };
            with_output = false;
            continue;
        }
        match block {
            Some("sh") if !line.trim().is_empty() => found.push(shown(line)),
            Some(_) => match line.strip_prefix("$ ") {
                Some(command) => {
                    with_output = true;
                    found.push(shown(command));
                }
                None if with_output => {
                    if let Some(last) = found.last_mut() {
                        last.output.push(line.to_owned());
                    }
                }
                None => {}
            },
            None => found.extend(
                line.split('`')
                    .skip(1)
                    .step_by(2)
                    .filter(|code| is_whole(code))
                    .map(shown),
            ),
        }
    }
    found
}

/// Whether inline code is a command to type and not the name of one, or a pattern.
fn is_whole(code: &str) -> bool {
    let argument = code.strip_prefix("ddpm ");
    argument.is_some_and(|rest| {
        rest.contains(' ')
            && !rest.contains(['[', '|', '…', '{'])
            && !rest.split_whitespace().any(is_placeholder)
    })
}

fn is_placeholder(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

fn shown(line: &str) -> Shown {
    let line = line.split(" #").next().unwrap_or(line);
    let (command, pipe) = line.split_once(" | ").unwrap_or((line, ""));
    let words = split(command)
        .into_iter()
        .skip_while(|word| {
            word.split_once('=').is_some_and(|(name, _)| {
                name.bytes()
                    .all(|byte| byte.is_ascii_uppercase() || byte == b'_')
            })
        })
        .collect();
    Shown {
        words,
        without: pipe.strip_prefix("grep -v ").map(str::to_owned),
        output: Vec::new(),
    }
}

/// Words at blanks, but not within single or double quotes.
fn split(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in command.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_with_what_they_print() {
        let text = "\
A `ddpm sample --n 4`, a `ddpm predict`, a `ddpm train [CONFIG]`, a `ddpm inspect PATH`, a `ddpm`.
```sh
OUT=x cargo run 'a b' --set k=\"v w\"   # why
```
```
not a command
$ ddpm doctor --json | grep -v ^ok
warn  this
```
";
        let of = |words: &[&str]| Shown {
            words: words.iter().map(ToString::to_string).collect(),
            without: None,
            output: Vec::new(),
        };
        let expected = [
            of(&["ddpm", "sample", "--n", "4"]),
            of(&["cargo", "run", "a b", "--set", "k=v w"]),
            Shown {
                without: Some("^ok".to_owned()),
                output: vec!["warn  this".to_owned()],
                ..of(&["ddpm", "doctor", "--json"])
            },
        ];
        assert_eq!(commands(text), expected);
    }
}
