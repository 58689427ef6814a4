//! What statements take and give: values and rows, of either database.

use crate::{Result, StoreError, direct};
use ambit_ledger::Money;
use serde::de::DeserializeOwned;
use sqlx::{Row as _, postgres::PgRow, sqlite::SqliteRow};
use std::{str::FromStr, sync::Arc};

/// What a column can hold. A null has its column's type: PostgreSQL asks for it.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<Arc<str>>),
    Blob(Option<Arc<[u8]>>),
}

macro_rules! value_from {
    ($($type:ty, $value:ident => $to:expr;)*) => {$(
        impl From<$type> for Value {
            fn from($value: $type) -> Self {
                $to
            }
        }
    )*};
}

value_from! {
    i64, value => Self::Int(Some(value));
    Option<i64>, value => Self::Int(value);
    &str, value => Self::Text(Some(value.into()));
    &String, value => Self::Text(Some(value.as_str().into()));
    String, value => Self::Text(Some(value.into()));
    Arc<str>, value => Self::Text(Some(value));
    Option<String>, value => Self::Text(value.map(Into::into));
    &[u8], value => Self::Blob(Some(value.into()));
    Arc<[u8]>, value => Self::Blob(Some(value));
    crate::Digest, value => Self::Blob(Some(value.0.as_slice().into()));
    Option<crate::Digest>, value => Self::Blob(value.map(|digest| digest.0.as_slice().into()));
}

/// A row that knows which statement it came from. Columns are read by position, which is cheaper and no less clear beside the statement.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) statement: &'static str,
    pub(crate) inner: Inner,
}

#[derive(Debug)]
pub(crate) enum Inner {
    Sqlite(SqliteRow),
    Direct(Vec<rusqlite::types::Value>),
    Postgres(PgRow),
}

macro_rules! row_get {
    ($($name:ident: $type:ty;)*) => {$(
        pub(crate) fn $name(&self, column: usize) -> Result<$type> {
            match &self.inner {
                Inner::Sqlite(row) => row.try_get(column).map_err(|e| self.corrupt(column, e)),
                Inner::Direct(row) => direct::cell(row, column).map_err(|e| self.corrupt(column, e)),
                Inner::Postgres(row) => row.try_get(column).map_err(|e| self.corrupt(column, e)),
            }
        }
    )*};
}

impl Row {
    row_get! {
        int: i64;
        optional_int: Option<i64>;
        text: String;
        optional_text: Option<String>;
        blob: Vec<u8>;
        optional_blob: Option<Vec<u8>>;
    }

    /// A count or a size: never negative.
    pub(crate) fn unsigned(&self, column: usize) -> Result<u64> {
        u64::try_from(self.int(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn unsigned_32(&self, column: usize) -> Result<u32> {
        u32::try_from(self.int(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn parsed<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(
        &self,
        column: usize,
    ) -> Result<T> {
        self.text(column)?
            .parse()
            .map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, column: usize) -> Result<T> {
        serde_json::from_str(&self.text(column)?).map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&self, column: usize) -> Result<Option<T>> {
        let text = self.optional_text(column)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(|e| self.corrupt(column, e))
    }

    pub(crate) fn digest(&self, column: usize) -> Result<crate::Digest> {
        let bytes = self.blob(column)?;
        bytes
            .as_slice()
            .try_into()
            .map(crate::Digest)
            .map_err(|e: std::array::TryFromSliceError| self.corrupt(column, e))
    }

    /// Digests one after the other.
    pub(crate) fn digests(&self, column: usize) -> Result<Vec<crate::Digest>> {
        let bytes = self.blob(column)?;
        let digest = |part: &[u8]| Some(crate::Digest(part.try_into().ok()?));
        let digests: Option<Vec<_>> = bytes.chunks(32).map(digest).collect();
        digests.ok_or_else(|| self.corrupt(column, "it holds no digests"))
    }

    pub(crate) fn optional_digest(&self, column: usize) -> Result<Option<crate::Digest>> {
        match self.optional_blob(column)? {
            None => Ok(None),
            Some(_) => self.digest(column).map(Some),
        }
    }

    /// Never negative.
    pub(crate) fn money(&self, column: usize) -> Result<Money> {
        Money::from_nanos(self.int(column)?)
            .ok_or_else(|| self.corrupt(column, "a negative amount"))
    }

    pub(crate) fn corrupt(
        &self,
        column: usize,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> StoreError {
        StoreError::Corrupt {
            statement: self.statement,
            column,
            source: Arc::from(source.into()),
        }
    }
}

/// JSON text of a value that this crate defined or was given as JSON: it always has one.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::Invalid {
        what: "value",
        why: "has no JSON form",
    })
}
