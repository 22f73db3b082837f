//! The parts of a network of EDM in their order: what is built, and what its cost is counted from.

use super::config::{EdmArchitecture, EdmConfig, EdmDecoder, EdmEncoder};

/// How a block changes the resolution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resampling {
    /// Not at all.
    Keep,
    /// It halves.
    Down,
    /// It doubles.
    Up,
}

/// A residual block.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BlockPlan {
    /// Channels that enter, those of the skip counted.
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) resampling: Resampling,
    /// Heads of its attention, 0 without.
    pub(crate) heads: usize,
    /// Channels of the skip that is concatenated, 0 without.
    pub(crate) skip: usize,
}

/// What a part is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// The first convolution.
    Conv { input: usize, output: usize },
    /// A residual block.
    Block(BlockPlan),
    /// The image, halved.
    AuxDown,
    /// What the halved image adds.
    AuxSkip { input: usize, output: usize },
    /// What the level before adds.
    AuxResidual { input: usize, output: usize },
    /// The output so far, doubled.
    AuxUp { channels: usize },
    /// The normalisation before a level's output.
    AuxNorm { channels: usize },
    /// A level's output.
    AuxConv { input: usize, output: usize },
}

/// A part with its name and the level whose resolution it leaves.
#[derive(Debug, Clone)]
pub(crate) struct PlannedPart {
    pub(crate) name: String,
    pub(crate) level: usize,
    pub(crate) part: Part,
}

/// Both ways.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) enc: Vec<PlannedPart>,
    pub(crate) dec: Vec<PlannedPart>,
    /// Channels that the last part leaves.
    pub(crate) last: usize,
}

/// Channels of ADM's heads.
const HEAD: usize = 64;

impl EdmConfig {
    /// Heads of attention over `channels` channels. ADM's are of 64, so fewer channels have no attention.
    pub(crate) fn heads(&self, channels: usize) -> usize {
        match self.model_type {
            EdmArchitecture::SongUNet => 1,
            EdmArchitecture::DhariwalUNet => channels / HEAD,
        }
    }

    /// The parts of a valid configuration.
    pub(crate) fn plan(&self) -> Plan {
        let song = self.model_type == EdmArchitecture::SongUNet;
        let channels = self.channels();
        let side = |level: usize| self.img_resolution >> level;
        let attends = |level: usize| self.attn_resolutions.contains(&side(level));
        let planned = |level: usize, name: &str, part: Part| PlannedPart {
            name: format!("{0}x{0}_{name}", side(level)),
            level,
            part,
        };
        let block = |input: usize, output: usize, attention: bool| BlockPlan {
            input,
            output,
            resampling: Resampling::Keep,
            heads: if attention { self.heads(output) } else { 0 },
            skip: 0,
        };

        let mut enc = Vec::new();
        let mut skips = Vec::new();
        let mut x = if song {
            self.model_channels
        } else {
            channels[0]
        };
        let mut aux = self.in_channels;
        for (level, &output) in channels.iter().enumerate() {
            if level == 0 {
                let input = self.in_channels;
                enc.push(planned(level, "conv", Part::Conv { input, output: x }));
                skips.push(x);
            } else {
                let down = BlockPlan {
                    resampling: Resampling::Down,
                    ..block(x, x, false)
                };
                enc.push(planned(level, "down", Part::Block(down)));
                skips.push(x);
                let (input, output) = (aux, x);
                match self.encoder_type {
                    EdmEncoder::Standard => {}
                    EdmEncoder::Skip => {
                        enc.push(planned(level, "aux_down", Part::AuxDown));
                        enc.push(planned(level, "aux_skip", Part::AuxSkip { input, output }));
                    }
                    EdmEncoder::Residual => {
                        let part = Part::AuxResidual { input, output };
                        enc.push(planned(level, "aux_residual", part));
                        aux = x;
                    }
                }
            }
            for i in 0..self.num_blocks {
                let part = Part::Block(block(x, output, attends(level)));
                enc.push(planned(level, &format!("block{i}"), part));
                skips.push(output);
                x = output;
            }
        }

        let mut dec = Vec::new();
        let last = channels.len() - 1;
        for (level, &output) in channels.iter().enumerate().rev() {
            if level == last {
                dec.push(planned(level, "in0", Part::Block(block(x, x, true))));
                dec.push(planned(level, "in1", Part::Block(block(x, x, false))));
            } else {
                let up = BlockPlan {
                    resampling: Resampling::Up,
                    ..block(x, x, false)
                };
                dec.push(planned(level, "up", Part::Block(up)));
            }
            for i in 0..=self.num_blocks {
                let skip = skips.pop().unwrap_or_default();
                // DDPM++ attends after the last block of a level alone.
                let attention = attends(level) && (!song || i == self.num_blocks);
                let part = Part::Block(BlockPlan {
                    skip,
                    ..block(x + skip, output, attention)
                });
                dec.push(planned(level, &format!("block{i}"), part));
                x = output;
            }
            let every = self.decoder_type == EdmDecoder::Skip;
            if song && (every || level == 0) {
                let output = self.out_channels;
                if every && level < last {
                    let channels = output;
                    dec.push(planned(level, "aux_up", Part::AuxUp { channels }));
                }
                dec.push(planned(level, "aux_norm", Part::AuxNorm { channels: x }));
                let part = Part::AuxConv { input: x, output };
                dec.push(planned(level, "aux_conv", part));
            }
        }
        Plan { enc, dec, last: x }
    }
}
