//! The one loop over texts in slots: choose a slot, read prompts in chunks, prepare all, step all.

use std::cmp::Reverse;
use std::time::Instant;

use super::Slot;
use super::pace::Pace;
use crate::decode::Speculator;
use crate::expert::{Expert, Token};

/// Tokens of prompts that are read in a step beside texts that are being generated, where no reader waits for these: a
/// step then takes a few times as long, no more.
const CHUNK_BESIDE: usize = 64;
/// The same when no text is being generated.
const CHUNK_ALONE: usize = 512;

/// A text in a slot.
pub(crate) trait SlotText {
    /// Begins a step; false where the text takes no part in it.
    fn begin_step(&mut self) -> bool;

    /// Whether its tokens may be drafted while it is alone.
    fn speculates(&self) -> bool;

    /// Announces the next `max` tokens of the prompt to every model that lacks more than that. Returns whether any
    /// does: [`read_chunk`](Self::read_chunk) is then the step, otherwise [`prepare`](Self::prepare) and
    /// [`step`](Self::step) are.
    fn prepare_chunk(&mut self, slot: &mut Slot, max: usize) -> bool;

    /// Reads what [`prepare_chunk`](Self::prepare_chunk) announced. A failure is kept: it ends the text.
    fn read_chunk(&mut self, slot: &mut Slot);

    /// Announces the step.
    fn prepare(&mut self, slot: &mut Slot);

    /// Takes the step; with a speculator, of several tokens. A failure is kept: it ends the text.
    fn step(&mut self, slot: &mut Slot, speculator: Option<&mut Speculator>);
}

/// The texts that run in the slots of a session, at most one per slot.
pub(crate) struct Scheduler<T> {
    /// One per slot.
    places: Vec<Option<Place<T>>>,
    /// When each slot was last given away.
    used: Vec<u64>,
    n_given: u64,
    /// Where readers follow the texts as they are generated.
    pace: Option<Pace>,
}

struct Place<T> {
    text: T,
    /// Whether models still read the prompt.
    reading: bool,
}

impl<T> Scheduler<T> {
    /// For a session with `n_slots` slots, all free.
    pub fn new(n_slots: usize) -> Self {
        Self { places: (0..n_slots).map(|_| None).collect(), used: vec![0; n_slots], n_given: 0, pace: None }
    }

    /// The same for texts that are read as they are generated: prompts are read so slowly that these go on. How many
    /// tokens of them a step reads depends on the machine, and so does rounding.
    #[cfg(feature = "server")]
    pub fn live(n_slots: usize) -> Self {
        Self { pace: Some(Pace::default()), ..Self::new(n_slots) }
    }

    /// The number of running texts.
    pub fn n_running(&self) -> usize {
        self.places.iter().flatten().count()
    }

    /// The free slots.
    pub fn free(&self) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(|at| self.places[*at].is_none())
    }

    /// The running texts.
    #[cfg(feature = "server")]
    pub fn texts(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten().map(|place| &mut place.text)
    }

    /// Chooses the free slot whose base has most of the prompt cached; of equal ones, the one that was given away
    /// longest ago. `None` where no slot but `held` is free.
    pub fn choose(&mut self, slots: &mut [Slot], prompt: &[Token], held: Option<usize>) -> Option<usize> {
        let free = self.free().filter(|at| Some(*at) != held);
        let best = free.max_by_key(|at| (slots[*at].base().n_cached(prompt), Reverse(self.used[*at])))?;
        Some(self.claim(best))
    }

    /// Gives away a free slot, and returns it.
    pub fn claim(&mut self, at: usize) -> usize {
        self.n_given += 1;
        self.used[at] = self.n_given;
        at
    }

    /// Runs a text, begun in the slot that [`choose`](Self::choose) returned.
    pub fn run(&mut self, at: usize, text: T) {
        self.places[at] = Some(Place { text, reading: true });
    }

    /// Frees the slots of the texts for which `is_over` is true, and returns these texts.
    pub fn take(&mut self, mut is_over: impl FnMut(&mut T) -> bool) -> Vec<T> {
        let over = self.places.iter_mut().filter_map(|place| place.take_if(|place| is_over(&mut place.text)));
        over.map(|place| place.text).collect()
    }
}

impl<T: SlotText> Scheduler<T> {
    /// One step of every text that is ready. All are prepared before the first is read, so that one batch serves all.
    /// With a speculator, a text that is alone may draft: where several are read in one batch, drafts would only make
    /// it longer.
    ///
    /// Returns whether any text was ready.
    pub fn step(&mut self, slots: &mut [Slot], speculator: Option<&mut Speculator>) -> bool {
        let begins = |place: &mut Option<Place<T>>| place.as_mut().is_some_and(|place| place.text.begin_step());
        let places = self.places.iter_mut().zip(slots);
        let mut active: Vec<_> = places
            .filter_map(|(place, slot)| if begins(place) { Some((place.as_mut()?, slot)) } else { None })
            .collect();
        if let ([(place, slot)], Some(speculator)) = (&mut active[..], speculator)
            && !place.reading
            && place.text.speculates()
        {
            // A weight that is no longer 0 may have brought an ARM that lacks the text so far.
            place.reading = place.text.prepare_chunk(slot, CHUNK_ALONE);
            match place.reading {
                true => place.text.read_chunk(slot),
                false => place.text.step(slot, Some(speculator)),
            }
            return true;
        }
        let n_reading = active.iter().filter(|(place, _)| place.reading).count();
        let beside = self.pace.as_ref().map_or(CHUNK_BESIDE, Pace::n_tokens);
        let chunk = chunk(n_reading, active.len() - n_reading, beside);
        let started = Instant::now();
        for (place, slot) in &mut active {
            place.reading = place.text.prepare_chunk(slot, chunk);
            if !place.reading {
                place.text.prepare(slot);
            }
        }
        for (place, slot) in &mut active {
            match place.reading {
                true => place.text.read_chunk(slot),
                false => place.text.step(slot, None),
            }
        }
        // The end of a prompt is read with the step that follows it, of how many tokens is not known here.
        let n_chunks = active.iter().filter(|(place, _)| place.reading).count();
        if let Some(pace) = self.pace.as_mut().filter(|_| n_chunks == n_reading) {
            pace.record(active.len() - n_chunks, n_chunks * chunk, started.elapsed().as_secs_f64());
        }
        !active.is_empty()
    }
}

/// Tokens that each text reads of its prompt in a step, where `n_reading` texts do and `n_generating` others are being
/// generated; `beside` these for all prompts together.
fn chunk(n_reading: usize, n_generating: usize, beside: usize) -> usize {
    let budget = if n_generating == 0 { CHUNK_ALONE } else { beside };
    (budget / n_reading.max(1)).max(1)
}
