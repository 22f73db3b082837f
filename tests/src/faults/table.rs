//! The table of all rows, as the README has it.

use super::Ran;

/// A Markdown table, one row a fault.
pub fn table(ran: &[Ran]) -> String {
    let mut text =
        "| # | fault or input | tried | what must hold | held | s |\n|---|---|---|---|---|---|\n"
            .to_owned();
    for Ran { row, outcome, time } in ran {
        let (tried, held) = match outcome {
            Ok(held) if held.note.is_empty() => (held.count.to_string(), "yes".to_owned()),
            Ok(held) => (held.count.to_string(), format!("yes: {}", held.note)),
            Err(error) => (
                "".to_owned(),
                format!("**NO**: {}", one_line(&format!("{error:#}"))),
            ),
        };
        text += &format!(
            "| {} | {} | {tried} | {} | {held} | {:.0} |\n",
            row.number,
            row.fault,
            row.holds,
            time.as_secs_f64()
        );
    }
    text
}

/// A cell has one line, not too long, and no bar that would end it.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().take(400).collect();
    line.replace('|', "\\|")
}
