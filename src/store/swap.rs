//! Puts a restored set of files in the place of the old one, so that a crash at any moment leaves the old or the new.
//!
//! The new files are made in the folder `restore.new`. One rename, to `restore.ready`, decides: before it nothing has
//! changed, after it whoever opens the data folder next finishes the work. Every step can be done twice.

use std::fs::{DirBuilder, File};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::disk::{damaged, sync_folder_of};

const STAGING: &str = "restore.new";
const READY: &str = "restore.ready";
const PLAN: &str = "plan.json";
/// What the plan may name at most.
const MAX_FILES: usize = 64;
const MAX_PLAN_BYTES: u64 = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    v: u32,
    /// The folder that the old files go to.
    aside: String,
    /// Files that come.
    new: Vec<String>,
    /// Files that go.
    old: Vec<String>,
}

/// An empty folder for the new files; what an interrupted restore left of one is removed.
///
/// # Errors
/// When the disk refuses.
pub fn stage(data_dir: &Path) -> Result<PathBuf, StoreError> {
    let staging = data_dir.join(STAGING);
    let failed = |error| StoreError::io(&staging, error);
    match std::fs::remove_dir_all(&staging) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(&staging).map_err(failed)?;
    Ok(staging)
}

/// Gives the staging folder up.
pub fn abandon(data_dir: &Path) {
    let _ = std::fs::remove_dir_all(data_dir.join(STAGING));
}

/// Decides that the staged files `new` replace the files `old`, which go to the folder `aside` in the data folder, and
/// does it. The caller holds the folder's lock.
///
/// # Errors
/// When the disk refuses. It may have been decided then: the next who opens the folder finishes it.
pub fn commit(data_dir: &Path, aside: &str, new: Vec<String>, old: Vec<String>) -> Result<(), StoreError> {
    let staging = data_dir.join(STAGING);
    let path = staging.join(PLAN);
    let failed = |error| StoreError::io(&path, error);
    let plan = Plan { v: 1, aside: aside.to_owned(), new, old };
    let text = serde_json::to_vec(&plan).map_err(|error| failed(error.into()))?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(failed)?;
    file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
    sync_folder_of(&path)?;
    let ready = data_dir.join(READY);
    std::fs::rename(&staging, &ready).map_err(|error| StoreError::io(&ready, error))?;
    sync_folder_of(&ready)?;
    finish(data_dir)
}

/// Finishes a restore that was decided, when there is one. The caller holds the folder's lock.
///
/// # Errors
/// When the disk refuses, or the plan can not be read.
pub fn finish(data_dir: &Path) -> Result<(), StoreError> {
    let ready = data_dir.join(READY);
    if !ready.try_exists().map_err(|error| StoreError::io(&ready, error))? {
        return Ok(());
    }
    let path = ready.join(PLAN);
    if !path.try_exists().map_err(|error| StoreError::io(&path, error))? {
        // The plan goes last of all: everything is in its place.
        return std::fs::remove_dir_all(&ready).map_err(|error| StoreError::io(&ready, error));
    }
    let plan = read_plan(&path)?;
    let aside = data_dir.join(&plan.aside);
    match DirBuilder::new().mode(0o700).create(&aside) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(StoreError::io(&aside, error));
        }
        _ => {}
    }
    for name in &plan.old {
        // With its successor still waiting, or without one, what has the name is the old file.
        if !plan.new.contains(name) || ready.join(name).exists() {
            rename_if_there(&data_dir.join(name), &aside.join(name))?;
        }
    }
    sync_folder_of(&aside.join(PLAN))?;
    for name in &plan.new {
        rename_if_there(&ready.join(name), &data_dir.join(name))?;
    }
    sync_folder_of(&ready)?;
    std::fs::remove_file(&path).map_err(|error| StoreError::io(&path, error))?;
    std::fs::remove_dir_all(&ready).map_err(|error| StoreError::io(&ready, error))?;
    log::info!("a restore was finished; the files of before are in {}", aside.display());
    Ok(())
}

fn read_plan(path: &Path) -> Result<Plan, StoreError> {
    use std::io::Read as _;
    let mut text = String::new();
    let file = File::open(path).map_err(|error| StoreError::io(path, error))?;
    file.take(MAX_PLAN_BYTES).read_to_string(&mut text).map_err(|error| StoreError::io(path, error))?;
    let plan: Plan =
        serde_json::from_str(&text).map_err(|_| damaged(path, "the plan of a restore can not be read"))?;
    let is_plain = |name: &String| !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let names = plan.new.iter().chain(&plan.old).chain(std::iter::once(&plan.aside));
    if plan.v != 1 || plan.new.len() + plan.old.len() > MAX_FILES || !names.into_iter().all(is_plain) {
        return Err(damaged(path, "the plan of a restore is not one"));
    }
    Ok(plan)
}

fn rename_if_there(from: &Path, to: &Path) -> Result<(), StoreError> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io(from, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Folder;
    use super::*;

    fn text(path: PathBuf) -> String {
        std::fs::read_to_string(path).unwrap_or_default()
    }

    fn names(plan: &[&str]) -> Vec<String> {
        plan.iter().map(|name| (*name).to_owned()).collect()
    }

    /// A folder whose restore was decided; `done` of its renames happened before the crash.
    fn crashed(done: usize) -> Folder {
        let folder = Folder::new();
        let data = &folder.0;
        for name in ["a", "b", "c"] {
            std::fs::write(data.join(name), format!("old {name}")).unwrap();
        }
        let staging = stage(data).unwrap();
        for name in ["a", "b", "d"] {
            std::fs::write(staging.join(name), format!("new {name}")).unwrap();
        }
        let plan =
            Plan { v: 1, aside: "before".into(), new: names(&["a", "b", "d"]), old: names(&["a", "b", "c"]) };
        std::fs::write(staging.join(PLAN), serde_json::to_vec(&plan).unwrap()).unwrap();
        std::fs::rename(&staging, data.join(READY)).unwrap();
        let (ready, aside) = (data.join(READY), data.join("before"));
        std::fs::create_dir(&aside).unwrap();
        let mut steps: Vec<(PathBuf, PathBuf)> = Vec::new();
        steps.extend(["a", "b", "c"].map(|name| (data.join(name), aside.join(name))));
        steps.extend(["a", "b", "d"].map(|name| (ready.join(name), data.join(name))));
        for (from, to) in steps.iter().take(done) {
            std::fs::rename(from, to).unwrap();
        }
        if done > 6 {
            std::fs::remove_file(ready.join(PLAN)).unwrap();
        }
        folder
    }

    #[test]
    fn a_crash_after_any_step_ends_with_the_new_files() {
        for done in 0..=7 {
            let folder = crashed(done);
            finish(&folder.0).unwrap();
            finish(&folder.0).unwrap();
            for name in ["a", "b", "d"] {
                assert_eq!(text(folder.0.join(name)), format!("new {name}"), "after {done} steps");
            }
            assert!(!folder.0.join("c").exists() && !folder.0.join(READY).exists(), "after {done} steps");
            for name in ["a", "b", "c"] {
                assert_eq!(text(folder.0.join("before").join(name)), format!("old {name}"), "after {done}");
            }
        }
    }

    #[test]
    fn what_was_not_decided_changes_nothing() {
        let folder = Folder::new();
        std::fs::write(folder.0.join("a"), "old").unwrap();
        let staging = stage(&folder.0).unwrap();
        std::fs::write(staging.join("a"), "new").unwrap();
        finish(&folder.0).unwrap();
        assert_eq!(text(folder.0.join("a")), "old");
        // The next one begins from nothing.
        let staging = stage(&folder.0).unwrap();
        assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0);
        abandon(&folder.0);
        assert!(!staging.exists());
    }

    #[test]
    fn a_plan_that_leads_out_of_the_folder_is_refused() {
        for plan in [
            r#"{"v":1,"aside":"../out","new":[],"old":[]}"#,
            r#"{"v":1,"aside":"x","new":["../../etc/passwd"],"old":[]}"#,
            r#"{"v":1,"aside":"x","new":[],"old":[""]}"#,
            r#"{"v":2,"aside":"x","new":[],"old":[]}"#,
            r#"{"v":1,"aside":"x","new":[],"old":[],"more":1}"#,
            "",
        ] {
            let folder = Folder::new();
            std::fs::create_dir(folder.0.join(READY)).unwrap();
            std::fs::write(folder.0.join(READY).join(PLAN), plan).unwrap();
            assert!(matches!(finish(&folder.0), Err(StoreError::Damaged { .. })), "{plan}");
        }
    }
}
