//! The folder of an embedded installation: who owns it, where its server is, its bootstrap keys.
//!
//! `lock` is held by the process that works on the data; `server.json` says where a running server is, so that commands ask it instead;
//! `configuration.json` names the configuration it is served with; `keys.json` holds the keys made at bootstrap. Every other key is stored hashed and shown once. All are mode 0600 in a folder of mode 0700.

use anyhow::Context as _;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// The folder, made and private.
#[derive(Debug, Clone)]
pub(crate) struct Installation {
    folder: PathBuf,
}

/// Keys made at bootstrap.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Keys {
    pub(crate) admin_key: String,
    /// By tenant slug.
    #[serde(default)]
    pub(crate) tenants: BTreeMap<String, String>,
}

/// What `up` made last, so that it tells its own work from what somebody changed since.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Made {
    /// Version of the demo agent, by tenant slug.
    pub(crate) agents: BTreeMap<String, i64>,
    pub(crate) pass_through: bool,
}

/// Where the running server is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) ops_url: String,
    pub(crate) admin_key: String,
    pub(crate) pid: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Configuration {
    path: PathBuf,
}

/// The right to work on the data; given up when dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
    server: PathBuf,
}

impl Installation {
    /// Makes the folder where it is missing.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let make = || -> io::Result<PathBuf> {
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true);
            #[cfg(unix)]
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
            builder.create(folder)?;
            folder.canonicalize()
        };
        let folder = make()
            .with_context(|| format!("cannot use {} as the data folder", folder.display()))?;
        Ok(Self { folder })
    }

    /// One that must be there already.
    pub(crate) fn find(folder: &Path) -> anyhow::Result<Self> {
        let folder = folder
            .canonicalize()
            .with_context(|| format!("there is no installation at {}; start one with `ambit up`, or name it with --data or --url", folder.display()))?;
        Ok(Self { folder })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Takes the lock. None: another process has it.
    pub(crate) fn lock(&self) -> anyhow::Result<Option<Lock>> {
        let path = self.path("lock");
        let file = private(&path)
            .and_then(|mut options| options.truncate(false).open(&path))
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock {
                _file: file,
                server: self.path("server.json"),
            })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    pub(crate) fn keys(&self) -> anyhow::Result<Option<Keys>> {
        self.read("keys.json")
    }

    pub(crate) fn keep_keys(&self, keys: &Keys) -> anyhow::Result<()> {
        self.write("keys.json", keys)
    }

    pub(crate) fn made(&self) -> anyhow::Result<Made> {
        Ok(self.read("demo.json")?.unwrap_or_default())
    }

    pub(crate) fn keep_made(&self, made: &Made) -> anyhow::Result<()> {
        self.write("demo.json", made)
    }

    /// The running server, if one says it is there.
    pub(crate) fn server(&self) -> anyhow::Result<Option<Server>> {
        self.read("server.json")
    }

    pub(crate) fn announce(&self, server: &Server) -> anyhow::Result<()> {
        self.write("server.json", server)
    }

    /// Remembers what the installation is served with, so that commands without a server work on the same database, by the same rules.
    pub(crate) fn keep_configuration(&self, path: &Path) -> anyhow::Result<()> {
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        // One in the folder moves with it.
        let path = path.strip_prefix(&self.folder).unwrap_or(&path);
        let configuration = Configuration {
            path: path.to_owned(),
        };
        self.write("configuration.json", &configuration)
    }

    /// The configuration the installation was served with last.
    pub(crate) fn configuration(&self) -> anyhow::Result<PathBuf> {
        let kept: Option<Configuration> = self.read("configuration.json")?;
        let kept = kept.with_context(|| {
            format!(
                "{} was never served; start it with `ambit up` or `ambit serve`",
                self.folder.display()
            )
        })?;
        Ok(self.folder.join(kept.path))
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.path(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("cannot read {}", path.display()));
            }
        };
        serde_json::from_str(&text).map(Some).with_context(|| {
            format!(
                "{} is damaged; restore it from a backup or delete it",
                path.display()
            )
        })
    }

    /// Writes beside and renames, so that a reader never sees half a file.
    fn write(&self, name: &str, value: &impl Serialize) -> anyhow::Result<()> {
        let path = self.path(name);
        let beside = self.path(&format!("{name}.{}.new", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = private(&beside)?.truncate(true).open(&beside)?;
            file.write_all(&serde_json::to_vec_pretty(value)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Removed while the lock is still held: nobody else's can be meant. A file that is gone already is as good.
        let _ = fs::remove_file(&self.server);
    }
}

fn private(path: &Path) -> io::Result<fs::OpenOptions> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        options.mode(0o600);
        if path.exists() {
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_and_private_files() {
        let folder = tempfile::tempdir().unwrap();
        let installation = Installation::open(&folder.path().join("new")).unwrap();
        let lock = installation.lock().unwrap().unwrap();
        assert!(installation.lock().unwrap().is_none());
        installation
            .announce(&Server {
                url: "u".into(),
                ops_url: "o".into(),
                admin_key: "k".into(),
                pid: 1,
            })
            .unwrap();
        assert_eq!(installation.server().unwrap().unwrap().url, "u");
        drop(lock);
        assert!(installation.server().unwrap().is_none() && installation.lock().unwrap().is_some());

        installation
            .keep_keys(&Keys {
                admin_key: "secret".into(),
                tenants: BTreeMap::new(),
            })
            .unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(installation.path("keys.json"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keys.json"), "{").unwrap();
        let error = Installation::open(folder.path())
            .unwrap()
            .keys()
            .unwrap_err();
        assert!(error.to_string().contains("keys.json"), "{error}");
        assert!(
            Installation::find(&folder.path().join("absent"))
                .unwrap_err()
                .to_string()
                .contains("ambit up")
        );
    }
}
