//! The environment variables that say where stores are.

use std::path::PathBuf;

/// Reads a variable; `None` where it is unset or empty. `HOME` stands for the home folder on every system.
pub type Variables<'a> = dyn Fn(&str) -> Option<PathBuf> + 'a;

/// A variable of this process.
pub fn variable(name: &str) -> Option<PathBuf> {
    let value = match name {
        "HOME" => std::env::home_dir(),
        name => std::env::var_os(name).map(PathBuf::from),
    };
    value.filter(|path| !path.as_os_str().is_empty())
}
