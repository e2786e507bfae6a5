//! Weights of every type and every tensor of the graph, against llama.cpp's logits; and those that the graph has not.

use super::*;
use crate::engine::gguf::Array;

const TOKENS: [u32; 12] = [1, 403, 407, 261, 378, 100, 33, 45, 260, 300, 301, 302];

#[test]
fn a_backbone_of_every_type_that_ggml_quantises_to_gives_llama_cpps_logits() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let mut n_types = 0;
    for ty in TensorType::all() {
        if quantized(ty, &[0.0; 256], 256).is_none() {
            continue;
        }
        n_types += 1;
        RandomModel { width: 256, ty, ..RandomModel::new("llama") }.write(&path);
        let ours = our_logits(&Backbone::load(&path, &Device::Cpu, None).unwrap(), &TOKENS);
        let theirs = llama_cpp_logits(&path, None, &TOKENS);
        let size = theirs.iter().map(|v| v.abs()).fold(0.0, f32::max);
        // llama.cpp multiplies by activations of 8 bits.
        let difference = largest_difference(&ours, &theirs);
        assert!(difference < 0.1 * size, "{ty}: {difference} of {size}");
    }
    assert!(n_types > 25, "{n_types}");
}

#[test]
fn a_type_without_a_way_back_is_refused_by_tensor_and_type() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let base = RandomModel { width: 256, ..RandomModel::new("llama") };
    let small = Backbone::load(&small_llama(), &Device::Cpu, None).unwrap();
    let mut writer = GgufWriter::new(&path);
    for (key, value) in base.metadata(&small) {
        writer = writer.meta(&key, value);
    }
    let tensors = base.tensors(small.shape.n_vocab);
    for (name, (shape, values)) in &tensors {
        let dims: Vec<u64> = shape.iter().rev().map(|n| *n as u64).collect();
        let odd = TensorType::all().find(|ty| ty.name() == "Q8_K").unwrap();
        writer = match name == "blk.1.attn_v.weight" {
            true => writer.tensor(name, &dims, odd, vec![0u8; odd.tensor_bytes(&dims).unwrap() as usize]),
            false => writer.tensor(name, &dims, TensorType::F32, writer_bytes(values)),
        };
    }
    writer.finish().unwrap();
    let message = Backbone::load(&path, &Device::Cpu, None).unwrap_err().to_string();
    assert!(message.contains("blk.1.attn_v.weight") && message.contains("Q8_K"), "{message}");
}

#[test]
fn biases_and_scales_take_part_as_in_llama_cpp() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let n_vocab = Backbone::load(&small_llama(), &Device::Cpu, None).unwrap().shape.n_vocab;
    let bias = |n: usize| (0..n).map(|i| (i as f32).sin()).collect::<Vec<f32>>();
    let qwen2 = RandomModel { tensors: vec![("output.bias", bias(n_vocab))], ..RandomModel::new("qwen2") };
    let names = ["blk.0.attn_output.bias", "blk.1.ffn_down.bias"];
    let llama = RandomModel { tensors: names.map(|name| (name, bias(64))).to_vec(), ..RandomModel::new("llama") };
    // A scale for a whole matrix, as NVFP4 files have them.
    let scales =
        [("blk.0.attn_q.scale", vec![3.0]), ("blk.1.ffn_down.scale", vec![0.5]), ("blk.1.attn_output.bias", bias(64))];
    let scaled = RandomModel { tensors: scales.to_vec(), ..RandomModel::new("llama") };
    for model in [qwen2, llama, scaled] {
        model.write(&path);
        let ours = our_logits(&Backbone::load(&path, &Device::Cpu, None).unwrap(), &TOKENS);
        let difference = largest_difference(&ours, &llama_cpp_logits(&path, None, &TOKENS));
        assert!(difference < 1e-3, "{}: {difference}", model.arch);
    }
}

#[test]
fn a_tensor_that_the_graph_has_not_or_of_another_shape_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for (name, n) in [
        ("blk.0.attn_qkv.weight", 1),
        ("blk.2.attn_norm.weight", 64),
        ("blk.0.attn_norm.weight", 32),
        ("cls.weight", 64),
    ] {
        RandomModel { tensors: vec![(name, vec![1.0; n])], ..RandomModel::new("llama") }.write(&path);
        let message = Backbone::load(&path, &Device::Cpu, None).unwrap_err().to_string();
        assert!(message.contains(name) && !message.contains('\n'), "{message}");
    }
}

#[test]
fn a_list_with_a_number_per_layer_is_read_where_all_are_alike() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let list = |numbers: &[u32]| ("attention.head_count_kv", Value::Array(Array::U32(numbers.to_vec())));
    RandomModel::with("llama", &[list(&[2, 2])]).write(&path);
    let ours = our_logits(&Backbone::load(&path, &Device::Cpu, None).unwrap(), &TOKENS);
    assert!(largest_difference(&ours, &llama_cpp_logits(&path, None, &TOKENS)) < 1e-3);
    RandomModel::with("llama", &[list(&[2, 4])]).write(&path);
    let message = Backbone::load(&path, &Device::Cpu, None).unwrap_err().to_string();
    assert!(message.contains("head_count_kv differs from layer to layer"), "{message}");
}
