//! A table whose entries have stable keys; a key of an earlier entry is told apart by its generation.

/// Keys are reused, (key, generation) pairs are not.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Generations stay below this, so that they fit beside a tag in an epoll token.
pub(crate) const GENERATION_MASK: u32 = (1 << 30) - 1;

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(key) = self.free.pop() {
            self.slots[key as usize].value = Some(value);
            return key;
        }
        self.slots.push(Slot { generation: 0, value: Some(value) });
        self.slots.len() as u32 - 1
    }

    #[inline]
    pub(crate) fn get(&self, key: u32) -> Option<&T> {
        self.slots.get(key as usize)?.value.as_ref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        self.slots.get_mut(key as usize)?.value.as_mut()
    }

    #[inline]
    pub(crate) fn is(&self, key: u32, generation: u32) -> bool {
        self.slots.get(key as usize).is_some_and(|s| s.generation == generation && s.value.is_some())
    }

    pub(crate) fn generation(&self, key: u32) -> u32 {
        self.slots.get(key as usize).map_or(0, |s| s.generation)
    }

    pub(crate) fn remove(&mut self, key: u32) -> Option<T> {
        let slot = self.slots.get_mut(key as usize)?;
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(key);
        Some(value)
    }

    /// All keys are below this.
    pub(crate) fn keys_end(&self) -> u32 {
        self.slots.len() as u32
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = u32> + '_ {
        self.slots.iter().enumerate().filter(|(_, s)| s.value.is_some()).map(|(i, _)| i as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_key_has_another_generation() {
        let mut t = Table::default();
        let a = t.insert('a');
        let g = t.generation(a);
        assert!(t.is(a, g));
        t.remove(a);
        assert!(!t.is(a, g));
        let b = t.insert('b');
        assert_eq!((a, t.len()), (b, 1));
        assert!(!t.is(b, g) && t.is(b, t.generation(b)));
        assert_eq!(t.keys().collect::<Vec<_>>(), [b]);
    }
}
