//! Places that are used again. A generation tells who was there before from who is there now.

/// A table of things with numbers.
#[derive(Debug)]
pub(super) struct Table<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
    generation: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new(), generation: 0 }
    }
}

impl<T> Table<T> {
    /// How many are there.
    pub(super) const fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// Where the next one goes, and its generation; to be followed by `put`.
    pub(super) fn vacancy(&mut self) -> (usize, u32) {
        self.generation = self.generation.wrapping_add(1);
        if self.free.is_empty() {
            self.free.push(self.places.len());
            self.places.push(None);
        }
        (self.free.last().copied().unwrap_or_default(), self.generation)
    }

    /// Puts something into the vacancy.
    pub(super) fn put(&mut self, index: usize, thing: T) {
        if let Some(place) = self.places.get_mut(index)
            && self.free.last() == Some(&index)
        {
            self.free.pop();
            *place = Some(thing);
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.places.get(index)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.places.get_mut(index)?.as_mut()
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let gone = self.places.get_mut(index)?.take()?;
        self.free.push(index);
        Some(gone)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.places.iter().flatten()
    }

    /// The numbers of all that are there, to be changed while going through them.
    pub(super) fn indices(&self) -> Vec<usize> {
        self.places.iter().enumerate().filter(|(_, place)| place.is_some()).map(|(at, _)| at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_with_another_generation() {
        let mut table = Table::default();
        let (a, first) = table.vacancy();
        table.put(a, 'a');
        let (b, second) = table.vacancy();
        table.put(b, 'b');
        assert_eq!((a, b, table.len(), first == second), (0, 1, 2, false));
        assert_eq!((table.remove(a), table.remove(a), table.len()), (Some('a'), None, 1));
        let (c, third) = table.vacancy();
        table.put(c, 'c');
        assert_eq!((c, table.get(0), table.indices()), (0, Some(&'c'), vec![0, 1]));
        assert!(third != first && third != second);
    }
}
