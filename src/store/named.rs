//! Objects by name: found by hash, because each call looks some up, and listed in order.

use std::borrow::Borrow;
use std::hash::Hash;

use imbl::{HashMap, OrdSet};

/// A persistent map. A tree of names reads one name, somewhere in memory, for each step down; a hash reads one in all.
/// The hash is keyed at random, so that nobody picks names that meet.
#[derive(Clone)]
pub(super) struct Named<K, V> {
    order: OrdSet<K>,
    values: HashMap<K, V>,
}

impl<K, V> Default for Named<K, V> {
    fn default() -> Self {
        Self { order: OrdSet::default(), values: HashMap::default() }
    }
}

impl<K, V> std::fmt::Debug for Named<K, V>
where
    K: Ord + Hash + Clone + std::fmt::Debug,
    V: Clone + std::fmt::Debug,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // In order, so that two of the same content print the same.
        f.debug_map().entries(self.order.iter().map(|name| (name, self.values.get(name)))).finish()
    }
}

impl<K: Ord + Hash + Clone, V: Clone> Named<K, V> {
    /// One by name.
    pub(super) fn get<Q: Hash + Eq + ?Sized>(&self, name: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.values.get(name)
    }

    /// All of them, by name.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.order.iter().filter_map(|name| self.values.get(name))
    }

    /// Puts one in, replacing the one of the same name.
    pub(super) fn insert(&mut self, name: K, value: V) {
        if self.values.insert(name.clone(), value).is_none() {
            self.order.insert(name);
        }
    }

    /// The name as it is kept, and what it has, to be changed.
    pub(super) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, name: &Q) -> Option<(&K, &mut V)>
    where
        K: Borrow<Q>,
    {
        self.values.get_key_value_mut(name)
    }

    /// One to be changed, made when there is none.
    pub(super) fn or_default(&mut self, name: &K) -> Option<&mut V>
    where
        V: Default,
    {
        if !self.values.contains_key(name) {
            self.insert(name.clone(), V::default());
        }
        self.values.get_mut(name)
    }

    /// Takes one out.
    pub(super) fn remove<Q: Hash + Ord + ?Sized>(&mut self, name: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.order.remove(name);
        self.values.remove(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_and_listed_in_order() {
        let mut named = Named::<String, u32>::default();
        for (name, value) in [("b", 1), ("c", 2), ("a", 3), ("b", 4)] {
            named.insert(name.to_owned(), value);
        }
        let before = named.clone();
        *named.or_default(&"d".to_owned()).unwrap() += 7;
        *named.or_default(&"a".to_owned()).unwrap() += 7;
        assert_eq!(named.remove("c"), Some(2));
        assert_eq!(named.remove("c"), None);
        assert_eq!(named.values().copied().collect::<Vec<_>>(), [10, 4, 7]);
        assert_eq!((named.get("c"), named.get("a"), named.get("")), (None, Some(&10), None));
        assert_eq!(before.values().copied().collect::<Vec<_>>(), [3, 4, 2]);
    }
}
