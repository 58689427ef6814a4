//! Opens connections to the address it is called with and keeps every one, reading nothing. Answers how many it got before the
//! first was refused.

#[cfg(target_family = "wasm")]
fn hoard(authority: String) -> String {
    use wasip2::http::{
        outgoing_handler::handle,
        types::{Fields, OutgoingRequest, Scheme},
    };
    let mut kept = Vec::new();
    for n in 0..10_000 {
        let request = OutgoingRequest::new(Fields::new());
        let path = format!("/{n}");
        if request.set_scheme(Some(&Scheme::Http)).is_err()
            || request.set_authority(Some(&authority)).is_err()
            || request.set_path_with_query(Some(&path)).is_err()
        {
            return "not an address".into();
        }
        let response = match handle(request, None) {
            Ok(response) => response,
            Err(error) => return format!("{n} and then {error:?}"),
        };
        response.subscribe().block();
        match response.get() {
            Some(Ok(Ok(response))) => kept.push(response),
            other => return format!("{n} and then {other:?}"),
        }
    }
    format!("all {}", kept.len())
}

#[cfg(not(target_family = "wasm"))]
fn hoard(authority: String) -> String {
    authority
}

ambit_hostile::guest!(hoard);
