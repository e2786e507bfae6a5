//! Sequences with a state share batches, and give what they give in contexts of their own.

use genarm::engine::StackError;
use genarm::engine::llama::ContextParams;
use genarm::engine::share::{Probe, ShareError, apart, together};
use genarm::{Expert, Token};

use super::{FAMILIES, Family, worst};
use crate::support::{self, tokens as text};

#[test]
fn every_row_of_a_shared_batch_equals_a_context_of_its_own() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let (mut rows, mut apart) = (family.together(1), family.apart());
        let mut rows: Vec<_> = rows.iter_mut().map(|slots| &mut slots[0]).collect();
        // Prompts of different lengths, some longer than a batch; then steps, drafts, a rejection, another turn.
        let mut histories: Vec<_> = (0..3).map(|i| text(i as Token, 5 + 57 * i)).collect();
        let mut check = |histories: &[Vec<Token>], k, what: &str| {
            let worst = worst(&mut rows, &mut apart, histories, k);
            assert!(worst < 1e-3, "{arch}, {what}: {worst}");
        };
        check(&histories, 1, "the prompts");
        for token in 70..75 {
            histories.iter_mut().for_each(|h| h.push(token));
            check(&histories, 1, "a step");
        }
        histories[0].extend([1, 2]);
        histories.iter_mut().for_each(|h| h.extend([5, 6, 7, 8]));
        check(&histories, 5, "four drafts, one history longer than the others");
        histories.iter_mut().for_each(|h| h.truncate(h.len() - 2));
        check(&histories, 1, "a rejection");
        histories.iter_mut().for_each(|h| h.splice(3.., text(9, 20)).for_each(drop));
        check(&histories, 2, "an edited turn");
    }
}

#[test]
fn a_step_of_a_slot_is_one_batch() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut slots = family.together(3);
        let mut rows: Vec<_> = slots.iter_mut().map(|slots| &mut slots[1]).collect();
        let mut history = text(4, 6);
        for n in 1..=4 {
            rows.iter_mut().for_each(|row| row.prepare(&history, 1));
            rows.iter_mut().for_each(|row| _ = row.advance(&history, 1).expect("a row"));
            assert_eq!(rows[0].n_batches(), n, "{arch}");
            history.push(9);
        }
    }
}

#[test]
fn slots_of_a_shared_batch_do_not_mix() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut slots = family.together(3);
        let histories: Vec<_> = (0..3).map(|i| text(10 * i, 5 + 30 * i as usize)).collect();
        for (expert, slots) in slots.iter_mut().enumerate() {
            let mut apart: Vec<_> = (0..3).map(|_| family.apart().remove(expert)).collect();
            let mut rows: Vec<_> = slots.iter_mut().collect();
            let worst = worst(&mut rows, &mut apart, &histories, 1);
            assert!(worst < 1e-3, "{arch}, expert {expert}: {worst}");
        }
    }
}

#[test]
fn the_check_at_load_passes_what_is_equal() {
    for arch in FAMILIES {
        let family = Family::new(arch);
        let mut probe = Probe::new(&family.model, &family.experts(), &support::context_params()).expect("contexts");
        probe.check().unwrap_or_else(|error| panic!("{arch}: {error}"));
    }
}

#[test]
fn an_adapter_on_responses_alone_is_refused_by_name() {
    for arch in FAMILIES {
        let family = Family::adapted(arch, "response");
        let params: ContextParams = support::context_params();
        for refused in [
            together(&family.model, &family.experts(), &params, 1).err(),
            apart(&family.model, &family.experts()[1], &params, 1).err(),
        ] {
            let error = refused.expect("no keys and values of which a part could be another's");
            assert!(matches!(error, ShareError::Stack(StackError::Recurrent { .. })), "{arch}: {error}");
        }
    }
}
