//! Dynamic loss scaling for training in half precision.

use serde::{Deserialize, Serialize};

/// What the loss is multiplied with before the backward pass, so that gradients which f16 cannot hold do not
/// become 0 (Micikevicius et al. 2018, section 3.2). It is halved when the gradient overflows and doubled after
/// 2,000 updates without that; a part of the training state.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LossScale {
    scale: f64,
    /// Updates since it last changed.
    updates: u64,
}

/// Updates after which the scale is doubled.
const GROW_AFTER: u64 = 2000;
/// The scale of a new run.
const FIRST: f64 = 65536.0;
/// Bounds of the scale.
const RANGE: [f64; 2] = [1.0, 16_777_216.0];

impl Default for LossScale {
    fn default() -> Self {
        Self {
            scale: FIRST,
            updates: 0,
        }
    }
}

impl LossScale {
    /// The scale now.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.scale.clamp(RANGE[0], RANGE[1])
    }

    /// After an update.
    pub fn updated(&mut self) {
        self.updates += 1;
        if self.updates >= GROW_AFTER {
            self.scale = (self.value() * 2.0).min(RANGE[1]);
            self.updates = 0;
        }
    }

    /// After a gradient that is not finite: whether the scale could be lowered, so that it was the scale's fault.
    pub fn overflowed(&mut self) -> bool {
        let lowered = self.value() > RANGE[0];
        self.scale = (self.value() / 2.0).max(RANGE[0]);
        self.updates = 0;
        lowered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_slowly_and_falls_fast() {
        let mut scale = LossScale::default();
        assert_eq!(scale.value(), 65536.0);
        for _ in 0..GROW_AFTER - 1 {
            scale.updated();
        }
        assert_eq!(scale.value(), 65536.0);
        scale.updated();
        assert_eq!(scale.value(), 131_072.0);
        assert!(scale.overflowed() && scale.overflowed());
        assert_eq!(scale.value(), 32768.0);
        // What a fall interrupts begins anew.
        for _ in 0..GROW_AFTER - 1 {
            scale.updated();
        }
        assert_eq!(scale.value(), 32768.0);
    }

    #[test]
    fn it_stays_in_its_bounds() {
        let mut scale = LossScale::default();
        let falls = (0..100).filter(|_| scale.overflowed()).count();
        assert_eq!((falls, scale.value()), (16, 1.0));
        for _ in 0..GROW_AFTER * 100 {
            scale.updated();
        }
        assert_eq!(scale.value(), RANGE[1]);
    }

    #[test]
    fn nonsense_from_a_file_is_bounded() {
        let scale: LossScale = serde_json::from_str(r#"{"scale": 1e300, "updates": 3}"#).unwrap();
        assert_eq!(scale.value(), RANGE[1]);
    }
}
