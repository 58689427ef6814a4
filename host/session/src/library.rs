//! Installed components: their bytes on disk, their rows in the store, their code in memory.

use ambit_policy::{Kind, Manifest, Problems};
use ambit_runtime::{Code, Inspection, LoadError, Runtime};
use ambit_store::{Component, Digest, Store};
use ambit_types::{Error, ErrorKind};
use bytes::Bytes;
use serde::Serialize;
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::OnceCell;

/// Finds, checks and keeps components.
pub struct Library {
    folder: PathBuf,
    runtime: Arc<Runtime>,
    store: Store,
    /// Loaded once each, however many tenants use it.
    loaded: Mutex<HashMap<Digest, Arc<OnceCell<Arc<Code>>>>>,
}

/// A component as it was installed.
#[derive(Debug, Clone, Serialize)]
pub struct Installed {
    pub digest: Digest,
    pub name: String,
    pub version: String,
    pub kind: Kind,
    /// False when exactly this component was installed before.
    pub new: bool,
}

impl Library {
    /// `folder` holds one `<digest>.wasm` per component; it is made when absent.
    ///
    /// # Errors
    /// The folder cannot be made.
    pub fn open(
        folder: impl Into<PathBuf>,
        runtime: Arc<Runtime>,
        store: Store,
    ) -> io::Result<Self> {
        let folder = folder.into();
        std::fs::create_dir_all(&folder)?;
        Ok(Self {
            folder,
            runtime,
            store,
            loaded: Mutex::default(),
        })
    }

    /// Checks and compiles a component, then keeps it: bytes first, row second, so that a row always has its bytes.
    ///
    /// # Errors
    /// The manifest or the component is not valid, or another component has this name and version.
    pub async fn install(&self, wasm: Bytes, manifest: &str) -> Result<Installed, Error> {
        let parsed = parse(manifest)?;
        let code = self
            .runtime
            .load(wasm.clone(), parsed.clone())
            .await
            .map_err(|error| refused(&error))?;
        let digest = Digest(*code.digest().as_bytes());
        let known = self
            .store
            .operator()
            .component(digest)
            .await
            .map_err(Error::internal)?;
        if let Some(known) = &known
            && known.manifest != manifest
        {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "component {digest} is installed as {}@{} with another manifest; a changed manifest needs changed bytes or a new version",
                    known.name, known.version
                ),
            ));
        }
        write_atomically(self.path(digest), wasm)
            .await
            .map_err(Error::internal)?;
        let info = &parsed.component;
        if known.is_none() {
            let row = Component {
                digest,
                name: info.name.clone(),
                version: info.version.clone(),
                kind: info.kind.to_string(),
                manifest: manifest.to_owned(),
                installed_ms: now_ms(),
            };
            self.store
                .operator()
                .install_component(&row)
                .await
                .map_err(store_error)?;
        }
        let _ = self.cell(digest).set(code);
        Ok(Installed {
            digest,
            name: info.name.to_string(),
            version: info.version.clone(),
            kind: info.kind,
            new: known.is_none(),
        })
    }

    /// Whether the bytes of a component are in this process's folder. Its row alone may be another node's doing.
    pub async fn has(&self, digest: Digest) -> bool {
        tokio::fs::try_exists(self.path(digest))
            .await
            .unwrap_or(false)
    }

    /// The code of an installed component, loaded once.
    ///
    /// # Errors
    /// It is not installed, or its file is gone or changed.
    pub async fn code(&self, digest: Digest) -> Result<Arc<Code>, Error> {
        let cell = self.cell(digest);
        let code = cell.get_or_try_init(|| self.load(digest)).await?;
        Ok(code.clone())
    }

    /// What a component is and what these grants would leave of what it asks.
    ///
    /// # Errors
    /// As [`Library::install`].
    pub async fn inspect(
        &self,
        wasm: Bytes,
        manifest: &str,
        grant: Option<&ambit_policy::Grant>,
    ) -> Result<Inspection, Error> {
        let code = self
            .runtime
            .load(wasm, parse(manifest)?)
            .await
            .map_err(|error| refused(&error))?;
        Ok(ambit_runtime::inspect(&code, grant))
    }

    async fn load(&self, digest: Digest) -> Result<Arc<Code>, Error> {
        let row = self
            .store
            .operator()
            .component(digest)
            .await
            .map_err(Error::internal)?;
        let row =
            row.ok_or_else(|| Error::not_found(format!("component {digest} is not installed")))?;
        let wasm = tokio::fs::read(self.path(digest)).await.map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!(
                    "the file of component {}@{} cannot be read; install it again",
                    row.name, row.version
                ),
            )
            .because(error)
        })?;
        let code = self
            .runtime
            .load(wasm.into(), parse(&row.manifest)?)
            .await
            .map_err(|error| refused(&error))?;
        if *code.digest().as_bytes() != digest.0 {
            return Err(Error::new(
                ErrorKind::Internal,
                format!(
                    "the file of component {}@{} is not what was installed; install it again",
                    row.name, row.version
                ),
            ));
        }
        Ok(code)
    }

    fn cell(&self, digest: Digest) -> Arc<OnceCell<Arc<Code>>> {
        self.loaded
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(digest)
            .or_default()
            .clone()
    }

    fn path(&self, digest: Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }
}

fn parse(manifest: &str) -> Result<Manifest, Error> {
    Manifest::parse(manifest)
        .map_err(|problems| Error::invalid("manifest", Problems(problems).to_string()))
}

fn refused(error: &LoadError) -> Error {
    Error::invalid("component", error.to_string())
}

pub(crate) fn store_error(error: ambit_store::StoreError) -> Error {
    match error {
        ambit_store::StoreError::Conflict { .. } => {
            Error::new(ErrorKind::Conflict, error.to_string())
        }
        other => Error::internal(other),
    }
}

async fn write_atomically(path: PathBuf, bytes: Bytes) -> io::Result<()> {
    tokio::task::spawn_blocking(move || {
        use std::io::Write as _;
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map(drop).map_err(|error| error.error)
    })
    .await
    .map_err(io::Error::other)?
}

pub(crate) fn now_ms() -> i64 {
    i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis(),
    )
    .unwrap_or(i64::MAX)
}
