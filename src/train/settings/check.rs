//! What is refused before anything is read: numbers that make no sense, and options without effect.

use super::{Adapt, Beta, Keep, ObjectiveName, OutType, Wire};
use crate::train::TrainError;

/// Threads that a run can have at most.
const THREADS_MAX: usize = 1024;

/// Checks what was given, by the names of the flags.
///
/// # Errors
///
/// [`TrainError::Setting`], naming the flag.
pub(super) fn check(w: &Wire) -> Result<(), TrainError> {
    numbers(w)?;
    counts(w)?;
    effects(w)
}

fn refuse(message: String) -> Result<(), TrainError> {
    Err(TrainError::Setting(message))
}

fn numbers(w: &Wire) -> Result<(), TrainError> {
    // A number is written into the file as 32 bits.
    let positive: fn(f64) -> bool = |x| (x as f32).is_finite() && x as f32 > 0.0;
    let not_negative: fn(f64) -> bool = |x| x.is_finite() && x >= 0.0;
    type Rule<'a> = (&'a str, Option<f64>, fn(f64) -> bool, &'a str);
    let rules: [Rule<'_>; 10] = [
        ("lr", w.lr, positive, "a positive number"),
        ("dirichlet", w.dirichlet, positive, "a positive number"),
        ("beta", w.beta, positive, "a positive number"),
        ("lora-alpha", w.lora_alpha.map(f64::from), positive, "a positive number"),
        ("gamma", w.gamma, f64::is_finite, "a finite number"),
        ("label-smoothing", w.label_smoothing, |x| (0.0..0.5).contains(&x), "at least 0 and less than 0.5"),
        ("lora-dropout", w.lora_dropout.map(f64::from), |x| (0.0..1.0).contains(&x), "at least 0 and less than 1"),
        ("held-out", w.held_out, |x| (0.0..0.9).contains(&x), "at least 0 and less than 0.9"),
        ("weight-decay", w.weight_decay, not_negative, "0 or a positive number"),
        ("max-grad-norm", w.max_grad_norm, not_negative, "0 (off) or a positive number"),
    ];
    for (flag, value, holds, rule) in rules {
        if let Some(value) = value.filter(|value| !holds(*value)) {
            return refuse(format!("--{flag} must be {rule}, not {value}"));
        }
    }
    match w.betas.iter().flatten().find(|Beta(_, beta)| !positive(*beta)) {
        Some(Beta(name, beta)) => refuse(format!("--betas {name} must be a positive number, not {beta}")),
        None => Ok(()),
    }
}

fn counts(w: &Wire) -> Result<(), TrainError> {
    let rules = [
        ("lora-rank", w.lora_rank, 1),
        ("parm-rank", w.parm_rank, 1),
        ("batch", w.batch, 1),
        ("micro-batch", w.micro_batch, 1),
        ("epochs", w.epochs, 1),
        ("max-steps", w.max_steps, 1),
        ("eval-every", w.eval_every, 1),
        ("checkpoint-every", w.checkpoint_every, 1),
        ("max-prompt", w.max_prompt, 1),
        ("max-len", w.max_len, 2),
        ("threads", w.threads, 1),
    ];
    for (flag, value, least) in rules {
        if let Some(value) = value.filter(|value| *value < least) {
            return refuse(format!("--{flag} must be at least {least}, not {value}"));
        }
    }
    match w.threads {
        Some(n) if n > THREADS_MAX => refuse(format!("--threads must be at most {THREADS_MAX}, not {n}")),
        _ => Ok(()),
    }
}

/// An option that changes nothing is a misunderstanding that a run of hours would hide.
fn effects(w: &Wire) -> Result<(), TrainError> {
    let objective = w.objective.unwrap_or(ObjectiveName::Arm);
    let (parm, sft) = (objective == ObjectiveName::Parm, objective == ObjectiveName::Sft);
    let arm = parm || objective == ObjectiveName::Arm;
    let name = match objective {
        ObjectiveName::Arm => "arm",
        ObjectiveName::Dpo => "dpo",
        ObjectiveName::Sft => "sft",
        ObjectiveName::Parm => "parm",
    };
    let of_objective = format!("the objective {name}");
    let hinge = "the hinge loss".to_owned();
    let full = "a run that trains every weight (--full)".to_owned();
    let unmeasured = "a run that holds no examples out (--held-out 0)".to_owned();
    let rules = [
        ("beta", w.beta.is_some() && sft, &of_objective),
        ("gamma", w.gamma.is_some() && !arm, &of_objective),
        ("hinge", w.hinge && !arm, &of_objective),
        ("betas", w.betas.is_some() && !parm, &of_objective),
        ("dirichlet", w.dirichlet.is_some() && !parm, &of_objective),
        ("shuffle-preferences", w.shuffle_preferences && !parm, &of_objective),
        ("parm-rank", w.parm_rank.is_some() && !parm, &of_objective),
        ("label-smoothing", w.label_smoothing.is_some() && sft, &of_objective),
        ("label-smoothing", w.label_smoothing.is_some() && w.hinge, &hinge),
        ("lora-rank", w.lora_rank.is_some() && w.full, &full),
        ("lora-alpha", w.lora_alpha.is_some() && w.full, &full),
        ("lora-dropout", w.lora_dropout.is_some() && w.full, &full),
        ("lora-targets", w.lora_targets.is_some() && w.full, &full),
        ("keep", w.keep == Some(Keep::Best) && w.held_out == Some(0.0), &unmeasured),
        ("init", w.init.is_some() && w.full, &full),
        ("adapt", w.adapt.is_some() && w.full, &full),
    ];
    if let Some((flag, _, what)) = rules.iter().find(|(_, ignored, _)| *ignored) {
        let key = flag.replace('-', "_");
        return refuse(format!("--{flag} has no effect on {what}; leave it out (in a recipe: `{key}:`)"));
    }
    let whole = !matches!(w.out_type, None | Some(OutType::Adapter | OutType::AdapterF16));
    if w.adapt == Some(Adapt::Response) && whole {
        return refuse("an adapter that acts on responses alone cannot be merged into a model; drop --out-type".into());
    }
    if parm && (w.full || whole) {
        let flag = if w.full { "--full" } else { "--out-type" };
        return refuse(format!(
            "--objective parm writes an adapter, which preferences change while it runs; drop {flag}"
        ));
    }
    if parm && w.init.is_some() {
        return refuse(
            "--objective parm cannot go on from an adapter; drop --init (--resume goes on with a run)".into(),
        );
    }
    if w.full && matches!(w.out_type, Some(OutType::Adapter | OutType::AdapterF16)) {
        return refuse(
            "--full trains every weight and cannot be written as an adapter; drop --out-type adapter".into(),
        );
    }
    Ok(())
}
