//! `ddpm edit colourise`.

use anyhow::Result;
use ddpm_diffusion::PictureKind;

use super::super::Report;
use super::from_pictures::{check_kind, draw, read};
use super::picture::Form;
use super::session::Session;
use crate::args::{ColouriseArgs, Common};

/// Gives grey pictures colours, by a network that learned it (Palette, Saharia et al. 2022).
///
/// # Errors   as [`edit`](super::edit)
pub fn colourise(args: &ColouriseArgs, common: Common) -> Result<Report> {
    let sampling = args.options.sampling.clone();
    let mut session = Session::open("colourise", &args.images, &args.options, common, |_| {
        sampling
    })?;
    check_kind(&session, PictureKind::Gray)?;
    let own = session.form(args.fit);
    let form = Form {
        channels: own.channels - 2,
        ..own
    };
    let pictures = read(&args.images, form, session.device())?;
    draw(&mut session, &pictures, args.n, 0.0)
}
