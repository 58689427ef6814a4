//! Which tenant a host name belongs to.

/// Whose name it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub tenant: ambit_types::TenantId,
    /// The name that was matched, in its one canonical form.
    pub canonical_host: String,
}
