//! ggml's RPC backend: layers on other machines, and the server that takes them (feature `rpc`).
//!
//! ggml's own client ends the process when a server is lost. genarm compiles it on a transport of its own
//! (`vendor/rpc-transport`) that keeps it going with made-up answers and remembers the loss; [`fault`] tells it, and
//! what was computed since is thrown away. Neither side authenticates or encrypts: reach other machines through a
//! tunnel.

use std::time::Duration;

use super::load_error::LoadError;

/// Servers of this release speak this version of ggml's protocol, and no other is accepted.
pub const PROTOCOL: u32 = 7;

/// How long a server may be silent, where nothing else is set. It must be longer than one batch of a prompt takes.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

#[cfg(all(feature = "rpc", unix))]
mod linked {
    use std::ffi::{CStr, CString, c_char, c_int};
    use std::time::Duration;

    use llama_cpp_sys_2 as sys;

    use super::super::device::{Device, DeviceKind};
    use super::super::{backend, device};
    use super::LoadError;

    // ggml-rpc.h and vendor/rpc-transport/transport.cpp, both compiled by build.rs.
    unsafe extern "C" {
        fn ggml_backend_rpc_add_server(endpoint: *const c_char) -> sys::ggml_backend_reg_t;
        fn ggml_backend_rpc_start_server(
            endpoint: *const c_char,
            cache_dir: *const c_char,
            n_threads: usize,
            n_devices: usize,
            devices: *mut sys::ggml_backend_dev_t,
        );
        fn genarm_rpc_set_timeout(ms: c_int);
        fn genarm_rpc_fault(endpoint: *const c_char, text: *mut c_char, size: usize) -> bool;
    }

    pub fn set_timeout(time: Duration) {
        // SAFETY: a number; connections made later read it.
        unsafe { genarm_rpc_set_timeout(c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX)) }
    }

    pub fn fault_of(endpoint: &str) -> Option<String> {
        let endpoint = CString::new(endpoint).ok()?;
        let mut text = [0 as c_char; 256];
        // SAFETY: a C string, and a buffer with its size; the function writes a C string there before it returns true.
        let lost = unsafe { genarm_rpc_fault(endpoint.as_ptr(), text.as_mut_ptr(), text.len()) };
        // SAFETY: as above; a buffer that was not written is all NUL.
        lost.then(|| unsafe { CStr::from_ptr(text.as_ptr()) }.to_string_lossy().into_owned())
    }

    pub fn connect(endpoint: &str) -> Result<Vec<sys::ggml_backend_dev_t>, LoadError> {
        backend::start();
        let fail = |reason: String| LoadError::Server { endpoint: endpoint.to_owned(), reason };
        let c_endpoint = CString::new(endpoint).map_err(|_| fail("not a host:port".to_owned()))?;
        // ggml keeps a list of servers that it has met, and connects again only when asked something: the memory of a
        // device. SAFETY: a C string; ggml keeps a copy.
        let reg = unsafe { ggml_backend_rpc_add_server(c_endpoint.as_ptr()) };
        let devices = if reg.is_null() {
            Vec::new()
        } else {
            // SAFETY: a registry that is never freed, and indices below its count.
            unsafe {
                let n = sys::ggml_backend_reg_dev_count(reg);
                (0..n).map(|i| sys::ggml_backend_reg_dev_get(reg, i)).collect::<Vec<_>>()
            }
        };
        // SAFETY: devices of the registry above, which is a started backend.
        devices.iter().for_each(|dev| drop(unsafe { Device::of(*dev) }));
        match fault_of(endpoint) {
            Some(reason) => Err(fail(reason)),
            None if devices.is_empty() => Err(fail("it offers no device".to_owned())),
            None => Ok(devices),
        }
    }

    pub fn serve(endpoint: &str, names: &[String], threads: u32) -> Result<(), LoadError> {
        backend::start();
        let fail = |reason: &str| LoadError::Server { endpoint: endpoint.to_owned(), reason: reason.to_owned() };
        let c_endpoint = CString::new(endpoint).map_err(|_| fail("not a host:port"))?;
        let mut devices = names.iter().map(|name| device::find(name)).collect::<Result<Vec<_>, _>>()?;
        if devices.is_empty() {
            let found = device::devices();
            let chosen =
                |kind: fn(&Device) -> bool| found.iter().filter(move |d| kind(d)).map(|d| device::find(&d.name));
            devices = chosen(Device::takes_layers).collect::<Result<_, _>>()?;
            if devices.is_empty() {
                devices = chosen(|d| d.kind == DeviceKind::Cpu).collect::<Result<_, _>>()?;
            }
        }
        // SAFETY: C strings and arrays that live until the call returns, which is when it cannot listen.
        unsafe {
            ggml_backend_rpc_start_server(
                c_endpoint.as_ptr(),
                std::ptr::null(),
                threads as usize,
                devices.len(),
                devices.as_mut_ptr(),
            );
        }
        Err(fail("cannot listen there; is the port taken, or the address not this machine's?"))
    }
}

#[cfg(not(all(feature = "rpc", unix)))]
mod linked {
    use std::time::Duration;

    use llama_cpp_sys_2 as sys;

    use super::LoadError;

    pub fn set_timeout(_: Duration) {}

    pub fn fault_of(_: &str) -> Option<String> {
        None
    }

    pub fn connect(_: &str) -> Result<Vec<sys::ggml_backend_dev_t>, LoadError> {
        Err(LoadError::NoRpc)
    }

    pub fn serve(_: &str, _: &[String], _: u32) -> Result<(), LoadError> {
        Err(LoadError::NoRpc)
    }
}

pub(super) use linked::connect;

/// Sets how long a server may be silent before it counts as lost, for connections from now on.
pub fn set_timeout(time: Duration) {
    linked::set_timeout(time);
}

/// The first of `endpoints` (`host:port`) whose connection is lost, and what happened.
pub fn fault(endpoints: &[String]) -> Option<(String, String)> {
    endpoints.iter().find_map(|endpoint| Some((endpoint.clone(), linked::fault_of(endpoint)?)))
}

/// The devices of a server.
///
/// # Errors
///
/// [`LoadError::Server`] when it cannot be reached within the time-out or speaks another version, [`LoadError::NoRpc`]
/// in a build without the feature.
pub fn devices_of(endpoint: &str) -> Result<Vec<super::Device>, LoadError> {
    // SAFETY: `connect` names devices of a started backend.
    Ok(connect(endpoint)?.into_iter().map(|dev| unsafe { super::Device::of(dev) }).collect())
}

/// Serves devices (those of `names`; none stands for all GPUs, or the processor) at `endpoint`, one client after
/// another.
///
/// # Errors
///
/// When it cannot listen, or there is no such device; else it does not return.
pub fn serve(endpoint: &str, names: &[String], threads: u32) -> Result<(), LoadError> {
    linked::serve(endpoint, names, threads)
}
