//! Opening a guidance, and steering all of its samplers.

use std::ffi::c_char;
use std::path::Path;
use std::sync::{Arc, Once};

use tracing_subscriber::EnvFilter;

use super::arguments::{array, array_mut, copy, optional_text, result, text};
use super::handle::{self, genarm};
use super::linkage;
use super::status::{Failure, genarm_status, guard};
use crate::config::{Overrides, host_source, parse_weight};
use crate::plugin::{Plugin, PluginError, Watch};

/// Opens a guidance from a YAML file and loads its ARMs. Of the base only the vocabulary is read.
///
/// `profile` (or NULL) names a set of weights in the file; `weights` (or NULL) is a list such as
/// "helpful=1.2,harmless=0" that beats both. On success `*out` is a handle; close it with genarm_close.
///
/// # Safety
///
/// Texts are NULL or C strings; `out` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_open_file(
    path: *const c_char,
    profile: *const c_char,
    weights: *const c_char,
    out: *mut *mut genarm,
) -> genarm_status {
    start_log();
    guard(|| {
        linkage::check()?;
        // SAFETY: by the contract above.
        let (path, overrides, out) =
            unsafe { (text(path, "path")?, overrides(profile, weights)?, result(out, "out")?) };
        *out = handle::open(Plugin::open(Path::new(path), overrides)?);
        Ok(())
    })
}

/// Opens what guides one model of a host that runs several: the entry `host` of `hosts:` in a YAML file, such as
/// "ollama:llama3.2". `model` is the path of the host's model, which is the base where the entry names none. The rest
/// is as in genarm_open_file.
///
/// # Safety
///
/// As genarm_open_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_open_host(
    path: *const c_char,
    host: *const c_char,
    model: *const c_char,
    profile: *const c_char,
    weights: *const c_char,
    out: *mut *mut genarm,
) -> genarm_status {
    start_log();
    guard(|| {
        linkage::check()?;
        // SAFETY: by the contract above.
        let (path, host, model) = unsafe { (text(path, "path")?, text(host, "host")?, text(model, "model")?) };
        // SAFETY: as above.
        let (overrides, out) = unsafe { (overrides(profile, weights)?, result(out, "out")?) };
        let (file, overrides) =
            host_source(Path::new(path), host, Path::new(model), &overrides).map_err(PluginError::from)?;
        tracing::info!(host, model, config = %file.display(), "this model is guided");
        *out = handle::open(Plugin::open(&file, overrides)?);
        Ok(())
    })
}

/// Opens a guidance from a YAML text. Paths in it are relative to `folder`; NULL is the working directory.
///
/// # Safety
///
/// As genarm_open_file.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_open_string(
    yaml: *const c_char,
    folder: *const c_char,
    profile: *const c_char,
    weights: *const c_char,
    out: *mut *mut genarm,
) -> genarm_status {
    start_log();
    guard(|| {
        linkage::check()?;
        // SAFETY: by the contract above.
        let (yaml, folder) = unsafe { (text(yaml, "yaml")?, optional_text(folder, "folder")?) };
        // SAFETY: as above.
        let (overrides, out) = unsafe { (overrides(profile, weights)?, result(out, "out")?) };
        *out = handle::open(Plugin::parse(yaml, Path::new(folder.unwrap_or_default()), overrides)?);
        Ok(())
    })
}

/// Closes a guidance. Samplers that are still there stay good, and keep the ARMs in memory until the last one is freed.
#[unsafe(no_mangle)]
pub extern "C" fn genarm_close(guidance: *mut genarm) -> genarm_status {
    guard(|| handle::close(guidance))
}

/// Watches the file that the guidance was opened from: a saved change of the weights holds from the next token on, for
/// all samplers. A file that cannot be used changes nothing; the log says why.
#[unsafe(no_mangle)]
pub extern "C" fn genarm_watch(guidance: *mut genarm) -> genarm_status {
    guard(|| {
        let plugin = handle::get(guidance)?.plugin;
        let file = plugin.path().ok_or_else(|| {
            Failure::new(
                genarm_status::GENARM_HOST,
                "cannot watch: this guidance was opened from text, not from a file; use genarm_open_file",
            )
        })?;
        let watch = Watch::start(&plugin, &file).map_err(|error| {
            Failure::new(genarm_status::GENARM_HOST, format!("cannot watch {}: {error}", file.display()))
        })?;
        // The watch that was there, if any, ends after the lock.
        let before = handle::with(guidance, |entry| entry.watch.replace(Arc::new(watch)))?;
        drop(before);
        Ok(())
    })
}

/// The number of ARMs.
///
/// # Safety
///
/// `out` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_n_arms(guidance: *const genarm, out: *mut usize) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { result(out, "out") }?;
        *out = handle::get(guidance)?.names.len();
        Ok(())
    })
}

/// The name of ARM `index`, from 0. The text is good until genarm_close.
///
/// # Safety
///
/// `out` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_arm_name(
    guidance: *const genarm,
    index: usize,
    out: *mut *const c_char,
) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { result(out, "out") }?;
        let names = handle::get(guidance)?.names;
        let name = names.get(index).ok_or_else(|| {
            Failure::new(genarm_status::GENARM_VALUE, format!("there is no ARM {index}; there are {}", names.len()))
        })?;
        *out = name.as_ptr();
        Ok(())
    })
}

/// The weights that new samplers start with, in the order of the ARMs. `n` is the number of ARMs.
///
/// # Safety
///
/// `out` is NULL or has room for `n` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_get_weights(guidance: *const genarm, out: *mut f32, n: usize) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { array_mut(out, n, "out") }?;
        copy(&handle::get(guidance)?.plugin.weights().of_arms(), out)
    })
}

/// Sets the weight of the ARM `name` for all samplers, those to come too, from the next token on.
/// `ARM.OBJECTIVE` names a preference of an ARM with several objectives.
///
/// # Safety
///
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_set_weight(guidance: *mut genarm, name: *const c_char, weight: f32) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let name = unsafe { text(name, "name") }?;
        Ok(handle::get(guidance)?.plugin.set(name, weight)?)
    })
}

/// Sets all weights at once for all samplers, those to come too, from the next token on. `n` is the number of ARMs.
///
/// # Safety
///
/// `weights` is NULL or has `n` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_set_weights(guidance: *mut genarm, weights: *const f32, n: usize) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let weights = unsafe { array(weights, n, "weights") }?;
        Ok(handle::get(guidance)?.plugin.set_all(weights)?)
    })
}

/// Sets the weights of the configuration's profile `name` for all samplers, those to come too.
///
/// # Safety
///
/// `name` is NULL or a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_set_profile(guidance: *mut genarm, name: *const c_char) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let name = unsafe { text(name, "name") }?;
        let plugin = handle::get(guidance)?.plugin;
        Ok(plugin.set_all(&plugin.profile(name)?)?)
    })
}

/// Tokens that the ARMs have read since the guidance was opened, in all sequences. What prefix reuse saves is not in
/// it.
///
/// # Safety
///
/// `out` is NULL or may be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn genarm_n_decoded(guidance: *const genarm, out: *mut u64) -> genarm_status {
    guard(|| {
        // SAFETY: by the contract above.
        let out = unsafe { result(out, "out") }?;
        *out = handle::get(guidance)?.plugin.n_decoded();
        Ok(())
    })
}

/// # Safety
///
/// Both are NULL or C strings.
unsafe fn overrides(profile: *const c_char, weights: *const c_char) -> Result<Overrides, Failure> {
    // SAFETY: by the contract above.
    let (profile, weights) = unsafe { (optional_text(profile, "profile")?, optional_text(weights, "weights")?) };
    let weights = weights.unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let weights = weights.map(parse_weight).collect::<Result<Vec<_>, _>>();
    let weights = weights.map_err(|text| Failure::new(genarm_status::GENARM_VALUE, text))?;
    let profile = profile.filter(|name| !name.is_empty()).map(str::to_owned);
    Ok(Overrides { profile, weights, ..Overrides::default() })
}

/// Warnings go to stderr, as in the command line; `GENARM_LOG` chooses others.
fn start_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let filter = EnvFilter::try_from_env("GENARM_LOG");
        let filter = filter.unwrap_or_else(|_| EnvFilter::new("error,llama-cpp-2=off,genarm=warn"));
        // Where a Rust host has a log of its own, ours goes there.
        let _ =
            tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
    });
}
