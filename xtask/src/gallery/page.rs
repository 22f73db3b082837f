//! The page as Markdown.

use serde_json::Value;

use super::samplers::{EVALUATIONS, IMAGES};

/// What a sampler did with so many evaluations.
pub(super) enum Cell {
    /// Drew in so many seconds.
    Seconds(f64),
    /// Drew nothing, and why.
    None(String),
}

/// A sampler.
pub(super) struct Row {
    pub(super) kind: String,
    pub(super) picture: Option<String>,
    pub(super) cells: Vec<Cell>,
}

/// A network.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) recipe: &'static str,
    pub(super) drawn: &'static [&'static str],
    pub(super) note: &'static str,
    pub(super) rows: Vec<Row>,
}

/// All of it.
pub(super) fn page(sections: &[Section], samplers: &[Value]) -> String {
    let numbers = EVALUATIONS.map(|n| n.to_string()).join(", ");
    let mut text = format!(
        "# Samplers\n\n`cargo xtask gallery` trains the networks, draws these pictures and writes this page.\n\n\
         Each picture shows {IMAGES} images of a network, always from the same noise, with {numbers} evaluations of the \
         network for each image, from left to right, or as many as come next below; beside it stand the seconds that \
         drawing all {IMAGES} took on the CPU that drew them. A method of two evaluations makes half as many steps, and \
         three or five long ones lead most of those astray. `ddpm samplers` lists the options.\n\n\
         | sampler | order | evaluations a step | fresh noise | good for |\n|---|---|---|---|---|\n"
    );
    for sampler in samplers {
        let word = |key: &str| sampler[key].as_str().unwrap_or_default().to_owned();
        let order = match sampler["order"].as_u64() {
            Some(0) | None => "-".to_owned(),
            Some(order) => order.to_string(),
        };
        let noise = if sampler["stochastic"] == true {
            "yes"
        } else {
            "no"
        };
        text += &format!(
            "| `{}` ({}) | {order} | {} | {noise} | {} |\n",
            word("kind"),
            word("source"),
            evaluations(&sampler["evaluations"]),
            word("good_for"),
        );
    }
    for section in sections {
        text += &format!("\n## {}\n\n`{}`", section.title, section.recipe);
        text += &format!("; drawn with `{}`.", section.drawn.join(" "));
        if !section.note.is_empty() {
            text += &format!(" {}", section.note);
        }
        text += "\n\n";
        text += &format!("| sampler | {numbers} evaluations | seconds |\n|---|---|---|\n");
        let mut notes: Vec<String> = Vec::new();
        for row in &section.rows {
            text += &line(row, &mut notes);
        }
        for (i, note) in notes.iter().enumerate() {
            text += &format!("\n{}) {note}\n", i + 1);
        }
    }
    text
}

fn evaluations(law: &Value) -> String {
    match (law.as_str(), law["one_and_more_at_first"].as_u64()) {
        (_, Some(more)) => format!("1, and {more} more in all"),
        (Some("one"), _) => "1".to_owned(),
        (Some("two"), _) => "2".to_owned(),
        _ => "by its error".to_owned(),
    }
}

/// A row of the table; why something was not drawn is put below it, once.
fn line(row: &Row, notes: &mut Vec<String>) -> String {
    let picture = match &row.picture {
        Some(name) => format!("![{}](samplers/{name})", row.kind),
        None => "-".to_owned(),
    };
    let cells = row.cells.iter().map(|cell| match cell {
        Cell::Seconds(seconds) => format!("{seconds:.2}"),
        Cell::None(why) => {
            let at = notes.iter().position(|note| note == why);
            let at = at.unwrap_or_else(|| {
                notes.push(why.clone());
                notes.len() - 1
            });
            format!("{})", at + 1)
        }
    });
    let cells: Vec<String> = cells.collect();
    format!("| `{}` | {picture} | {} |\n", row.kind, cells.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_drawn_is_explained_once() {
        let why = || Cell::None("no".to_owned());
        let mut notes = Vec::new();
        let row = Row {
            kind: "heun".to_owned(),
            picture: Some("edm-heun.png".to_owned()),
            cells: vec![why(), Cell::Seconds(0.126), why()],
        };
        let line = line(&row, &mut notes);
        assert_eq!(
            line,
            "| `heun` | ![heun](samplers/edm-heun.png) | 1), 0.13, 1) |\n"
        );
        assert_eq!(notes, ["no"]);
    }
}
