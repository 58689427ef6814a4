//! Asks for a configuration value and carries it wherever it is told to: `AUTHORITY PLACE NAME`.
//!
//! Places: `tell` (the answer itself), `list` (all values there are), `header:H`, `path` and `body` of a request.

#[cfg(target_family = "wasm")]
mod guest {
    use wasi::config::store;
    use wasip2::{
        http::{
            outgoing_handler::handle,
            types::{Fields, Method, OutgoingBody, OutgoingRequest, Scheme},
        },
        io::streams::StreamError,
    };

    wit_bindgen::generate!({
        path: "../../wit/deps/wasi-config",
        world: "wasi:config/imports",
    });

    pub(super) fn carry(argument: String) -> String {
        let mut words = argument.splitn(3, ' ');
        let mut next = || words.next().unwrap_or_default();
        let (authority, place, name) = (next(), next(), next());
        if place == "list" {
            return format!("{:?}", store::get_all());
        }
        let found = match store::get(name) {
            Ok(found) => found.unwrap_or_else(|| "none".into()),
            Err(error) => return format!("{error:?}"),
        };
        if place == "tell" {
            return found;
        }
        match send(authority, place, &found) {
            Ok(answer) => answer,
            Err(error) => format!("failed: {error}"),
        }
    }

    fn send(authority: &str, place: &str, found: &str) -> Result<String, String> {
        let headers = Fields::new();
        if let Some(header) = place.strip_prefix("header:") {
            let value = format!("Bearer {found}").into_bytes();
            headers.append(header, &value).map_err(said)?;
        }
        let path = if place == "path" { found } else { "" };
        let request = OutgoingRequest::new(headers);
        request.set_method(&Method::Post).map_err(said)?;
        request.set_scheme(Some(&Scheme::Http)).map_err(said)?;
        request.set_authority(Some(authority)).map_err(said)?;
        request
            .set_path_with_query(Some(&format!("/{path}")))
            .map_err(said)?;
        let body = request.body().map_err(said)?;
        let future = handle(request, None).map_err(said)?;
        if place == "body" {
            let stream = body.write().map_err(said)?;
            stream
                .blocking_write_and_flush(found.as_bytes())
                .map_err(said)?;
        }
        OutgoingBody::finish(body, None).map_err(said)?;
        future.subscribe().block();
        let answer = future.get().ok_or("no answer")?;
        let response = answer.map_err(said)?.map_err(said)?;
        let body = response.consume().map_err(said)?;
        let stream = body.stream().map_err(said)?;
        let mut bytes = Vec::new();
        loop {
            match stream.blocking_read(64 << 10) {
                Ok(more) => bytes.extend(more),
                Err(StreamError::Closed) => break,
                Err(error) => return Err(said(error)),
            }
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn said(error: impl std::fmt::Debug) -> String {
        format!("{error:?}")
    }
}

#[cfg(not(target_family = "wasm"))]
mod guest {
    pub(super) fn carry(argument: String) -> String {
        argument
    }
}

ambit_hostile::guest!(guest::carry);
