//! A draft as TOML for a file, and as lines for a terminal.

use toml::Value;

use super::network::{Length, On};
use super::{Draft, data_table};
use crate::words;

impl Draft<'_> {
    /// The recipe: small differences from the defaults, with reasons as comments.
    pub(super) fn text(&self) -> String {
        let network = &self.network;
        let Length {
            batch,
            steps,
            every,
            lr,
            warmup,
        } = self.length;
        let longer = self.size.height.max(self.size.width);
        let mut text = format!(
            "# {}.\n# Chosen for {}; every key may be changed. Train by it with `ddpm train FILE`.\n\n[data]\n",
            self.survey.describe(),
            self.device()
        );
        text += &self.data_keys();
        text += &format!(
            "\n[model]                # levels of {} pixels\nkind = \"unet\"\nchannels = {}\nmultipliers = {:?}\nblocks = {}\n\
             attention_at = {:?}\ngroups = {}\n",
            self.levels(),
            network.channels,
            network.multipliers,
            network.blocks,
            network.attention_at,
            network.groups,
        );
        if network.pad {
            text += "pad = true             # the levels do not divide the images\n";
        }
        // Nichol & Dhariwal 2021, section 3.2: the linear schedule spoils small images too soon.
        let schedule = if longer <= 64 { "cosine" } else { "linear" };
        text += &format!("\n[schedule]\nkind = \"{schedule}\"\n");
        let decay = match self.on {
            On::Cpu => "cosine",
            On::Gpu => "constant",
        };
        text += &format!("\n[optim]\nlr = {lr:e}\nwarmup_steps = {warmup}\ndecay = \"{decay}\"\n");
        text += &format!(
            "\n[ema]\ndecay = {}\n",
            if steps <= 10_000 { 0.999 } else { 0.9999 }
        );
        text += &format!(
            "\n[train]                # {}\nsteps = {steps}\nbatch = {batch}\nsample_every = {every}\ncheckpoint_every = {every}\n",
            self.passes()
        );
        let (nfe, count) = match self.on {
            On::Cpu => (100, 16),
            On::Gpu => (250, 64),
        };
        text += &format!("\n[sample]\nsampler = \"ddpm\"\nsteps = {nfe}\ncount = {count}\n");
        text
    }

    /// What was found and chosen, a line each.
    pub(super) fn why(&self) -> String {
        let survey = &self.survey;
        let mut text = format!("images   {} ({})\n", survey.describe(), self.path.display());
        if !survey.bad.is_empty() {
            text += &format!(
                "bad      {}: skipped (`data.on_bad = \"skip\"`)\n",
                words::some(survey.bad.len() as u64, "image")
            );
        }
        text += &format!(
            "size     {}x{}: {}\n",
            self.size.height, self.size.width, self.why_size
        );
        let attention = match self.network.attention_at.first() {
            Some(side) => format!("attention at {side}"),
            None => "attention in the middle".to_owned(),
        };
        text += &format!(
            "levels   {} of {} to {} channels, {attention}: for {}\n",
            self.levels(),
            self.network.channels,
            self.network.channels * self.network.multipliers.iter().max().unwrap_or(&1),
            self.device()
        );
        text += &format!(
            "length   {} of {}: {}; --minutes N sizes it by time\n",
            words::some(self.length.steps, "step"),
            words::some(self.length.batch as u64, "image"),
            self.passes()
        );
        text
    }

    fn data_keys(&self) -> String {
        // It was read from TOML.
        let mut keys = data_table(&self.data).unwrap_or_default();
        let mut comments = Vec::new();
        let side = |side: usize| i64::try_from(side).unwrap_or(i64::MAX);
        if self.survey.size != Some(self.size) || self.data.size.is_some() {
            let (height, width) = (side(self.size.height), side(self.size.width));
            let size = match height == width {
                true => Value::Integer(height),
                false => Value::Array(vec![height.into(), width.into()]),
            };
            keys.insert("size".to_owned(), size);
            comments.push(("size", self.why_size.as_str()));
        }
        if !self.survey.same_channels || self.data.channels.is_some() {
            keys.insert("channels".to_owned(), side(self.channels).into());
            comments.push(("channels", "1 grey, 3 colour, 4 colour and transparency"));
        }
        if !self.survey.bad.is_empty() && !keys.contains_key("on_bad") {
            keys.insert("on_bad".to_owned(), "skip".into());
            comments.push(("on_bad", "some images cannot be read"));
        }
        if let Some(path) = self
            .data
            .path
            .as_deref()
            .and_then(|path| std::path::absolute(path).ok())
            && let Some(path) = path.to_str()
        {
            keys.insert("path".to_owned(), path.into());
        }
        keys.iter()
            .map(|(key, value)| {
                let line = format!("{key} = {value}");
                match comments.iter().find(|(commented, _)| commented == key) {
                    Some((_, comment)) => format!("{line:<22} # {comment}\n"),
                    None => format!("{line}\n"),
                }
            })
            .collect()
    }

    fn device(&self) -> &'static str {
        match self.on {
            On::Cpu => "a CPU",
            On::Gpu => "a GPU",
        }
    }

    /// `32, 16 and 8`.
    fn levels(&self) -> String {
        let sides: Vec<String> = self.network.sides.iter().map(ToString::to_string).collect();
        match sides.split_last() {
            Some((last, others)) if !others.is_empty() => {
                format!("{} and {last}", others.join(", "))
            }
            _ => sides.concat(),
        }
    }

    fn passes(&self) -> String {
        let shown = self.length.steps * self.length.batch as u64;
        let passes = shown.div_ceil(self.survey.images.max(1) as u64);
        let ending = if passes == 1 { "" } else { "es" };
        format!("{} pass{ending} over the set", words::count(passes))
    }
}
