//! `gateway admin backup` and `gateway admin restore`

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use argh::FromArgs;
use serde_json::{Value, json};

use super::admin::Open;
use super::failure::Failure;
use super::input::with_query;
use super::output::Output;
use crate::config::Config;
use crate::recovery::{self, Summary};

/// Write the gateway's state and usage into one file, while it goes on.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "backup",
    help_triggers("-h", "--help"),
    example = "{command_name} /var/backups/gateway-daily/$(date +%F).backup\n\
    GATEWAY_TOKEN=tfy_pat_... gateway admin --url https://gateway.example.com backup gateway.backup",
    note = "In it is every change and every call up to the moment that it begins; logged bodies are not. It is read once more when it is written, to\n  \
    its last byte; only then does it get its name.",
    note = "The master key is not in it unless --with-master-key is given, which only the host's administrator may. Without\n  \
    that key nobody can use the providers' credentials in a backup: keep it in another place, and do keep it."
)]
pub struct Backup {
    /// the file to write, readable by its owner only
    #[argh(positional)]
    file: String,

    /// put the master key in too: whoever has the file then has every provider's credential
    #[argh(switch)]
    with_master_key: bool,

    /// replace a file of that name
    #[argh(switch)]
    force: bool,
}

/// Make a data folder out of a backup; the gateway must not run.
#[derive(FromArgs)]
#[argh(
    subcommand,
    name = "restore",
    help_triggers("-h", "--help"),
    example = "systemctl stop gateway && sudo -u gateway {command_name} gateway-2027-01-31.backup --force\n\
    {command_name} gateway.backup --data-dir ./copy\n\
    {command_name} gateway.backup --check",
    note = "The backup is read to its last byte before anything is touched. What was in the folder is not deleted: it is put\n  \
    aside in before-restore-TIME. An interruption leaves the old state or the new one.",
    note = "What came after the backup is gone: tokens revoked since are good again, and people removed since are back. Look\n  \
    through the old audit log for what has to be done once more."
)]
pub struct Restore {
    /// the file that 'backup' wrote
    #[argh(positional)]
    file: String,

    /// put aside what the data folder holds
    #[argh(switch)]
    force: bool,

    /// only check the backup and say what is in it
    #[argh(switch)]
    check: bool,
}

impl Backup {
    /// Carries the verb out.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, open: Open<'_>) -> Result<(), Failure> {
        let target = PathBuf::from(&self.file);
        if target.file_name().is_none() {
            return Err(Failure::Usage(format!("'{}' is not the name of a file.", self.file)));
        }
        if !self.force && target.exists() {
            return Err(exists(&target));
        }
        let context = open()?;
        let unfinished = Unfinished::create(&target)?;
        let flag = self.with_master_key.then_some("true");
        let path = with_query("/backup", &[("withMasterKey", flag)]);
        let mut file = &unfinished.file;
        context.client.stream(&path, &mut |piece| {
            file.write_all(piece).map_err(|error| failed(&unfinished.path, &error))
        })?;
        file.sync_all().map_err(|error| failed(&unfinished.path, &error))?;
        // What the disk gives back, not what was sent.
        let summary =
            recovery::verify(&unfinished.path).map_err(|error| Failure::Input(error.to_string()))?;
        unfinished.name(&target, self.force)?;
        let mut text = format!("The backup is in {}.\n{}", target.display(), describe(&summary));
        if summary.has_key {
            text.push_str(
                "\nThe master key is in it: whoever has this file has every provider's credential.",
            );
        } else {
            text.push_str(&format!(
                "\nThe master key {} is not in it. Without that key the backup is of no use: keep it too, elsewhere.",
                summary.header.master_key_id
            ));
        }
        context.output.said(&text, &to_json(&summary, &target))
    }
}

impl Restore {
    /// Carries the verb out, in the data folder of a configuration.
    ///
    /// # Errors
    /// Why it was not.
    pub fn run(self, output: &Output, config: &Config) -> Result<(), Failure> {
        let file = PathBuf::from(&self.file);
        let refused = |error: recovery::RecoveryError| Failure::Input(error.to_string());
        if self.check {
            let summary = recovery::verify(&file).map_err(refused)?;
            let text = format!("The backup {} is whole.\n{}", file.display(), describe(&summary));
            return output.said(&text, &to_json(&summary, &file));
        }
        let (folder, key_file) = (&config.store.data_dir, config.store.master_key_file.as_deref());
        let restored = recovery::restore(&file, folder, key_file, self.force).map_err(refused)?;
        let summary = &restored.summary;
        let mut text =
            format!("{} was restored from {}.\n{}", folder.display(), file.display(), describe(summary));
        if let Some(aside) = &restored.aside {
            text.push_str(&format!("\nWhat was there before is in {}.", aside.display()));
        }
        if restored.verified_with_key {
            text.push_str("\nIt was opened with its master key. The gateway can start.");
        } else {
            text.push_str(&format!(
                "\nNo master key is here. Before the gateway starts, put the key {} in its place: {}, \
                 store.master_key_file, or the credential gateway-master-key.",
                summary.header.master_key_id,
                folder.join("master.key").display()
            ));
        }
        let mut answer = to_json(summary, &file);
        if let Value::Object(answer) = &mut answer {
            answer.insert("dataDir".to_owned(), folder.display().to_string().into());
            answer.insert("aside".to_owned(), json!(restored.aside.map(|aside| aside.display().to_string())));
            answer.insert("verifiedWithMasterKey".to_owned(), restored.verified_with_key.into());
        }
        output.said(&text, &answer)
    }
}

fn describe(summary: &Summary) -> String {
    let header = &summary.header;
    let audit = match header.audit_broken_at {
        None => format!("audit log: {} records, whole, head {}", header.audit_records, header.audit_head),
        Some(number) => format!(
            "audit log: BROKEN at record {number}; it was changed outside the gateway before this backup was made"
        ),
    };
    format!(
        "made {} of '{}' by gateway {}, {} bytes, checksums right\nstate: revision {}\n{audit}",
        header.at, header.tenant, header.gateway, summary.bytes, header.revision
    )
}

fn to_json(summary: &Summary, file: &Path) -> Value {
    let rows: serde_json::Map<String, Value> =
        summary.rows.iter().map(|(name, count)| (name.clone(), (*count).into())).collect();
    json!({
        "file": file.display().to_string(),
        "bytes": summary.bytes,
        "hasMasterKey": summary.has_key,
        "rows": rows,
        "header": summary.header,
    })
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Input(format!("{} can not be written: {error}", path.display()))
}

fn exists(target: &Path) -> Failure {
    Failure::Input(format!("{} is there already; take another name, or --force", target.display()))
}

/// A backup under another name beside its target; removed unless it gets its own.
struct Unfinished {
    path: PathBuf,
    file: File,
}

impl Unfinished {
    fn create(target: &Path) -> Result<Self, Failure> {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.part", std::process::id()));
        let path = target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed(&path, &error))?;
        Ok(Self { path, file })
    }

    /// Gives the file its name, in one step: nobody sees half a backup under it.
    fn name(self, target: &Path, force: bool) -> Result<(), Failure> {
        let named = if force {
            std::fs::rename(&self.path, target)
        } else {
            // A rename would replace a file that came meanwhile.
            std::fs::hard_link(&self.path, target)
        };
        match named {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Err(exists(target)),
            other => other.map_err(|error| failed(target, &error))?,
        }
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| failed(target, &error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
