//! Graphics libraries on machines without a screen.

/// Keeps them from complaining on stderr that there is none.
///
/// Looking for GPUs asks OpenGL too, which looks for a Wayland server; where nobody is logged in, its library
/// writes of a missing variable, by itself. Any folder will do for it, since there is no server in it.
pub(crate) fn say_nothing_of_it() {
    #[cfg(all(feature = "wgpu", target_os = "linux"))]
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: called before this process has a second thread.
        #[allow(unsafe_code, reason = "the environment is a C interface")]
        unsafe {
            std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir());
        }
    }
}
