//! The numbers that a network is told of each image: `--numbers age=30,width=0.5`.

use ddpm_model::{OpenedModel, Told};

use crate::exit::UsageError;

/// What a network is told of all images of a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Numbers {
    /// Empty for a network that is told none.
    told: Vec<f32>,
    /// What stands for none, where the network has learned it.
    null: Option<Vec<f32>>,
}

impl Numbers {
    /// What `--numbers` asks of a model; `noise` is how much the pictures have that images are made from.
    ///
    /// # Errors   [`UsageError`] for columns that there are not or that are missing, and what is no number
    pub fn asked(
        asked: Option<&str>,
        opened: &OpenedModel,
        noise: f32,
    ) -> Result<Self, UsageError> {
        let names: Vec<&str> = opened.columns.iter().map(|of| of.name.as_str()).collect();
        let list = names.join(", ");
        let refuse = |text: String| Err(UsageError(format!("--numbers {text}")));
        let condition = &opened.condition;
        if let (Some(asked), true) = (asked, names.is_empty()) {
            return refuse(format!(
                "{asked}: this network is told no numbers; leave --numbers out"
            ));
        }
        let columns = match asked {
            None if !names.is_empty() && condition.dropout == 0.0 => {
                return Err(UsageError(format!(
                    "this network is told {list} of every image; give them, as in --numbers {}=0",
                    names.join("=0,")
                )));
            }
            None => None,
            Some(asked) => {
                let mut found = vec![None; names.len()];
                for part in asked.split(',') {
                    let Some((name, number)) = part.split_once('=') else {
                        return refuse(format!("{asked}: write NAME=NUMBER, as in {}=0", names[0]));
                    };
                    let place = names.iter().position(|known| *known == name.trim());
                    let Some(place) = place else {
                        return refuse(format!("{part}: no such column; there are {list}"));
                    };
                    let number = number.trim().parse().ok().filter(|x: &f64| x.is_finite());
                    let Some(number) = number else {
                        return refuse(format!("{part}: is no number"));
                    };
                    found[place] = Some(opened.columns[place].told(number));
                }
                let missing = found.iter().position(Option::is_none);
                if let Some(missing) = missing.and_then(|place| names.get(place)) {
                    return refuse(format!("{asked}: {missing} is missing; give all of {list}"));
                }
                Some(found.into_iter().flatten().collect::<Vec<_>>())
            }
        };
        Ok(Self {
            told: opened.vector(columns.as_deref(), noise),
            null: (condition.dropout > 0.0).then(|| opened.vector(None, noise)),
        })
    }

    /// `told` of n images, with these numbers.
    pub fn with(self, told: Told, n: usize) -> Told {
        match self.told.is_empty() {
            true => told,
            false => Told {
                numbers: vec![self.told; n],
                null_numbers: self.null,
                ..told
            },
        }
    }
}
