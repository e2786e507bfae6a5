//! Devices: what ggml's backends have found on this machine.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;
use serde::Serialize;

use super::backend;
use super::load_error::LoadError;

/// What sort of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// The processor and main memory.
    Cpu,
    /// A graphics processor with memory of its own.
    Gpu,
    /// A graphics processor that shares main memory.
    Integrated,
    /// Something that helps the processor, such as a BLAS library.
    Accelerator,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Device {
    /// Its name, such as `CUDA0`: what `device:` takes.
    pub name: String,
    /// What it is, in its driver's words.
    pub description: String,
    /// The backend that found it.
    pub backend: String,
    /// What sort of device it is.
    pub kind: DeviceKind,
    /// Bytes of memory; 0 where the backend does not know.
    pub memory_total: u64,
    /// Bytes of it that are free.
    pub memory_free: u64,
}

impl Device {
    /// Whether layers of a model can be put there.
    pub fn takes_layers(&self) -> bool {
        matches!(self.kind, DeviceKind::Gpu | DeviceKind::Integrated)
    }

    /// Describes a device of a backend.
    ///
    /// # Safety
    ///
    /// `dev` is a device of a started backend.
    pub(super) unsafe fn of(dev: sys::ggml_backend_dev_t) -> Self {
        let (mut memory_free, mut memory_total) = (0, 0);
        // SAFETY: by the contract above, as all below; both pointers are to numbers of that size.
        unsafe { sys::ggml_backend_dev_memory(dev, &raw mut memory_free, &raw mut memory_total) };
        // SAFETY: names and descriptions are C strings that live as long as the device, which is for good.
        let text = |raw| unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned();
        // SAFETY: as above.
        let (name, description) = unsafe { (sys::ggml_backend_dev_name(dev), sys::ggml_backend_dev_description(dev)) };
        // SAFETY: as above; every device has a registry entry, whose name is a C string too.
        let backend = unsafe { sys::ggml_backend_reg_name(sys::ggml_backend_dev_backend_reg(dev)) };
        Self {
            name: text(name),
            description: text(description),
            backend: text(backend),
            // SAFETY: by the contract above.
            kind: unsafe { kind(dev) },
            memory_total: memory_total as u64,
            memory_free: memory_free as u64,
        }
    }
}

/// # Safety
///
/// `dev` is a device of a started backend.
unsafe fn kind(dev: sys::ggml_backend_dev_t) -> DeviceKind {
    // SAFETY: by the contract above.
    match unsafe { sys::ggml_backend_dev_type(dev) } {
        sys::GGML_BACKEND_DEVICE_TYPE_CPU => DeviceKind::Cpu,
        sys::GGML_BACKEND_DEVICE_TYPE_GPU => DeviceKind::Gpu,
        sys::GGML_BACKEND_DEVICE_TYPE_IGPU => DeviceKind::Integrated,
        _ => DeviceKind::Accelerator,
    }
}

/// Whether it is the processor.
///
/// # Safety
///
/// As [`kind`].
pub(super) unsafe fn is_processor(dev: sys::ggml_backend_dev_t) -> bool {
    // SAFETY: by the contract above.
    unsafe { kind(dev) == DeviceKind::Cpu }
}

fn all() -> Vec<sys::ggml_backend_dev_t> {
    backend::start();
    // SAFETY: no arguments, and every index is below the count.
    unsafe { (0..sys::ggml_backend_dev_count()).map(|i| sys::ggml_backend_dev_get(i)).collect() }
}

/// The devices of this machine, as ggml orders them.
pub fn devices() -> Vec<Device> {
    // SAFETY: `all` names devices of started backends.
    all().into_iter().map(|dev| unsafe { Device::of(dev) }).collect()
}

/// The device of a name, in any case.
pub(super) fn find(name: &str) -> Result<sys::ggml_backend_dev_t, LoadError> {
    let all = all();
    // SAFETY: as in `devices`.
    let names: Vec<_> = all.iter().map(|dev| unsafe { Device::of(*dev) }.name).collect();
    match names.iter().position(|n| n.eq_ignore_ascii_case(name)) {
        Some(index) => Ok(all[index]),
        None => Err(LoadError::Device { name: name.to_owned(), known: names.join(", ") }),
    }
}

/// Whether a model with this list of devices has some of its layers there.
pub(super) fn any_used(list: Option<&[sys::ggml_backend_dev_t]>) -> bool {
    match list {
        Some(list) => list.len() > 1,
        // SAFETY: as in `devices`.
        None => all().into_iter().any(|dev| matches!(unsafe { kind(dev) }, DeviceKind::Gpu | DeviceKind::Integrated)),
    }
}
