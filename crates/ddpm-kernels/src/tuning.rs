//! The kernels chosen by timing, and those compiled, to be kept from one process to the next.
//!
//! On a GPU with matrix units a convolution's products can be made by several kernels; the first time that
//! work of some size is done, each is timed. Batches of one size therefore start slowly once. Text from
//! [`export`] given to [`import`] saves even that, and makes a later run use the same kernels.

/// Every choice so far in this process as JSON; `None` if there was none to make.
pub fn export() -> Option<String> {
    #[cfg(feature = "cube")]
    {
        let choices = crate::cube::export();
        let text = (!choices.is_empty()).then(|| serde_json::to_string_pretty(&choices));
        text.and_then(Result::ok)
    }
    #[cfg(not(feature = "cube"))]
    None
}

/// Takes over the choices of an earlier process, for devices and work that they name exactly. Choices that
/// were made in this process stay.
///
/// # Errors   what is wrong with the text
pub fn import(text: &str) -> Result<(), String> {
    #[cfg(feature = "cube")]
    {
        let choices = serde_json::from_str(text).map_err(|error| error.to_string())?;
        crate::cube::import(choices);
    }
    let _ = text;
    Ok(())
}

/// Keeps compiled kernels below the user's cache directory, in CubeCL's database, for the next process of this build and
/// this kind of GPU; to be called before the first GPU is opened. Without the feature `kernel-cache` it does nothing.
pub fn keep_compiled_kernels() {
    #[cfg(feature = "kernel-cache")]
    {
        use cubecl::config::cache::CacheConfig;
        use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};

        let mut config = CubeClRuntimeConfig::default().override_from_env();
        config.compilation.cache = true;
        config.environment.path = CacheConfig::Global;
        // Whoever has configured CubeCL before knows better.
        let _ = CubeClRuntimeConfig::try_set(config);
    }
}
