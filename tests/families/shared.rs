//! Base and LoRA ARMs as sequences of one context, against contexts of their own.

use std::collections::BTreeSet;
use std::path::Path;

use genarm::engine::Sequence;
use genarm::engine::gguf::{GgufFile, GgufWriter, TensorInfo, TensorType, Value};
use genarm::engine::share::{apart, together};
use genarm::session::Session;
use genarm::{Expert, Token};

use super::family::{Family, N_CTX, distance, params};
use super::{Check, Found};
use crate::support::random::Noise;

pub static SHARED: Check = Check::new(shared);
pub static MATRICES: Check = Check::new(matrices);

/// The guided row of a session after a history.
pub fn guided(session: &mut Session, history: &[Token], k: usize) -> Vec<f32> {
    session.base().prepare(history, k);
    session.hook().with_guide(|guide| guide.prepare(history, k));
    let mut rows = session.base().advance(history, k).expect("rows").to_vec();
    session.hook().with_guide(|guide| guide.add(history, k, &mut rows)).expect("guided");
    rows
}

fn shared(family: &Family) -> Found {
    let open = |switch: &str| family.session(&family.arm(), &format!("speculate: \"off\"\nshare_batch: \"{switch}\""));
    let (mut on, mut off) = match (open("on"), open("off")) {
        (Ok(on), Ok(off)) => (on, off),
        (Err(error), _) | (_, Err(error)) => return family.refused(error),
    };
    let found = match on.shared() {
        [] => Found::Refused("contexts of their own: it is a recurrent model".into()),
        [one] if one.shared => Found::Works,
        [one] => family.refused(one.why_not.as_ref().expect("a reason")),
        more => panic!("{more:?}"),
    };
    let tokens = &family.golden.tokens;
    let mut history = tokens[..64].to_vec();
    let mut same = |history: &[Token], k, what: &str| {
        let found = distance(&guided(&mut on, history, k), &guided(&mut off, history, k));
        assert!(found < family.noise(), "{what}: {found:e}");
    };
    same(&history, 1, "a prompt");
    history.extend(&tokens[64..65]);
    same(&history, 1, "a step");
    history.extend(family.other(4));
    same(&history, 5, "four drafts");
    history.truncate(history.len() - 2);
    same(&history, 1, "two of them rejected");
    history.truncate(20);
    history.extend(family.other(30));
    same(&history, 1, "an edited turn");
    found
}

#[test]
fn a_shared_batch_gives_what_contexts_of_their_own_give() {
    SHARED.run();
}

/// Writes the family's LoRA without what it has on experts.
fn without_experts(family: &Family, path: &Path) {
    let file = GgufFile::open_adapter(&family.lora).expect("an adapter");
    let bytes = std::fs::read(&family.lora).expect("the file");
    let with = |writer: GgufWriter<'static>, (key, value): &(String, Value)| writer.meta(key, value.clone());
    let mut writer = file.metadata().iter().fold(GgufWriter::new(path), with);
    for tensor in file.tensors().iter().filter(|tensor| !tensor.name.contains("_exps")) {
        let start = usize::try_from(tensor.offset).expect("an offset");
        let data = bytes[start..][..usize::try_from(tensor.n_bytes).expect("a length")].to_vec();
        writer = writer.tensor(&tensor.name, &tensor.dims, tensor.ty, data);
    }
    writer.finish().expect("the adapter is written");
}

/// Steps, drafts, rejections and edits in any order, each expert at its own pace, as rows of one batch and apart.
fn walk(family: &Family) -> Found {
    let arm = family.session(&family.arm(), "speculate: \"off\"\nshare_batch: \"on\"").expect("a session");
    if arm.shared().is_empty() {
        return Found::Works;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("adapter.gguf");
    without_experts(family, &path);
    let adapters = [Vec::new(), vec![(path.as_path(), 1.0)]];
    let sharing = together(&family.model, &adapters, &params(), 1).expect("one context");
    let mut sharing: Vec<_> = sharing.into_iter().flatten().collect();
    let mut alone =
        adapters.map(|adapters| apart(&family.model, &adapters, &params(), 1).expect("a context").remove(0));
    wander(family, 50, &mut sharing, &mut alone);
    Found::Works
}

/// Sequences of one context and sequences alone, through steps, drafts, rejections and edits in any order; of several
/// sequences now some are asked, now all.
fn wander(family: &Family, n_steps: usize, sharing: &mut [Sequence], alone: &mut [Sequence]) {
    let mut random = Noise(3);
    let mut below = |n: usize| ((random.next() + 1.0) / 2.0 * n as f32) as usize % n;
    let mut history = family.golden.tokens[..40].to_vec();
    for step in 0..n_steps {
        let n_back = [0, 0, 1, 3, 9, 25][below(6)].min(history.len() - 20);
        history.truncate(history.len() - n_back);
        let n = [1, 1, 1, 4, 16, 30][below(6)].min(N_CTX - history.len());
        let more = family.other(97);
        let start = below(60);
        history.extend(&more[start..start + n]);
        let k = 1 + below(n.clamp(1, 8));
        let who = below(sharing.len() + 1);
        let who = if who == sharing.len() { 0..who } else { who..who + 1 };
        sharing[who.clone()].iter_mut().for_each(|sequence| sequence.prepare(&history, k));
        for at in who {
            let rows = sharing[at].advance(&history, k).expect("rows");
            let found = distance(rows, alone[at].advance(&history, k).expect("rows"));
            assert!(found < family.noise(), "step {step}, sequence {at}, {} tokens: {found:e}", history.len());
        }
        if history.len() > 220 {
            history.truncate(30);
        }
    }
}

fn slots(family: &Family) -> Found {
    let adapters = [(family.lora.as_path(), 1.0)];
    let mut slots = apart(&family.model, &adapters, &params(), 3).expect("a context");
    let mut alone = [(); 3].map(|()| family.alone(true));
    wander(family, 25, &mut slots, &mut alone);
    Found::Works
}

#[test]
fn texts_in_slots_of_one_context_do_not_mix() {
    Check::new(slots).works();
}

#[test]
fn experts_that_share_a_context_go_each_at_its_own_pace() {
    Check::new(walk).works();
}

/// What a matrix of a layer is called, without the layer: `attn_q`.
fn kind(tensor: &TensorInfo) -> Option<&str> {
    let name = tensor.name.strip_prefix("blk.")?.split_once('.')?.1.strip_suffix(".weight")?;
    // Factors and kernels, that nothing is multiplied with as with a matrix.
    let is_matrix =
        tensor.dims.len() > 1 && !["norm", "conv1d", "shortconv.conv"].iter().any(|part| name.contains(part));
    is_matrix.then_some(name)
}

/// Writes an adapter of random numbers on all matrices of a kind.
fn adapter(family: &Family, path: &Path, wanted: &str) {
    let file = GgufFile::open_model(&family.path).expect("a model");
    let mut writer = GgufWriter::new(path)
        .meta("general.architecture", file.architecture().expect("an architecture"))
        .meta("general.type", "adapter")
        .meta("adapter.type", "lora")
        .meta("adapter.lora.alpha", 8.0f32);
    let mut noise = Noise(5);
    for tensor in file.tensors().iter().filter(|tensor| kind(tensor) == Some(wanted)) {
        let (mut a, mut b) = (tensor.dims.clone(), tensor.dims.clone());
        (a[1], b[0]) = (4, 4);
        for (half, dims) in [("lora_a", a), ("lora_b", b)] {
            writer =
                writer.tensor(&format!("{}.{half}", tensor.name), &dims, TensorType::F32, noise.bytes(&dims, 0.0, 0.3));
        }
    }
    writer.finish().expect("the adapter is written");
}

fn matrices(family: &Family) -> Found {
    let folder = tempfile::tempdir().expect("a folder");
    let file = GgufFile::open_model(&family.path).expect("a model");
    let kinds: BTreeSet<_> = file.tensors().iter().filter_map(kind).collect();
    let history = &family.golden.tokens[..20];
    let plain = family.fresh(history);
    let arm = family.session(&family.arm(), "speculate: \"off\"\nshare_batch: \"on\"").expect("a session");
    let can_share = !arm.shared().is_empty();
    let [mut refused, mut apart_only, mut ignored] = [(); 3].map(|()| Vec::new());
    for kind in kinds {
        let path = folder.path().join("adapter.gguf");
        adapter(family, &path, kind);
        let adapters = [Vec::new(), vec![(path.as_path(), 1.0)]];
        let is_named = |error: &dyn std::fmt::Display| {
            let line = error.to_string();
            assert!(line.contains(kind) && !line.contains('\n'), "{kind} is not named: {line}");
        };
        let row = match apart(&family.model, &adapters[1], &params(), 1) {
            Ok(mut alone) => alone[0].advance(history, 1).expect("a row").to_vec(),
            Err(error) => {
                is_named(&error);
                refused.push(kind);
                continue;
            }
        };
        if distance(&plain, &row) < 1e-2 {
            ignored.push(kind);
            continue;
        }
        if !can_share {
            continue;
        }
        let mut sharing: Vec<_> = match together(&family.model, &adapters, &params(), 1) {
            Ok(slots) => slots.into_iter().flatten().collect(),
            Err(error) => {
                is_named(&error);
                apart_only.push(kind);
                continue;
            }
        };
        sharing.iter_mut().for_each(|expert| expert.prepare(history, 1));
        for (expert, row) in sharing.iter_mut().zip([&plain, &row]) {
            let found = distance(expert.advance(history, 1).expect("a row"), row);
            assert!(found < family.noise(), "{kind}: {found:e}");
        }
    }
    let notes = [("refused", refused), ("not in a shared batch", apart_only), ("llama.cpp ignores it", ignored)];
    let notes = notes.iter().filter(|(_, kinds)| !kinds.is_empty());
    let notes: Vec<_> = notes.map(|(what, kinds)| format!("{}: {what}", kinds.join(", "))).collect();
    if notes.is_empty() { Found::Works } else { Found::At(notes.join("; ")) }
}

#[test]
fn an_adapter_of_each_matrix_acts_and_shares_a_batch_or_is_refused_by_name() {
    MATRICES.run();
}
