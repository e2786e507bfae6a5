//! The one place for a request that saves or restores a slot: what it moves takes as much memory as the slot's caches.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Who has the place.
#[derive(Debug, Default)]
pub(super) struct SlotPlaces {
    holder: Arc<Mutex<Option<Holder>>>,
    waiting: Vec<(usize, oneshot::Sender<SlotPlace>)>,
}

#[derive(Debug)]
struct Holder {
    /// The slot that no job may begin in, until the task for it is done.
    slot: Option<usize>,
}

/// The place. It travels with the caches, and is free for the next request when it is dropped.
#[derive(Debug)]
pub struct SlotPlace(Arc<Mutex<Option<Holder>>>);

impl SlotPlaces {
    /// Waits for the place and for a slot. While the slot writes a text, other requests may take the place.
    pub fn wait(&mut self, slot: usize) -> oneshot::Receiver<SlotPlace> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.push((slot, sender));
        receiver
    }

    /// How many wait.
    pub fn n_waiting(&mut self) -> usize {
        self.waiting.retain(|(_, sender)| !sender.is_closed());
        self.waiting.len()
    }

    /// Ends the waiting.
    pub fn close(&mut self) {
        self.waiting.clear();
    }

    /// The slot that jobs must leave alone.
    pub fn held(&self) -> Option<usize> {
        lock(&self.holder).as_ref().and_then(|holder| holder.slot)
    }

    /// Gives the place to the first who waits for one of these slots, where it is free.
    pub fn grant(&mut self, free: &[usize]) {
        self.n_waiting();
        let Some(at) = self.waiting.iter().position(|(slot, _)| free.contains(slot)) else { return };
        let mut holder = lock(&self.holder);
        if holder.is_some() {
            return;
        }
        let (slot, sender) = self.waiting.remove(at);
        *holder = Some(Holder { slot: Some(slot) });
        drop(holder);
        // One that has gone drops the place at once.
        let _ = sender.send(SlotPlace(Arc::clone(&self.holder)));
    }
}

impl SlotPlace {
    /// Lets jobs begin in the slot again.
    pub fn free_slot(&self) {
        if let Some(holder) = &mut *lock(&self.0) {
            holder.slot = None;
        }
    }
}

impl Drop for SlotPlace {
    fn drop(&mut self) {
        *lock(&self.0) = None;
    }
}

fn lock(holder: &Mutex<Option<Holder>>) -> std::sync::MutexGuard<'_, Option<Holder>> {
    holder.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_slot_that_works_keeps_nobody_from_the_place() {
        let mut places = SlotPlaces::default();
        let (mut first, mut second, mut third) = (places.wait(0), places.wait(1), places.wait(1));
        places.grant(&[1, 2]);
        assert!(first.try_recv().is_err(), "slot 0 works");
        let place = second.try_recv().expect("slot 1 is free");
        assert_eq!(places.held(), Some(1));
        places.grant(&[0, 1, 2]);
        assert!(first.try_recv().is_err() && third.try_recv().is_err(), "there is one place");
        place.free_slot();
        assert_eq!(places.held(), None);
        places.grant(&[0, 1, 2]);
        assert!(first.try_recv().is_err(), "its caches are still being written");
        drop(place);
        places.grant(&[0, 1, 2]);
        drop(first.try_recv().expect("the place"));
        drop(third);
        assert_eq!(places.n_waiting(), 0);
    }

    #[test]
    fn a_place_for_one_that_has_gone_is_free_again() {
        let mut places = SlotPlaces::default();
        let gone = places.wait(0);
        places.grant(&[0]);
        assert_eq!(places.held(), Some(0));
        drop(gone);
        assert_eq!(places.held(), None);
    }
}
