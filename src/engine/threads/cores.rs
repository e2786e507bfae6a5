//! The cores that compute.

#[cfg(any(target_os = "linux", test))]
use std::collections::BTreeSet;
#[cfg(any(target_os = "linux", test))]
use std::path::Path;

/// Threads that a model is computed on, unless the user says otherwise: one for each physical core, and where there are
/// performance cores and slower ones, for each performance core alone. Hyper-threads of one core share its vector units
/// and gain nothing, and at each barrier all threads would wait for the slowest.
pub fn n_cores() -> u32 {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    let physical = sysinfo::System::physical_core_count().unwrap_or(allowed);
    let cores = performance_cores().map_or(physical, |n| n.min(physical));
    u32::try_from(cores.min(allowed)).unwrap_or(1).max(1)
}

#[cfg(target_os = "linux")]
fn performance_cores() -> Option<usize> {
    performance_cores_in(Path::new("/sys/devices"))
}

#[cfg(not(target_os = "linux"))]
fn performance_cores() -> Option<usize> {
    None
}

/// Performance cores, where Linux lists them (Intel), or those of at least half the capacity of the largest (Arm).
#[cfg(any(target_os = "linux", test))]
fn performance_cores_in(devices: &Path) -> Option<usize> {
    let read = |path: String| std::fs::read_to_string(devices.join(path)).ok();
    let cpus = match read("cpu_core/cpus".into()) {
        Some(list) => numbers(&list)?,
        None => {
            let cpus = numbers(&read("system/cpu/online".into())?)?;
            let capacity = |cpu| read(format!("system/cpu/cpu{cpu}/cpu_capacity"))?.trim().parse::<u64>().ok();
            let capacities = cpus.iter().map(|cpu| capacity(*cpu)).collect::<Option<Vec<_>>>()?;
            let largest = capacities.iter().max()?;
            cpus.iter()
                .zip(&capacities)
                .filter(|(_, capacity)| 2 * **capacity >= *largest)
                .map(|(cpu, _)| *cpu)
                .collect()
        }
    };
    // Hyper-threads of a core name each other.
    let core =
        |cpu: &u32| read(format!("system/cpu/cpu{cpu}/topology/thread_siblings_list")).unwrap_or(cpu.to_string());
    let cores: BTreeSet<_> = cpus.iter().map(core).collect();
    (!cores.is_empty()).then_some(cores.len())
}

/// The numbers of a list such as "0-3,8".
#[cfg(any(target_os = "linux", test))]
fn numbers(list: &str) -> Option<Vec<u32>> {
    let mut all = Vec::new();
    for part in list.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        // No machine has more; a broken file must not fill the memory.
        all.extend((first..=last).take(4096));
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder like /sys/devices with these files.
    fn devices(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("written");
        }
        folder
    }

    #[test]
    fn a_list_of_processors_is_read_with_its_ranges() {
        assert_eq!(numbers("0-3,8\n"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!((numbers("5"), numbers(""), numbers("a-b")), (Some(vec![5]), None, None));
    }

    #[test]
    fn performance_cores_count_once_with_their_hyper_threads() {
        let siblings = |cpu: u32| {
            (
                format!("system/cpu/cpu{cpu}/topology/thread_siblings_list"),
                format!("{}-{}\n", cpu / 2 * 2, cpu / 2 * 2 + 1),
            )
        };
        let mut files: Vec<_> = (0..4).map(siblings).collect();
        files.push(("cpu_core/cpus".into(), "0-3\n".into()));
        files.push(("cpu_atom/cpus".into(), "4-11\n".into()));
        let files: Vec<_> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
        assert_eq!(performance_cores_in(devices(&files).path()), Some(2));
    }

    #[test]
    fn cores_of_less_than_half_the_largest_capacity_are_left_out() {
        let capacities = ["1024", "905", "905", "290", "290"];
        let files: Vec<_> = (0..5).map(|i| (format!("system/cpu/cpu{i}/cpu_capacity"), capacities[i])).collect();
        let mut files: Vec<_> = files.iter().map(|(name, text)| (&**name, *text)).collect();
        files.push(("system/cpu/online", "0-4\n"));
        assert_eq!(performance_cores_in(devices(&files).path()), Some(3));
    }

    #[test]
    fn a_machine_that_says_nothing_of_its_cores_has_no_performance_cores() {
        assert_eq!(performance_cores_in(devices(&[("system/cpu/online", "0-3\n")]).path()), None);
        assert_eq!(performance_cores_in(devices(&[]).path()), None);
        assert!(n_cores() >= 1);
    }
}
