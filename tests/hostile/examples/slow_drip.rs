//! Reads a response from the address it is called with to its end, however long that takes. Its server sends a byte now and then.

#[cfg(target_family = "wasm")]
fn read(authority: String) -> String {
    use wasip2::http::{
        outgoing_handler::handle,
        types::{Fields, OutgoingRequest, Scheme},
    };
    let request = OutgoingRequest::new(Fields::new());
    if request.set_scheme(Some(&Scheme::Http)).is_err()
        || request.set_authority(Some(&authority)).is_err()
        || request.set_path_with_query(Some("/")).is_err()
    {
        return "not an address".into();
    }
    let response = match handle(request, None) {
        Ok(response) => response,
        Err(error) => return format!("{error:?}"),
    };
    response.subscribe().block();
    let Some(Ok(Ok(response))) = response.get() else {
        return "no response".into();
    };
    let Ok(body) = response.consume() else {
        return "no body".into();
    };
    let Ok(stream) = body.stream() else {
        return "no stream".into();
    };
    let mut total = 0;
    while let Ok(bytes) = stream.blocking_read(64 << 10) {
        total += bytes.len();
    }
    total.to_string()
}

#[cfg(not(target_family = "wasm"))]
fn read(authority: String) -> String {
    authority
}

ambit_hostile::guest!(read);
