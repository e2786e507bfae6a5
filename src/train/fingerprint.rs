//! What the weights of a step depend on, as one digest, so that a checkpoint of another run is refused.

use super::TrainError;
use super::backbone::Backbone;
use super::pairs::Example;
use super::settings::Settings;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

/// Bytes of each tensor that are looked at: enough to tell two trainings or quantisations of one model apart, in little
/// time.
const SAMPLE: u64 = 4096;

/// SHA-256 over the settings, the tokens of all examples, and the backbone's shape and samples of its weights, in
/// hexadecimal. The same on every machine and in every build.
///
/// # Errors
///
/// [`TrainError::Io`] when the backbone can no longer be read.
pub(super) fn of(s: &Settings, examples: &[Example], backbone: &Backbone) -> Result<String, TrainError> {
    let mut hash = Sha256::new();
    let settings = (s.objective, &s.lora, s.lr, s.schedule, s.warmup, s.adamw, s.max_grad_norm);
    let amounts = (s.batch, s.micro_batch, s.epochs, s.max_steps, s.seed, s.held_out, s.keep, s.eval_every);
    hash.update(format!("{settings:?} {amounts:?} {:?}", backbone.shape));
    if let Some(parm) = &s.parm {
        hash.update(format!("{parm:?}"));
    }
    if let Some(init) = &s.init {
        hash.update(std::fs::read(init).map_err(TrainError::io(init))?);
    }
    for example in examples {
        for tokens in [&example.prompt, &example.chosen, &example.rejected] {
            hash.update((tokens.len() as u64).to_le_bytes());
            tokens.iter().for_each(|token| hash.update(token.to_le_bytes()));
        }
        hash.update((example.adapted_from as u64).to_le_bytes());
        example.signs.iter().for_each(|sign| hash.update(sign.to_le_bytes()));
    }
    let path = backbone.file.path();
    let mut file = File::open(path).map_err(TrainError::io(path))?;
    for tensor in backbone.file.tensors() {
        hash.update(format!("{} {:?} {}", tensor.name, tensor.dims, tensor.ty));
        let mut sample = vec![0; tensor.n_bytes.min(SAMPLE) as usize];
        file.seek(SeekFrom::Start(tensor.offset)).map_err(TrainError::io(path))?;
        file.read_exact(&mut sample).map_err(TrainError::io(path))?;
        hash.update(&sample);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
