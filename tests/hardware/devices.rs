use std::process::Command;

use genarm::config::{ArmOverride, Overrides};
use genarm::engine::llama::{DeviceKind, devices};

use super::{greedy, model, open, tokens};

#[test]
fn every_machine_has_a_processor_among_its_devices() {
    let found = devices();
    let cpu = found.iter().find(|d| d.kind == DeviceKind::Cpu).expect("a CPU");
    assert!(cpu.memory_total >= cpu.memory_free && cpu.memory_free > 0, "{cpu:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_genarm")).args(["devices", "--json"]).output().expect("runs");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(listed.as_array().map(Vec::len), Some(found.len()));
}

/// The base here, an ARM there, and the other way round: on a machine with a GPU these are different devices.
#[test]
fn base_and_arm_say_the_same_wherever_they_are() {
    let place = |base: Option<&str>, arm: Option<&str>| {
        let arms =
            vec![ArmOverride { name: "talkative".into(), model: model("arm-talkative.gguf"), weight: Some(0.7) }];
        let mut config = greedy(&Overrides { base: Some(model("base.gguf")), arms, ..Overrides::default() });
        config.base.device = base.map(String::from);
        config.arms[0].spec.device = arm.map(String::from);
        tokens(&mut open(config), &mut |_| {}).expect("a text")
    };
    let expected = place(Some("cpu"), Some("none"));
    for device in devices().iter().filter(|d| d.takes_layers()).map(|d| d.name.as_str()) {
        // Rounding differs between devices; a text that parts did so at a near tie, and not at once.
        for found in
            [place(Some(device), Some("cpu")), place(Some("cpu"), Some(device)), place(Some(device), Some(device))]
        {
            assert_eq!(found[..8], expected[..8], "{device}");
        }
    }
    assert_eq!(place(None, None).len(), expected.len());
}

#[test]
fn a_device_that_is_not_there_is_refused_with_those_that_are() {
    let mut config = greedy(&Overrides { base: Some(model("base.gguf")), ..Overrides::default() });
    config.base.device = Some("CUDA7".into());
    let error = genarm::session::Session::open(config, &mut |_, _| true).err().expect("no such device").to_string();
    assert!(error.starts_with("base: there is no device \"CUDA7\"; there is ") && error.contains("CPU"), "{error}");
}
