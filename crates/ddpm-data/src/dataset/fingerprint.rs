use super::Dataset;
use crate::error::DataError;

/// Images that are looked at: enough to meet an exchanged, reordered or rescaled set, few enough to cost nothing.
const LOOKED_AT: usize = 64;

impl Dataset {
    /// A digest by which a run knows its set again, wherever it lies now: count, shape, classes, the numbers of
    /// the columns that it tells a network, and the pixels of up to 64 images spread evenly over it.
    ///
    /// An image that is added, removed or moved shifts the ones behind it, which shows; one that is exchanged in
    /// its place shows only if it is among those looked at.
    ///
    /// # Errors   those of decoding, for a set that is decoded on demand; those of [`Dataset::column`]
    pub fn fingerprint(&self, columns: &[String]) -> Result<String, DataError> {
        let mut hasher = blake3::Hasher::new();
        let mut number = |n: usize| {
            hasher.update(&(n as u64).to_le_bytes());
        };
        number(self.len);
        self.shape.into_iter().for_each(&mut number);
        for &label in self.labels.iter().flatten() {
            number(label);
        }
        for name in columns {
            for value in self.column(name)?.values {
                hasher.update(&value.to_le_bytes());
            }
        }
        let looked_at = LOOKED_AT.min(self.len);
        let mut pixels = vec![0.0; self.pixels_per_image()];
        for i in 0..looked_at {
            // the first and the last are among them
            let index = i * (self.len - 1) / (looked_at - 1).max(1);
            self.write(index, false, &mut pixels)?;
            for pixel in &pixels {
                hasher.update(&pixel.to_le_bytes());
            }
        }
        Ok(hasher.finalize().to_hex().to_string())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{DataConfig, DataKind};
    use crate::fixtures::{config, load, png, write};

    #[test]
    fn a_set_is_known_again_in_another_place_and_another_set_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let set = |folder: &str, colours: &[u8]| {
            let root = dir.path().join(folder);
            for (i, &colour) in colours.iter().enumerate() {
                write(&root, &format!("{i}.png"), &png(3, 2, [colour; 3]));
            }
            let mut config = config(DataKind::Folder, &root);
            let in_memory = load(&config).unwrap().fingerprint(&[]).unwrap();
            config.cache_bytes = 0;
            assert_eq!(load(&config).unwrap().fingerprint(&[]).unwrap(), in_memory);
            in_memory
        };
        let first = set("a", &[1, 2, 3]);
        assert_eq!(set("b", &[1, 2, 3]), first);
        for (folder, colours) in [("c", &[1, 2][..]), ("d", &[1, 3, 2]), ("e", &[1, 2, 3, 3])] {
            assert_ne!(set(folder, colours), first, "{folder}");
        }
    }

    #[test]
    fn one_image_is_enough() {
        let one = DataConfig {
            kind: DataKind::Synthetic,
            count: Some(1),
            ..DataConfig::default()
        };
        assert_eq!(load(&one).unwrap().fingerprint(&[]).unwrap().len(), 64);
    }
}
