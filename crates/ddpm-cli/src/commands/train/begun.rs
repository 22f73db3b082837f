//! `--init`: the model that a run begins with.

use anyhow::Result;
use ddpm_model::OpenedModel;
use ddpm_train::InitConfig;
use ddpm_unet::ModelShape;
use tracing::subscriber::{NoSubscriber, with_default};

use crate::commands::inspect::{host, word};
use crate::models;
use crate::recipe::Recipe;

/// The model, whose place is then written as it is found from any folder.
///
/// # Errors   format errors for what is no model, or a damaged one
pub fn open(init: &mut InitConfig) -> Result<OpenedModel> {
    let found = models::find(&init.model)?;
    init.model = std::path::absolute(&found).unwrap_or(found);
    // Training opens it again, and says then what is to be said of it.
    let device = host()?;
    Ok(with_default(NoSubscriber::new(), || init.open(&device))?)
}

/// Gives the recipe the model's network, unless the user asked for another one, and warns of weights that have learned
/// something else than the run teaches.
///
/// # Errors   if one of the two has no process
pub fn fit(opened: &OpenedModel, recipe: &mut Recipe, shape: ModelShape) -> Result<()> {
    recipe.take_network_of(&opened.model, shape);
    let config = &recipe.config;
    let (then, now) = (opened.process()?, config.process()?);
    let prediction = config.objective.build(&now)?.meaning().prediction;
    let path = opened.path.display();
    if opened.meaning.prediction != prediction {
        tracing::warn!(
            "{path}: its network predicts {}, and this run teaches it {}; set objective.prediction to go on as before",
            word(&opened.meaning.prediction),
            word(&prediction)
        );
    }
    if then.name() != now.name() {
        tracing::warn!(
            "{path}: its process is {}, and this run's is {}; set process.kind to go on as before",
            then.name(),
            now.name()
        );
    }
    Ok(())
}
