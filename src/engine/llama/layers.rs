//! Which devices get the layers of a model.

use llama_cpp_sys_2 as sys;

use super::device::{find, is_processor};
use super::load_error::LoadError;
use super::params::ModelParams;
use super::rpc;

/// The devices for the layers of a model, ended by NULL as llama.cpp reads them; `None` where it shall choose.
///
/// The processor takes what is on no device, so naming it means an empty list.
pub(super) fn list(params: &ModelParams) -> Result<Option<Vec<sys::ggml_backend_dev_t>>, LoadError> {
    if params.device.is_none() && params.rpc.is_empty() {
        return Ok(None);
    }
    let mut list = Vec::new();
    for endpoint in &params.rpc {
        list.extend(rpc::connect(endpoint)?);
    }
    for name in params.device.iter().flat_map(|names| names.split(',')).map(str::trim) {
        let dev = if name.eq_ignore_ascii_case("none") { continue } else { find(name)? };
        // SAFETY: `find` names a device of a started backend.
        if !unsafe { is_processor(dev) } {
            list.push(dev);
        }
    }
    list.push(std::ptr::null_mut());
    Ok(Some(list))
}
