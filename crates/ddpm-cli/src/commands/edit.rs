//! `ddpm edit`: one file a subcommand, and what they share.

mod colourise;
mod enlarge;
mod from_pictures;
mod inpaint;
mod interpolate;
mod invert;
mod job;
mod outpaint;
mod picture;
mod places;
mod session;
mod tile;
mod vary;

use anyhow::Result;

use super::Report;
use crate::args::{Common, Edit, EditArgs};

/// Changes images with a trained network.
///
/// # Errors   usage, data, format, device and memory errors with their exit codes
pub fn edit(args: &EditArgs, common: Common) -> Result<Report> {
    match &args.edit {
        Edit::Inpaint(args) => inpaint::inpaint(args, common),
        Edit::Vary(args) => vary::vary(args, common),
        Edit::Interpolate(args) => interpolate::interpolate(args, common),
        Edit::Invert(args) => invert::invert(args, common),
        Edit::Outpaint(args) => outpaint::outpaint(args, common),
        Edit::Tile(args) => tile::tile(args, common),
        Edit::Enlarge(args) => enlarge::enlarge(args, common),
        Edit::Colourise(args) => colourise::colourise(args, common),
    }
}
