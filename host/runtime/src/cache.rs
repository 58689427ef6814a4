//! Compiled code on disk, so that a start does not compile again.
//!
//! The rule: *what is deserialised was written by this host*. `Component::deserialize` believes its input; a changed file would run as
//! native code outside every sandbox. So the folder must belong to the user this process runs as and be writable by nobody else, or it
//! is not used; and each file begins with a SHA-256 over its code, the component's digest, the engine's compatibility hash and its class,
//! so that damage, a file put in another's place, and code of another engine or version are all found before a byte is used.
//! The file is read whole before it is checked: what is checked is what is used. A keyed hash would add nothing: who may write
//! here may also read any key this process could.
//!
//! A cache that does not work is never an error: the component is compiled.

use crate::{Digest, engine::EngineClass};
use rustix::process::geteuid;
use sha2::{Digest as _, Sha256};
use std::{
    fs,
    hash::{Hash, Hasher},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};
use wasmtime::{Engine, component::Component};

/// First bytes of every file; the number counts changes of this format.
const MAGIC: &[u8; 16] = b"ambit code v1\0\0\0";

/// A folder of compiled components.
#[derive(Debug)]
pub(crate) struct Cache {
    dir: PathBuf,
}

/// Why a cached file was not used.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("cannot read it")]
    Unreadable(#[source] io::Error),
    #[error("others than its owner may write it, or it is not a plain file")]
    Exposed,
    #[error("its hash does not match: it is damaged, or was made for another component or engine")]
    Tampered,
    #[error("the engine refuses it")]
    Refused(#[source] wasmtime::Error),
}

impl Cache {
    /// Opens the folder, making it where it is missing. `None`, with a warning, where it cannot be trusted.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir);
        let trusted = made
            .and_then(|()| fs::symlink_metadata(dir))
            .map(|meta| meta.is_dir() && is_ours(&meta));
        match trusted {
            Ok(true) => Some(Self {
                dir: dir.to_owned(),
            }),
            Ok(false) => {
                tracing::warn!(
                    dir = %dir.display(),
                    "the folder for compiled code is not used: it must be a folder of the user this process runs as that nobody else can \
                     write to (chmod 700)"
                );
                None
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the folder for compiled code is not used");
                None
            }
        }
    }

    /// The compiled component, if it is there and unharmed.
    pub(crate) fn load(
        &self,
        engine: &Engine,
        class: EngineClass,
        digest: Digest,
    ) -> Option<Component> {
        let path = self.path(engine, class, digest);
        match read(&path, engine, class, digest) {
            Ok(component) => Some(component),
            Err(Unusable::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %Chain(&error), "compiled code is not used and made anew");
                None
            }
        }
    }

    /// Keeps a compiled component. Never half a file: it is written under another name and renamed.
    pub(crate) fn store(&self, component: &Component, class: EngineClass, digest: Digest) {
        let path = self.path(component.engine(), class, digest);
        if let Err(error) = self.write(&path, component, class, digest) {
            tracing::warn!(path = %path.display(), error = format!("{error:#}"), "compiled code is not kept");
        }
    }

    fn write(
        &self,
        path: &Path,
        component: &Component,
        class: EngineClass,
        digest: Digest,
    ) -> wasmtime::Result<()> {
        let code = component.serialize()?;
        // Mode 0600, as tempfile makes them.
        let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
        file.write_all(MAGIC)?;
        file.write_all(&seal(&code, component.engine(), class, digest))?;
        file.write_all(&code)?;
        file.as_file().sync_data()?;
        file.persist(path)?;
        Ok(())
    }

    fn path(&self, engine: &Engine, class: EngineClass, digest: Digest) -> PathBuf {
        self.dir.join(format!(
            "{digest}-{class}-{:016x}.cwasm",
            compatibility(engine)
        ))
    }
}

#[allow(
    unsafe_code,
    reason = "deserialising compiled code; the checks before it are what this module is for"
)]
fn read(
    path: &Path,
    engine: &Engine,
    class: EngineClass,
    digest: Digest,
) -> Result<Component, Unusable> {
    let meta = fs::symlink_metadata(path).map_err(Unusable::Unreadable)?;
    if !meta.is_file() || !is_ours(&meta) {
        return Err(Unusable::Exposed);
    }
    let bytes = fs::read(path).map_err(Unusable::Unreadable)?;
    let code = bytes
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<32>())
        .and_then(|(hash, code)| (*hash == seal(code, engine, class, digest)).then_some(code))
        .ok_or(Unusable::Tampered)?;
    // SAFETY: `code` must be unmodified output of `Component::serialize` for a compatible engine. The hash checked above is over exactly
    // these bytes in memory, this engine's compatibility hash and class, and was written by `Cache::write` into a folder that only this
    // user may write to (`Cache::open`), in a file of which the same is true (`is_ours`).
    unsafe { Component::deserialize(engine, code) }.map_err(Unusable::Refused)
}

/// Owned by us, writable by nobody else.
fn is_ours(meta: &fs::Metadata) -> bool {
    meta.uid() == geteuid().as_raw() && meta.permissions().mode() & 0o022 == 0
}

fn seal(code: &[u8], engine: &Engine, class: EngineClass, digest: Digest) -> [u8; 32] {
    Sha256::new()
        .chain_update(digest.as_bytes())
        .chain_update(compatibility(engine).to_le_bytes())
        .chain_update(class.as_str())
        .chain_update(code)
        .finalize()
        .into()
}

/// What wasmtime hashes to tell whether code of one engine runs on another, as a number that is the same in every process.
fn compatibility(engine: &Engine) -> u64 {
    struct Fold(Sha256);
    impl Hasher for Fold {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
        fn finish(&self) -> u64 {
            let hash: [u8; 32] = self.0.clone().finalize().into();
            u64::from_le_bytes(*hash.first_chunk().unwrap_or(&[0; 8]))
        }
    }
    let mut fold = Fold(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut fold);
    fold.finish()
}

/// An error with its causes in one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut error = self.0;
        while let Some(cause) = error.source() {
            write!(f, ": {cause}")?;
            error = cause;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Allocation, Engines};
    use std::os::unix::fs::PermissionsExt;

    const WASM: &str = r#"(component
        (core module $m (func (export "f") (result i32) i32.const 42))
        (core instance $i (instantiate $m))
        (func (export "f") (result u32) (canon lift (core func $i "f"))))"#;

    struct Fixture {
        _dir: tempfile::TempDir,
        engines: Engines,
        cache: Cache,
        digest: Digest,
        path: PathBuf,
    }

    fn cached() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(&dir.path().join("code")).unwrap();
        let engines = Engines::new(Allocation::OnDemand).unwrap();
        let digest = Digest::of(WASM.as_bytes());
        let component = Component::new(&engines.pure, WASM).unwrap();
        cache.store(&component, EngineClass::Pure, digest);
        let path = cache.path(&engines.pure, EngineClass::Pure, digest);
        Fixture {
            _dir: dir,
            engines,
            cache,
            digest,
            path,
        }
    }

    impl Fixture {
        fn loads(&self) -> bool {
            self.cache
                .load(&self.engines.pure, EngineClass::Pure, self.digest)
                .is_some()
        }
    }

    #[test]
    fn gives_back_what_was_stored_to_its_owner_alone() {
        let fixture = cached();
        assert!(fixture.loads());
        assert_eq!(
            fs::metadata(&fixture.path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(
            fs::metadata(&fixture.cache.dir)
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert_eq!(
            fs::read_dir(&fixture.cache.dir).unwrap().count(),
            1,
            "no half-written file is left"
        );
    }

    #[test]
    fn changed_code_is_not_run() {
        let fixture = cached();
        let whole = fs::read(&fixture.path).unwrap();
        for at in [0, 20, 60, whole.len() / 2, whole.len() - 1] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            fs::write(&fixture.path, changed).unwrap();
            assert!(!fixture.loads(), "byte {at}");
        }
        for length in [0, 10, 16, 47, 48, whole.len() - 1] {
            fs::write(&fixture.path, &whole[..length]).unwrap();
            assert!(!fixture.loads(), "cut to {length}");
        }
        fs::write(&fixture.path, [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(!fixture.loads(), "longer");
        fs::write(&fixture.path, whole).unwrap();
        assert!(fixture.loads());
    }

    #[test]
    fn code_of_another_component_or_engine_is_not_run() {
        let fixture = cached();
        let other = Digest::of(b"other");
        fs::copy(
            &fixture.path,
            fixture
                .cache
                .path(&fixture.engines.pure, EngineClass::Pure, other),
        )
        .unwrap();
        assert!(
            fixture
                .cache
                .load(&fixture.engines.pure, EngineClass::Pure, other)
                .is_none()
        );
        let foreign = fixture.cache.path(
            &fixture.engines.effectful,
            EngineClass::Effectful,
            fixture.digest,
        );
        assert_ne!(foreign, fixture.path);
        fs::copy(&fixture.path, foreign).unwrap();
        assert!(
            fixture
                .cache
                .load(
                    &fixture.engines.effectful,
                    EngineClass::Effectful,
                    fixture.digest
                )
                .is_none()
        );
    }

    #[test]
    fn what_others_may_write_is_not_used() {
        let fixture = cached();
        fs::set_permissions(&fixture.path, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(!fixture.loads(), "file");
        fs::set_permissions(&fixture.path, fs::Permissions::from_mode(0o600)).unwrap();
        let aside = fixture.path.with_extension("aside");
        fs::rename(&fixture.path, &aside).unwrap();
        std::os::unix::fs::symlink(&aside, &fixture.path).unwrap();
        assert!(!fixture.loads(), "link");
        for mode in [0o770, 0o707, 0o777] {
            fs::set_permissions(&fixture.cache.dir, fs::Permissions::from_mode(mode)).unwrap();
            assert!(Cache::open(&fixture.cache.dir).is_none(), "folder {mode:o}");
        }
        fs::set_permissions(&fixture.cache.dir, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Cache::open(&fixture.cache.dir).is_some());
    }
}
