//! The audit log as a chain: tampered with, pruned, and cut.

use redb::ReadableTable;

use super::tests::*;
use super::*;
use crate::clock::UnixMillis;

#[test]
fn a_change_to_the_audit_log_is_found() {
    type Tampering = fn(&mut redb::Table<u64, &[u8]>);
    let tamperings: [(Tampering, u64); 4] = [
        (
            |table| {
                let record = String::from_utf8(table.get(2).unwrap().unwrap().value().to_vec()).unwrap();
                table.insert(2, record.replace("u2@", "u9@").as_bytes()).unwrap();
            },
            2,
        ),
        (|table| drop(table.remove(2).unwrap()), 2),
        (|table| drop(table.remove(1).unwrap()), 1),
        (
            |table| {
                let record = table.get(3).unwrap().unwrap().value().to_vec();
                table.insert(2, record.as_slice()).unwrap();
            },
            2,
        ),
    ];
    for (tampering, at) in tamperings {
        let folder = Folder::new();
        let store = folder.open().unwrap();
        for number in 1..=4 {
            store.commit(put(user(&format!("u{number}@example.com")))).unwrap();
        }
        assert_eq!(store.verify_audit_chain().unwrap().records, 4);
        drop(store);
        folder.tamper(|transaction| tampering(&mut transaction.open_table(disk::AUDIT).unwrap()));
        let error = folder.open().unwrap().verify_audit_chain().unwrap_err();
        assert!(matches!(error, StoreError::AuditBroken { seq } if seq == at), "{error}");
    }
}

/// A log of four records of which the first two are pruned, the pruning itself the fifth.
fn pruned() -> (Folder, AuditHead) {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    for number in 1..=4 {
        store.commit(put(user(&format!("u{number}@example.com")))).unwrap();
    }
    let head = store.verify_audit_chain().unwrap();
    let up_to = store.prunable_audit(UnixMillis(2), 2).unwrap().unwrap();
    assert_eq!(up_to.records, 2);
    let prune = Change { writes: vec![Write::PruneAudit(up_to)], audit: vec![entry("audit-log")] };
    store.commit(prune).unwrap();
    (folder, head)
}

#[test]
fn a_pruned_log_is_still_a_chain() {
    let (folder, head) = pruned();
    for _ in 0..2 {
        let store = folder.open().unwrap();
        let chain = store.audit_chain(Some(&head.to_hex())).unwrap();
        assert_eq!((chain.pruned, chain.head.records, chain.has_noted), (2, 5, true));
        let page = store.read_audit(&AuditFilter { limit: 10, ..AuditFilter::default() }).unwrap();
        let numbers: Vec<_> = page.entries.iter().map(|(number, _)| *number).collect();
        assert_eq!((numbers, page.next), (vec![5, 4, 3], None));
        assert_eq!(store.prunable_audit(UnixMillis(1), 10).unwrap(), None);
    }
    // It goes on from there.
    let store = folder.open().unwrap();
    store.commit(put(user("u5@example.com"))).unwrap();
    let up_to = store.prunable_audit(UnixMillis(2), 10).unwrap().unwrap();
    store.commit(Change { writes: vec![Write::PruneAudit(up_to)], audit: vec![entry("audit-log")] }).unwrap();
    drop(store);
    let chain = folder.open().unwrap().audit_chain(None).unwrap();
    assert_eq!((chain.pruned, chain.head.records), (6, 7));
}

#[test]
fn a_change_to_a_pruned_log_is_found() {
    type Tampering = fn(&redb::WriteTransaction);
    let tamperings: [(Tampering, u64); 5] = [
        // More cut off in front.
        (|t| drop(t.open_table(disk::AUDIT).unwrap().remove(3).unwrap()), 3),
        (|t| drop(t.open_table(disk::AUDIT).unwrap().remove(4).unwrap()), 4),
        // The checkpoint gone, or made up.
        (|t| drop(t.open_table(disk::META).unwrap().remove("audit_checkpoint").unwrap()), 1),
        (
            |t| {
                let mut meta = t.open_table(disk::META).unwrap();
                let stored = meta.get("audit_checkpoint").unwrap().unwrap().value().to_owned();
                let stored = stored.replace("\"records\":2", "\"records\":3");
                meta.insert("audit_checkpoint", stored.as_str()).unwrap();
                t.open_table(disk::AUDIT).unwrap().remove(3).unwrap();
            },
            1,
        ),
        (|t| drop(t.open_table(disk::META).unwrap().insert("audit_checkpoint", "{}").unwrap()), 1),
    ];
    for (tampering, at) in tamperings {
        let (folder, _) = pruned();
        folder.tamper(tampering);
        let store = folder.open().unwrap();
        let error = store.verify_audit_chain().unwrap_err();
        assert!(matches!(error, StoreError::AuditBroken { seq } if seq == at), "{at}: {error}");
    }
}

#[test]
fn a_tail_that_was_cut_is_found_with_a_noted_head() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    let mut heads = Vec::new();
    for number in 1..=3 {
        store.commit(put(user(&format!("u{number}@example.com")))).unwrap();
        heads.push(store.verify_audit_chain().unwrap().to_hex());
    }
    drop(store);
    folder.tamper(|t| drop(t.open_table(disk::AUDIT).unwrap().remove(3).unwrap()));
    let store = folder.open().unwrap();
    let found: Vec<bool> =
        heads.iter().map(|head| store.audit_chain(Some(head)).unwrap().has_noted).collect();
    assert_eq!(found, [true, true, false]);
}

#[test]
fn what_was_tampered_with_is_not_pruned_away() {
    let folder = Folder::new();
    let store = folder.open().unwrap();
    for number in 1..=4 {
        store.commit(put(user(&format!("u{number}@example.com")))).unwrap();
    }
    drop(store);
    folder.tamper(|t| drop(t.open_table(disk::AUDIT).unwrap().remove(2).unwrap()));
    let error = folder.open().unwrap().prunable_audit(UnixMillis(2), 10).unwrap_err();
    assert!(matches!(error, StoreError::AuditBroken { seq: 2 }), "{error}");
}
