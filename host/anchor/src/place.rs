//! Where anchors are kept, under credentials that are not the database's: nothing there is ever replaced.

use std::{
    future::Future,
    io::{self, Write as _},
    path::{Path, PathBuf},
    pin::Pin,
};

/// A place that takes each number once.
pub trait Place: Send + Sync + std::fmt::Debug {
    /// Puts a note under its number, unless there is one.
    fn put<'a>(&'a self, number: i64, note: &'a str) -> Answer<'a, ()>;

    /// The note of a number.
    fn get(&self, number: i64) -> Answer<'_, Option<String>>;
}

/// What a place answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, PlaceError>> + Send + 'a>>;

/// Why a note is not there.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Somebody else signs there, or the database was put back to an older state: nothing can be added any more.
    #[error("another note is there under number {0}")]
    Taken(i64),
    /// May be tried again.
    #[error("the anchor store does not answer")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A folder with a file for each number.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// It is made when the first note is put.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Self { path }
    }

    fn file(&self, number: i64) -> PathBuf {
        self.path.join(name(number))
    }

    /// Written beside, and given its name when it is whole and on disk: a name that is taken is not given again.
    fn write(&self, number: i64, note: &str) -> io::Result<()> {
        // A folder that is not mounted looks like an empty one: only the first note may be the first.
        if number == 1 {
            std::fs::create_dir_all(&self.path)?;
        } else if !self.file(number - 1).exists() {
            let missing = format!("note {} is not in {}", number - 1, self.path.display());
            return Err(io::Error::other(missing));
        }
        let mut file = tempfile::Builder::new();
        #[cfg(unix)]
        file.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
        let mut file = file.tempfile_in(&self.path)?;
        file.write_all(note.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist_noclobber(self.file(number))?;
        std::fs::File::open(&self.path)?.sync_all()
    }

    fn read(&self, number: i64) -> io::Result<Option<String>> {
        match std::fs::read_to_string(self.file(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        }
    }
}

/// What a note is called wherever it is kept.
#[must_use]
pub fn name(number: i64) -> String {
    format!("{number:020}.anchor")
}

impl Place for Folder {
    fn put<'a>(&'a self, number: i64, note: &'a str) -> Answer<'a, ()> {
        let (folder, note) = (self.clone(), note.to_owned());
        Box::pin(blocking(
            move || {
                let written = folder.write(number, &note);
                match written {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        Ok(folder.read(number)?.is_some_and(|there| there == note))
                    }
                    written => written.map(|()| true),
                }
            },
            move |same| same.then_some(()).ok_or(PlaceError::Taken(number)),
        ))
    }

    fn get(&self, number: i64) -> Answer<'_, Option<String>> {
        let folder = self.clone();
        Box::pin(blocking(move || folder.read(number), Ok))
    }
}

async fn blocking<T: Send + 'static, U>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
    then: impl FnOnce(T) -> Result<U, PlaceError>,
) -> Result<U, PlaceError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| PlaceError::Unavailable(error.into()))?;
    then(done.map_err(|error| PlaceError::Unavailable(error.into()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_number_is_taken_once() {
        let folder = tempfile::tempdir().unwrap();
        let place = Folder::new(&folder.path().join("anchors"));
        assert_eq!(place.get(1).await.unwrap(), None);
        place.put(1, "one").await.unwrap();
        place.put(1, "one").await.unwrap();
        let other = place.put(1, "other").await;
        assert!(matches!(other, Err(PlaceError::Taken(1))), "{other:?}");
        assert_eq!(place.get(1).await.unwrap().as_deref(), Some("one"));
        let files = std::fs::read_dir(folder.path().join("anchors")).unwrap();
        assert_eq!(files.count(), 1, "nothing is left beside it");
        // A hole is never made: the folder is another one, or not mounted.
        let hole = place.put(3, "three").await;
        assert!(matches!(hole, Err(PlaceError::Unavailable(_))), "{hole:?}");
        place.put(2, "two").await.unwrap();
        place.put(3, "three").await.unwrap();
    }

    #[tokio::test]
    async fn a_place_that_cannot_be_written_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let put = Folder::new(&file).put(1, "one").await;
        assert!(matches!(put, Err(PlaceError::Unavailable(_))), "{put:?}");
    }
}
