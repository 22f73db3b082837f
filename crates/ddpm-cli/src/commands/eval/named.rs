//! Images that a person names, or that a run was trained on.

use std::path::Path;

use anyhow::Result;
use ddpm_data::{DataConfig, Size};
use ddpm_model::OpenedModel;

use crate::exit::UsageError;
use crate::{choose, recipe};

/// Images as the arguments name them.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// The option that names them.
    pub option: &'a str,
    /// Where they are; without it, what a run was trained on.
    pub path: Option<&'a Path>,
    /// The size that they are read at, if it is said.
    pub size: Option<Size>,
    /// Keys of `[data]`.
    pub set: &'a [String],
}

impl Named<'_> {
    /// How the images are read. `model` is what they are to be like: its run says what it was trained on, and named images
    /// are read at its size and with its channels.
    ///
    /// # Errors   [`UsageError`] if nobody says which images, and for keys that there are not
    pub fn data(&self, model: &Path, opened: Option<&OpenedModel>) -> Result<DataConfig> {
        let mut set = match self.path {
            // The built-in set, unless there is a file of that name.
            Some(path) if path == Path::new("digits") && !path.exists() => Vec::new(),
            Some(path) => choose::overrides(path, self.size)?,
            None => Vec::new(),
        };
        set.extend(self.set.iter().map(|set| match set.starts_with("data.") {
            true => set.clone(),
            false => format!("data.{set}"),
        }));
        let run = model
            .ancestors()
            .take(3)
            .map(|folder| folder.join("config.toml"))
            .find(|file| file.is_file());
        let run = run.filter(|_| opened.is_none_or(|opened| opened.imported.is_none()));
        let mut data = match (self.path, run) {
            (None, Some(file)) => recipe::read(Some(&file), &set, None)?.config.data,
            (None, None) => {
                let option = self.option;
                return Err(UsageError(format!(
                    "{}: does not say what it was trained on; name images with {option}",
                    model.display()
                ))
                .into());
            }
            (Some(_), _) => recipe::configuration("the images", "", &set)?.data,
        };
        if let (Some(_), None, Some([height, width])) =
            (self.path, data.size, opened.and_then(|opened| opened.size))
            && data.kind != ddpm_data::DataKind::Digits
        {
            data.size = Some(Size { height, width });
        }
        Ok(data)
    }
}
