//! Routes as data: what is served is a list that can be read, documented and walked by a test.

use ambit_types::{Error, ErrorKind};
use axum::{Router, routing::MethodRouter};

/// One route of one plane.
pub struct Route<S: 'static> {
    pub method: &'static str,
    /// In axum's notation: `{name}` is one segment, `{*name}` the rest.
    pub path: &'static str,
    /// One line for the reference.
    pub summary: &'static str,
    pub(crate) handler: fn() -> MethodRouter<S>,
}

/// A router of exactly these routes.
pub(crate) fn router<S: Clone + Send + Sync + 'static>(routes: &[Route<S>]) -> Router<S> {
    routes.iter().fold(Router::new(), |router, route| {
        router.route(route.path, (route.handler)())
    })
}

/// What to answer where a path has other methods; axum names them in `allow`.
pub(crate) fn wrong_method() -> Error {
    Error::new(
        ErrorKind::MethodNotAllowed,
        "this path has no such method; `allow` names those it has",
    )
}

/// The routes as a Markdown table.
#[must_use]
pub fn table<S>(routes: &[Route<S>]) -> String {
    let mut out = String::from("| method | path | what it does |\n|---|---|---|\n");
    for route in routes {
        out.push_str(&format!(
            "| {} | `{}` | {} |\n",
            route.method, route.path, route.summary
        ));
    }
    out
}

/// How many entries of a listing are asked for.
///
/// # Errors
/// None, or more than `most`.
pub(crate) fn page(limit: Option<u32>, usual: u32, most: u32) -> Result<u32, Error> {
    match limit.unwrap_or(usual) {
        limit if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(Error::invalid("limit", format!("expected 1 to {most}"))),
    }
}
