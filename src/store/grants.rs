//! The grants of one subject, found by account.

use super::object::Key;
use super::world::Versioned;
use crate::domain::{Grant, Role, Target};

/// Marks that are compared at once.
const AT_ONCE: usize = 16;

/// A number that stands for an account's name: other names may have it too, so who finds it compares names as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark(u32);

impl Mark {
    /// FNV-1a. Only administrators name accounts, and names that meet cost a comparison.
    pub(super) fn of(account: &str) -> Self {
        Self(
            account
                .bytes()
                .fold(0x811c_9dc5, |mark, byte| (mark ^ u32::from(byte)).wrapping_mul(0x0100_0193)),
        )
    }
}

/// The grants of a subject by target, each with the mark of its account beside it: most subjects have no grant on the
/// account that a call names, and the marks, which lie together, say so without a look at the grants.
#[derive(Clone, Debug, Default)]
pub(super) struct GrantsOf {
    grants: Vec<Versioned<Grant>>,
    marks: Vec<Mark>,
}

impl GrantsOf {
    /// All of them, by target.
    pub(super) fn all(&self) -> &[Versioned<Grant>] {
        &self.grants
    }

    /// Those on an account and on models of it; `mark` is that of its name.
    pub(super) fn on(&self, account: &str, mark: Mark) -> &[Versioned<Grant>] {
        let mut from = 0;
        while let Some(start) = self.find(mark, from) {
            let rest = self.grants.get(start..).unwrap_or_default();
            // Sorted by target, so the grants on one account stand together.
            let count = rest.iter().take_while(|grant| grant.target.account.as_str() == account).count();
            if count > 0 {
                return rest.get(..count).unwrap_or_default();
            }
            from = start + 1;
        }
        &[]
    }

    /// The first place from `from` on that has this mark.
    fn find(&self, mark: Mark, from: usize) -> Option<usize> {
        let marks = self.marks.get(from..)?;
        // No early end within a chunk: so the processor compares all of it at once.
        let there = |chunk: &[Mark]| chunk.iter().fold(false, |there, other| there | (*other == mark));
        let chunk = marks.chunks(AT_ONCE).position(there)? * AT_ONCE;
        let within = marks.get(chunk..)?.iter().position(|other| *other == mark)?;
        Some(from + chunk + within)
    }

    fn place(&self, role: Role, target: &Target) -> Option<usize> {
        let start = self.grants.partition_point(|other| other.target < *target);
        let on_it =
            self.grants.iter().enumerate().skip(start).take_while(|(_, other)| other.target == *target);
        on_it.into_iter().find(|(_, other)| other.role == role).map(|(place, _)| place)
    }

    /// The grant of one role on one target.
    pub(super) fn get(&self, role: Role, target: &Target) -> Option<&Versioned<Grant>> {
        self.grants.get(self.place(role, target)?)
    }

    /// Puts a grant in, and gives the one of the same role and target that it replaces.
    pub(super) fn put(&mut self, grant: Versioned<Grant>) -> Option<Versioned<Grant>> {
        let same = self.place(grant.role, &grant.target);
        if let Some(other) = same.and_then(|place| self.grants.get_mut(place)) {
            return Some(std::mem::replace(other, grant));
        }
        let place = self.grants.partition_point(|other| other.target <= grant.target);
        self.marks.insert(place, Mark::of(grant.target.account.as_str()));
        self.grants.insert(place, grant);
        None
    }

    /// Takes the grant at a key out.
    pub(super) fn remove(&mut self, key: &Key) -> Option<Versioned<Grant>> {
        let place = self.grants.iter().position(|grant| Key::grant(grant) == *key)?;
        self.marks.remove(place);
        Some(self.grants.remove(place))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Object, World};
    use super::*;
    use crate::clock::UnixMillis;
    use crate::domain::{GrantSource, Subject};
    use crate::seal::MasterKey;

    fn grant(target: &str, role: Role, revision: u64) -> Versioned<Grant> {
        let value = Arc::new(Grant {
            subject: Subject::parse("user:ada@example.com").unwrap(),
            role,
            target: Target::parse(target).unwrap(),
            source: GrantSource::Direct,
            created_at: UnixMillis(1),
            created_by: String::new(),
        });
        Versioned { revision, value }
    }

    fn on<'a>(grants: &'a GrantsOf, account: &str) -> Vec<(String, &'a Role)> {
        let found = grants.on(account, Mark::of(account));
        found.iter().map(|grant| (grant.target.to_string(), &grant.role)).collect()
    }

    #[test]
    fn found_by_account_whatever_comes_and_goes() {
        let mut grants = GrantsOf::default();
        assert!(on(&grants, "a00").is_empty());
        for number in (0..40).rev() {
            for model in ["/y", "", "/x"] {
                grants.put(grant(&format!("a{number:02}{model}"), Role::Access, 1));
            }
        }
        grants.put(grant("a07", Role::Manager, 1));
        grants.put(grant("a07", Role::Access, 9));
        assert_eq!(grants.all().len(), 121);
        assert!(grants.all().is_sorted_by_key(|grant| grant.target.clone()));
        let (access, manager) = (&Role::Access, &Role::Manager);
        assert_eq!(
            on(&grants, "a07"),
            [
                ("a07".into(), access),
                ("a07".into(), manager),
                ("a07/x".into(), access),
                ("a07/y".into(), access)
            ]
        );
        for number in 0..40 {
            assert!(on(&grants, &format!("a{number:02}")).len() >= 3, "{number}");
        }
        for absent in ["", "a", "a0", "a40", "a07/x", "b"] {
            assert!(on(&grants, absent).is_empty(), "{absent}");
        }
        for number in 0..40 {
            for model in ["", "/x", "/y"] {
                grants.remove(&Key::grant(&grant(&format!("a{number:02}{model}"), Role::Access, 0)));
            }
            assert_eq!(on(&grants, &format!("a{number:02}")).len(), usize::from(number == 7));
        }
        assert!(grants.remove(&Key::grant(&grant("a07", Role::Access, 0))).is_none());
        let target = Target::parse("a07").unwrap();
        assert!(grants.get(Role::Access, &target).is_none() && grants.get(Role::Manager, &target).is_some());
        assert!(grants.remove(&Key::grant(&grant("a07", Role::Manager, 0))).is_some());
        assert!(grants.all().is_empty());
    }

    #[test]
    fn names_with_the_same_mark_are_told_apart() {
        // Found by trying names until two met.
        let mut seen = std::collections::HashMap::new();
        let (first, second) = (0..)
            .find_map(|number: u32| {
                let name = format!("n{number}");
                seen.insert(Mark::of(&name).0, name.clone()).map(|other| (other, name))
            })
            .unwrap();
        let mut grants = GrantsOf::default();
        grants.put(grant(&first, Role::Access, 1));
        assert!(on(&grants, &second).is_empty());
        grants.put(grant(&second, Role::Access, 1));
        assert_eq!(on(&grants, &second), [(second.clone(), &Role::Access)]);
        assert_eq!(on(&grants, &first), [(first.clone(), &Role::Access)]);
    }

    #[test]
    fn the_grants_of_a_manifest_are_those_that_say_so() {
        let mut world = World::default();
        let subject = |number: u32| Subject::parse(&format!("user:u{}@x.io", number % 5)).unwrap();
        let grant_of = |number: u32| Grant {
            subject: subject(number),
            role: if number.is_multiple_of(3) { Role::Manager } else { Role::Access },
            target: Target::parse(&format!("account-{}", number % 7)).unwrap(),
            source: match number % 4 {
                0 => GrantSource::Direct,
                source => GrantSource::Manifest(format!("role-binding/b{source}")),
            },
            created_at: UnixMillis(1),
            created_by: String::new(),
        };
        let same = |world: &World| {
            for source in (0..4).map(|number| grant_of(number).source) {
                let mut walked: Vec<String> = world
                    .grants()
                    .filter(|grant| grant.source == source)
                    .map(|grant| Key::grant(grant).as_str().to_owned())
                    .collect();
                let mut found: Vec<String> = world
                    .grants_from(&source)
                    .iter()
                    .map(|grant| Key::grant(grant).as_str().to_owned())
                    .collect();
                walked.sort();
                found.sort();
                assert_eq!(found, walked, "{source:?}");
            }
        };
        // A small linear congruential generator: some are put in again from another source, some are taken out.
        let mut seed = 7_u32;
        for revision in 0..600 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let one = grant_of(seed >> 8);
            if seed >> 31 == 0 {
                world.put(Object::Grant(one), revision, &MasterKey::new(&[7; 32])).unwrap();
            } else {
                world.remove(&Key::grant(&one), revision);
            }
            same(&world);
        }
        assert!(world.grants().count() > 10);
    }
}
