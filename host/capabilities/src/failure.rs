//! Why a component gave no answer, whatever its kind.

use ambit_runtime::{CallError, ExecutorError};
use ambit_types::Error;

/// The component failed, as against answering that something is refused. Text in it is for the log.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// A spent limit, a trap, too many calls at once.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer breaks the contract of its kind.
    #[error("the component broke its contract: {0}")]
    Contract(String),
    /// The component's own `other`.
    #[error("the component failed: {0}")]
    Component(String),
}

impl From<ExecutorError> for Failure {
    fn from(error: ExecutorError) -> Self {
        Self::Call(error.into())
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Call(error) => error.into(),
            failure => Self::internal(failure),
        }
    }
}

/// Why a handle cannot be made from a component.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its imports cannot be satisfied, or it does not export what its kind must.
    #[error(transparent)]
    Link(#[from] ambit_runtime::LinkError),
    /// What it says of itself cannot be used, for example a tool's schema.
    #[error("{0}")]
    Description(String),
    /// It failed while being asked.
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        Self::internal(error)
    }
}
