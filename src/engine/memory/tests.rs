use proptest::prelude::*;

use super::*;
use crate::engine::llama::CacheType;

const MB: u64 = 1 << 20;

/// A model of `n_layer` layers of a million parameters, a tied embedding of four million, and 4096 tokens.
fn parts(n_layer: usize) -> MemoryParts {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("model.gguf");
    let tensor = |w: crate::engine::gguf::GgufWriter<'static>, name: &str, mb: u64| {
        let dims = [1024, mb * MB / 1024];
        w.tensor(name, &dims, crate::engine::gguf::TensorType::Q8_0, vec![0; (mb * MB / 32 * 34) as usize])
    };
    let mut writer = crate::engine::gguf::GgufWriter::new(&path)
        .meta("general.architecture", "llama")
        .meta("llama.block_count", n_layer as u32)
        .meta("llama.context_length", 4096u32)
        .meta("llama.embedding_length", 1024u32)
        .meta("llama.feed_forward_length", 1024u32)
        .meta("llama.attention.head_count", 16u32)
        .meta("llama.attention.head_count_kv", 8u32);
    for (key, value) in crate::bench::synthetic::SyntheticVocabulary::byte_level(4096).metadata() {
        writer = writer.meta(key, value.clone());
    }
    writer = tensor(writer, "token_embd.weight", 4);
    for layer in 0..n_layer {
        writer = tensor(writer, &format!("blk.{layer}.ffn_up.weight"), 1);
    }
    writer.finish().expect("a file");
    MemoryParts::of(&GgufFile::open(&path).expect("a header"))
}

fn request(name: &str, file: &str, weight: f32, devices: &[usize], layers: Layers) -> ExpertRequest {
    ExpertRequest {
        name: name.into(),
        file: file.into(),
        parts: parts(8),
        adapters: 0,
        params: ContextParams::small(1024),
        n_sequences: 1,
        shares_batch: false,
        layers,
        devices: devices.to_vec(),
        tensor_split: Vec::new(),
        weight,
        is_arm: name != "base",
    }
}

fn devices(frees: &[u64]) -> Vec<DeviceMemory> {
    frees.iter().enumerate().map(|(i, free)| DeviceMemory { name: format!("D{i}"), free: *free }).collect()
}

#[test]
fn weights_of_one_file_are_counted_once_and_caches_for_every_sequence() {
    let alone = Placement::of(&[request("base", "a", 0.0, &[], Layers::Auto)], &devices(&[u64::MAX]));
    let both = [request("base", "a", 0.0, &[], Layers::Auto), request("x", "a", 1.0, &[], Layers::Auto)];
    let plan = Placement::of(&both, &devices(&[u64::MAX]));
    assert_eq!(plan.need(0).weights, alone.need(0).weights);
    assert_eq!(plan.need(0).kv, 2 * alone.need(0).kv);
    assert!(plan.experts[1].shares_weights);
    let mut many = both.to_vec();
    many[0].n_sequences = 3;
    assert_eq!(Placement::of(&many, &devices(&[u64::MAX])).need(0).kv, 4 * alone.need(0).kv);
    // 1024 cells of 8 heads of 64 numbers of 2 bytes, K and V, 8 layers.
    assert_eq!(alone.need(0).kv, 1024 * 8 * 64 * 2 * 2 * 8);
}

#[test]
fn rows_of_one_batch_have_caches_for_each_but_one_set_of_buffers() {
    let apart = [("base", 0.0), ("x", 1.0), ("y", 0.5)].map(|(name, w)| request(name, "a", w, &[], Layers::Auto));
    let mut together = apart.clone();
    together.iter_mut().for_each(|r| r.shares_batch = true);
    // And what the process keeps of the five small contexts in which they are compared before.
    let small = 4 * parts::CONTEXT;
    let need = |requests: &[ExpertRequest]| Placement::of(requests, &devices(&[u64::MAX])).need(0);
    let (a, b) = (need(&apart), need(&together));
    assert_eq!((a.weights, a.kv), (b.weights, b.kv));
    assert_eq!(a.compute, 3 * (parts(8).compute(&ContextParams::small(1024)) + parts::CONTEXT));
    assert_eq!(
        b.compute,
        parts(8).compute(&ContextParams::small(3 * 1024)) + parts::CONTEXT + small,
        "a pool of three contexts"
    );
    let plan = Placement::of(&together, &devices(&[u64::MAX]));
    assert_eq!(plan.experts.iter().map(|e| e.shares_context).collect::<Vec<_>>(), [false, true, true]);
    // Another context size or another placement is a context of its own.
    together[1].params.n_ctx = 512;
    together[2].layers = Layers::Count(0);
    assert!(Placement::of(&together, &devices(&[u64::MAX])).experts.iter().all(|e| !e.shares_context));
}

#[test]
fn a_shared_batch_is_offered_where_it_makes_all_fit() {
    let mut apart = [("base", 0.0), ("x", 1.0)].map(|(name, weight)| request(name, "a", weight, &[], Layers::Auto));
    apart.iter_mut().for_each(|r| r.params.n_ubatch = 1024);
    let mut together = apart.clone();
    together.iter_mut().for_each(|r| r.shares_batch = true);
    let tight = devices(&[Placement::of(&together, &devices(&[u64::MAX])).need(0).total()]);
    let texts = |requests: &[ExpertRequest]| changes(requests, &tight).into_iter().map(|c| c.text).collect::<Vec<_>>();
    assert_eq!(texts(&apart)[0], "--share-batch on");
    let mut strangers = apart.clone();
    strangers[1].file = "b".into();
    assert!(!texts(&strangers).contains(&"--share-batch on".to_owned()));
}

#[test]
fn a_drafter_is_placed_last_with_as_many_layers_as_the_base() {
    let base = |layers| request("base", "a", 0.0, &[1], layers);
    let drafter = ExpertRequest { parts: parts(3), ..request("drafter", "d", 0.0, &[1], Layers::AsBase) };
    let layers = |of_base, free| {
        let plan = Placement::of(&[base(of_base), drafter.clone()], &devices(&[u64::MAX, free]));
        (plan.experts[0].n_gpu_layers, plan.experts[1].n_gpu_layers)
    };
    assert_eq!(layers(Layers::Auto, u64::MAX), (9, 4), "all there are");
    assert_eq!(layers(Layers::Count(2), u64::MAX), (2, 2));
    assert_eq!(layers(Layers::Auto, 0), (0, 0));
    let without = Placement::of(&[base(Layers::Auto)], &devices(&[u64::MAX, u64::MAX]));
    let with = Placement::of(&[base(Layers::Auto), drafter.clone()], &devices(&[u64::MAX, u64::MAX]));
    assert_eq!(with.need(1).weights, without.need(1).weights + parts(3).weights());
    let found = changes(&[base(Layers::Auto), drafter.clone()], &devices(&[with.need(0).total(), 0]));
    assert!(found.iter().all(|change| !change.text.starts_with("without")), "a drafter is no ARM: {found:?}");
}

#[test]
fn auto_gives_the_base_its_layers_first_then_the_arms_by_weight() {
    let all = Placement::of(&[request("base", "a", 0.0, &[1], Layers::Auto)], &devices(&[u64::MAX, u64::MAX]));
    assert_eq!((all.experts[0].n_gpu_layers, all.experts[0].n_layers), (9, 9));
    let one = all.need(1).total();
    let requests = [
        request("light", "b", 0.1, &[1], Layers::Auto),
        request("base", "a", 0.0, &[1], Layers::Auto),
        request("heavy", "c", -2.0, &[1], Layers::Auto),
    ];
    let plan = Placement::of(&requests, &devices(&[u64::MAX, 2 * one]));
    let layers: Vec<_> = plan.experts.iter().map(|e| e.n_gpu_layers).collect();
    assert_eq!(layers, [0, 9, 9], "the light ARM stays in main memory");
    assert_eq!(plan.shortage(), None);
    let plan = Placement::of(&requests, &devices(&[u64::MAX, one * 3 / 2]));
    assert!(plan.experts[1].n_gpu_layers == 9 && (1..9).contains(&plan.experts[2].n_gpu_layers), "{plan:?}");
}

#[test]
fn experts_of_one_file_take_as_many_layers_so_that_they_share() {
    let one = Placement::of(&[request("base", "a", 0.0, &[1], Layers::Auto)], &devices(&[u64::MAX, u64::MAX])).need(1);
    let free = one.total() - MB;
    let requests = [request("base", "a", 0.0, &[1], Layers::Auto), request("x", "a", 1.0, &[1], Layers::Auto)];
    let plan = Placement::of(&requests, &devices(&[u64::MAX, free]));
    assert_eq!(plan.experts[0].n_gpu_layers, plan.experts[1].n_gpu_layers);
    assert!(plan.experts[1].shares_weights);
}

#[test]
fn tensor_split_divides_the_layers() {
    let mut wanted = request("base", "a", 0.0, &[1, 2], Layers::Count(99));
    wanted.tensor_split = vec![1.0, 2.0];
    let plan = Placement::of(&[wanted], &devices(&[u64::MAX, u64::MAX, u64::MAX]));
    let kv = |d: usize| plan.need(d).kv / (1024 * 8 * 64 * 2 * 2);
    assert_eq!((kv(0), kv(1), kv(2)), (0, 3, 5), "of 8 layers and the output, a third and two thirds");
}

#[test]
fn a_tied_embedding_is_there_twice_when_the_output_is_on_a_device() {
    let host = Placement::of(&[request("base", "a", 0.0, &[], Layers::Count(0))], &devices(&[u64::MAX, u64::MAX]));
    let away = Placement::of(&[request("base", "a", 0.0, &[1], Layers::Count(9))], &devices(&[u64::MAX, u64::MAX]));
    let embedding = 4 * MB / 32 * 34;
    assert_eq!(away.need(0).weights, embedding);
    assert_eq!(away.need(1).weights, host.need(0).weights);
}

#[test]
fn a_shortage_names_the_cheapest_changes_and_each_of_them_fits() {
    let requests = [request("base", "a", 0.0, &[], Layers::Auto), request("x", "b", 1.0, &[], Layers::Auto)];
    let whole = Placement::of(&requests, &devices(&[u64::MAX])).need(0);
    let tight = devices(&[whole.total() - whole.kv / 4]);
    assert_eq!(Placement::of(&requests, &tight).shortage(), Some(0));
    let found = changes(&requests, &tight);
    let texts: Vec<_> = found.iter().map(|c| c.text.as_str()).collect();
    assert_eq!(texts[0], "--cache-type-k q8_0 --cache-type-v q8_0");
    assert!(texts[1].starts_with("--n-ctx "), "{texts:?}");
    assert!(found.windows(2).all(|pair| pair[0].cost <= pair[1].cost), "{found:?}");
    assert!(changes(&requests, &devices(&[MB])).is_empty(), "nothing helps where the weights alone do not fit");
}

#[test]
fn two_copies_of_one_file_are_to_be_shared() {
    let both = |layers| {
        let mut requests = [request("base", "a", 0.0, &[1], Layers::Count(9)), request("x", "a", 1.0, &[1], layers)];
        requests.iter_mut().for_each(|r| r.params.n_ctx = 64);
        requests
    };
    let shared = Placement::of(&both(Layers::Count(9)), &devices(&[u64::MAX, u64::MAX]));
    let apart = Placement::of(&both(Layers::Count(3)), &devices(&[u64::MAX, u64::MAX]));
    assert!(shared.experts[1].shares_weights && !apart.experts[1].shares_weights);
    assert!(shared.need(1).total() < apart.need(1).total());
    let found = changes(&both(Layers::Count(3)), &devices(&[u64::MAX, shared.need(1).total()]));
    assert!(found[0].text.contains("\"x\" as those of base") && found[0].cost == 0.0, "{found:?}");
}

proptest! {
    #[test]
    fn what_is_left_to_the_plan_never_overfills_a_device(free in 0..80 * MB, n_ctx in 1u32..4000, layers in 0u32..12) {
        let mut requests = vec![
            request("base", "a", 0.0, &[1], Layers::Auto),
            request("x", "b", 1.0, &[1], Layers::Auto),
        ];
        requests.iter_mut().for_each(|r| r.params.n_ctx = n_ctx);
        let plan = Placement::of(&requests, &devices(&[u64::MAX, free]));
        prop_assert!(plan.need(1).total() <= free || plan.experts.iter().all(|e| e.n_gpu_layers == 0));
        // Wherever the layers are, all of the weights and caches are somewhere.
        requests[0].layers = Layers::Count(layers);
        let fixed = Placement::of(&requests, &devices(&[u64::MAX, u64::MAX]));
        prop_assert_eq!(fixed.need(0).kv + fixed.need(1).kv, requests.iter().map(|r| r.parts.kv(&r.params)).sum::<u64>());
    }

    #[test]
    fn every_change_that_is_offered_fits(share in 0.3f64..1.0) {
        let requests = [request("base", "a", 0.0, &[], Layers::Auto), request("x", "b", 1.0, &[], Layers::Auto)];
        let whole = Placement::of(&requests, &devices(&[u64::MAX])).need(0).total();
        let free = devices(&[(whole as f64 * share) as u64]);
        for change in changes(&requests, &free) {
            let mut changed = requests.to_vec();
            let words: Vec<_> = change.text.split(' ').collect();
            for pair in words.windows(2) {
                let number = pair[1].parse().unwrap_or(0);
                for r in &mut changed {
                    match pair[0] {
                        "--n-ctx" => r.params.n_ctx = r.params.n_ctx.min(number),
                        "--n-ubatch" => r.params.n_ubatch = r.params.n_ubatch.min(number),
                        "--cache-type-k" => r.params.type_k = CacheType::Q8_0,
                        "--cache-type-v" => r.params.type_v = CacheType::Q8_0,
                        _ => {}
                    }
                }
            }
            if change.text.starts_with("without") {
                changed.pop();
            }
            changed.iter_mut().for_each(|r| r.params.n_ubatch = r.params.n_ubatch.min(r.params.n_ctx));
            prop_assert_eq!(Placement::of(&changed, &free).shortage(), None, "{}", change.text);
        }
    }
}

#[test]
fn pages_of_files_that_were_read_count_as_free_in_a_control_group() {
    // A container of 24 GiB whose page cache holds the models of before.
    let limits = sysinfo::CGroupLimits { total_memory: 24 << 30, free_memory: 4 << 30, free_swap: 0, rss: 1 << 30 };
    assert_eq!(free_of_group(&limits), 23 << 30);
    let over = sysinfo::CGroupLimits { rss: 25 << 30, ..limits };
    assert_eq!(free_of_group(&over), 0);
}
